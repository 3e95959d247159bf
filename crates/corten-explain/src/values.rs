//! Matching of what filters write down about a request: structures of values, such as the claims of a token.

use corten_envoy::envoy::r#type::matcher::v3::{
    DoubleMatcher, ListMatcher, MetadataMatcher, ValueMatcher, double_matcher, list_matcher,
    metadata_matcher::path_segment::Segment, value_matcher::MatchPattern,
};
use corten_envoy::google::protobuf::{Struct, Value as ProtoValue, value::Kind};
use serde_json::{Map, Value};

use crate::strings::{Judged, say, string_matches};

/// A structure as JSON.
pub(crate) fn json_of(structure: &Struct) -> Map<String, Value> {
    structure
        .fields
        .iter()
        .map(|(key, value)| (key.clone(), json_value(value)))
        .collect()
}

fn json_value(value: &ProtoValue) -> Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::NumberValue(number)) => serde_json::Number::from_f64(*number).map_or(Value::Null, Value::Number),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::BoolValue(truth)) => Value::Bool(*truth),
        Some(Kind::StructValue(structure)) => Value::Object(json_of(structure)),
        Some(Kind::ListValue(list)) => Value::Array(list.values.iter().map(json_value).collect()),
    }
}

/// Judges what is written down under the matcher's filter and path.
pub(crate) fn judge_metadata(matcher: &MetadataMatcher, metadata: &Map<String, Value>) -> Judged {
    let mut path = String::new();
    let mut found = metadata.get(&matcher.filter);
    for segment in &matcher.path {
        let Some(Segment::Key(key)) = &segment.segment else {
            continue;
        };
        path.push_str(&format!("[{key}]"));
        found = found.and_then(|value| value.get(key));
    }
    let name = format!("metadata {}{path}", matcher.filter);
    let Some(value) = &matcher.value else {
        return Judged::new(false, format!("{name} is matched with nothing"));
    };
    match matches(value, found) {
        Err(why) => Judged::new(false, why),
        Ok(yes) => {
            let seen = found.map_or_else(|| "missing".to_owned(), Value::to_string);
            let inverted = match (matcher.invert, yes) {
                (true, true) => ", which it must not",
                (true, false) => ", as it must not",
                (false, _) => "",
            };
            Judged::new(
                yes != matcher.invert,
                format!("{name} {seen} {}{inverted}", words(value, yes)),
            )
        }
    }
}

fn words(matcher: &ValueMatcher, yes: bool) -> String {
    let is = if yes { "is" } else { "is not" };
    match &matcher.match_pattern {
        None => "is matched with nothing".to_owned(),
        Some(MatchPattern::NullMatch(_)) => format!("{is} null"),
        Some(MatchPattern::DoubleMatch(double)) => match &double.match_pattern {
            Some(double_matcher::MatchPattern::Exact(number)) => format!("{is} {number}"),
            Some(double_matcher::MatchPattern::Range(range)) => format!("{is} in {}..{}", range.start, range.end),
            None => format!("{is} a number"),
        },
        Some(MatchPattern::StringMatch(string)) => say(string, yes),
        Some(MatchPattern::BoolMatch(truth)) => format!("{is} {truth}"),
        Some(MatchPattern::PresentMatch(true)) => format!("{is} there"),
        Some(MatchPattern::PresentMatch(false)) => format!("{is} missing"),
        Some(MatchPattern::ListMatch(list)) => match &list.match_pattern {
            Some(list_matcher::MatchPattern::OneOf(inner)) => {
                format!("{is} a list with one that {}", words(inner, true))
            }
            None => format!("{is} a list"),
        },
        Some(MatchPattern::OrMatch(or)) => {
            let glue = if yes { " or " } else { " and " };
            or.value_matchers
                .iter()
                .map(|inner| words(inner, yes))
                .collect::<Vec<_>>()
                .join(glue)
        }
    }
}

fn matches(matcher: &ValueMatcher, value: Option<&Value>) -> Result<bool, String> {
    Ok(match &matcher.match_pattern {
        None => return Err("a matcher of values says nothing".to_owned()),
        Some(MatchPattern::NullMatch(_)) => matches!(value, Some(Value::Null)),
        Some(MatchPattern::DoubleMatch(double)) => value
            .and_then(Value::as_f64)
            .is_some_and(|number| number_matches(double, number)),
        Some(MatchPattern::StringMatch(string)) => match value {
            Some(Value::String(text)) => string_matches(string, text)?,
            _ => false,
        },
        Some(MatchPattern::BoolMatch(truth)) => value.and_then(Value::as_bool) == Some(*truth),
        Some(MatchPattern::PresentMatch(present)) => value.is_some() == *present,
        Some(MatchPattern::ListMatch(list)) => list_matches(list, value)?,
        Some(MatchPattern::OrMatch(or)) => {
            for inner in &or.value_matchers {
                if matches(inner, value)? {
                    return Ok(true);
                }
            }
            false
        }
    })
}

fn number_matches(matcher: &DoubleMatcher, number: f64) -> bool {
    match &matcher.match_pattern {
        // Envoy compares numbers bit by bit too.
        #[expect(clippy::float_cmp, reason = "an exact number is meant exactly")]
        Some(double_matcher::MatchPattern::Exact(wanted)) => number == *wanted,
        Some(double_matcher::MatchPattern::Range(range)) => range.start <= number && number < range.end,
        None => false,
    }
}

fn list_matches(matcher: &ListMatcher, value: Option<&Value>) -> Result<bool, String> {
    let (Some(list_matcher::MatchPattern::OneOf(inner)), Some(Value::Array(values))) = (&matcher.match_pattern, value)
    else {
        return Ok(false);
    };
    for value in values {
        if matches(inner, Some(value))? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(matcher: &Value, expected: bool) {
        let matcher: MetadataMatcher = corten_envoy::message_from_json(matcher).unwrap();
        let seen = json!({ "jwt": { "payload": {
            "iss": "a", "n": 3, "ok": true, "nil": null, "groups": ["x", "y"], "deep": { "roles": [["p"], ["q"]] },
        }}});
        let judged = judge_metadata(&matcher, seen.as_object().unwrap());
        assert_eq!(judged.yes, expected, "{}", judged.why);
    }

    fn at(path: &[&str], value: Value) -> Value {
        let path: Vec<Value> = path.iter().map(|key| json!({ "key": key })).collect();
        json!({ "filter": "jwt", "path": path, "value": value })
    }

    #[test]
    fn values_of_every_kind() {
        let exact = |text: &str| json!({ "stringMatch": { "exact": text } });
        let list = |inner: Value| json!({ "listMatch": { "oneOf": inner } });
        check(&at(&["payload", "iss"], exact("a")), true);
        check(&at(&["payload", "iss"], exact("b")), false);
        check(&at(&["payload", "iss", "deeper"], exact("a")), false);
        check(&at(&["payload", "n"], json!({ "doubleMatch": { "exact": 3.0 } })), true);
        check(
            &at(
                &["payload", "n"],
                json!({ "doubleMatch": { "range": { "start": 1.0, "end": 3.0 } } }),
            ),
            false,
        );
        check(&at(&["payload", "n"], exact("3")), false);
        check(&at(&["payload", "ok"], json!({ "boolMatch": true })), true);
        check(&at(&["payload", "nil"], json!({ "nullMatch": {} })), true);
        check(&at(&["payload", "none"], json!({ "nullMatch": {} })), false);
        check(&at(&["payload", "none"], json!({ "presentMatch": true })), false);
        check(&at(&["payload", "none"], json!({ "presentMatch": false })), true);
        check(&at(&["payload", "groups"], list(exact("y"))), true);
        check(&at(&["payload", "groups"], list(exact("z"))), false);
        check(&at(&["payload", "iss"], list(exact("a"))), false);
        check(&at(&["payload", "deep", "roles"], list(list(exact("q")))), true);
        let either = json!({ "orMatch": { "valueMatchers": [exact("a"), list(exact("a"))] } });
        check(&at(&["payload", "iss"], either), true);
        let mut inverted = at(&["payload", "iss"], exact("a"));
        inverted["invert"] = json!(true);
        check(&inverted, false);
    }
}
