//! Envoy's format strings: `%REQ(:AUTHORITY)%` and the like.

use corten_envoy::envoy::config::core::v3::{
    SubstitutionFormatString, data_source, substitution_format_string::Format,
};
use corten_envoy::google::protobuf::{Struct, value::Kind};

use crate::facts::Facts;

/// A format with what it asks for filled in.
pub(crate) fn substitution(format: &SubstitutionFormatString, facts: &Facts) -> String {
    match &format.format {
        None => String::new(),
        Some(Format::TextFormat(text)) => filled(text, facts, !format.omit_empty_values),
        Some(Format::TextFormatSource(source)) => match &source.specifier {
            Some(data_source::Specifier::InlineString(text)) => filled(text, facts, !format.omit_empty_values),
            Some(data_source::Specifier::InlineBytes(bytes)) => {
                filled(&String::from_utf8_lossy(bytes), facts, !format.omit_empty_values)
            }
            _ => String::new(),
        },
        Some(Format::JsonFormat(structure)) => json(structure, facts),
    }
}

fn json(structure: &Struct, facts: &Facts) -> String {
    let fields = structure.fields.iter().map(|(key, value)| {
        let text = match &value.kind {
            Some(Kind::StringValue(text)) => filled(text, facts, true),
            _ => String::new(),
        };
        (key.clone(), serde_json::Value::String(text))
    });
    serde_json::Value::Object(fields.collect()).to_string()
}

/// A text with its operators filled in. What nobody knows is `-`, or nothing.
pub(crate) fn filled(text: &str, facts: &Facts, dash: bool) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let Some((operator, after)) = after.split_once('%') else {
            out.push('%');
            rest = after;
            continue;
        };
        match value(operator, facts) {
            Some(value) => out.push_str(&value),
            None if dash => out.push('-'),
            None => {}
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

fn value(operator: &str, facts: &Facts) -> Option<String> {
    let (name, arguments) = match operator.split_once('(') {
        Some((name, rest)) => (name, rest.rsplit_once(')').map_or(rest, |(inner, _)| inner)),
        None => (operator, ""),
    };
    let found = |text: String| (!text.is_empty()).then_some(text);
    match name {
        "REQ" => arguments
            .split('?')
            .find_map(|header| facts.header(&header.to_ascii_lowercase())),
        "DOWNSTREAM_PEER_URI_SAN" => found(facts.peer_uris().join(",")),
        "DOWNSTREAM_LOCAL_ADDRESS" => Some(facts.destination.to_string()),
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Some(facts.destination.ip().to_string()),
        "DOWNSTREAM_LOCAL_PORT" => Some(facts.destination.port().to_string()),
        "DOWNSTREAM_REMOTE_ADDRESS" => Some(format!("{}:{}", facts.remote, facts.source.port())),
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Some(facts.remote.to_string()),
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => Some(facts.source.to_string()),
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => Some(facts.source.ip().to_string()),
        "REQUESTED_SERVER_NAME" => found(facts.server_name.clone()),
        "PROTOCOL" => facts.request.as_ref().map(|_| "HTTP/1.1".to_owned()),
        "FILTER_STATE" => {
            let key = arguments.split(':').next().unwrap_or_default();
            facts.state.get(key).map(|noted| noted.value.clone())
        }
        "DYNAMIC_METADATA" => {
            let mut parts = arguments.split(':');
            let mut found = facts.metadata.get(parts.next().unwrap_or_default())?;
            for part in parts {
                found = found.get(part)?;
            }
            Some(found.as_str().map_or_else(|| found.to_string(), str::to_owned))
        }
        _ => None,
    }
}
