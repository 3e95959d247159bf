//! Named formats (`format.dns1123Label().validate(self)`): nothing when the text has the format, else what is wrong.

use super::{Declaration, Out, STRING_TYPE, Type, as_opaque, declare, no_overload, opaque, string, strings};
use crate::validate::{is_dns_label, is_dns_subdomain, matches_format};
use cel::Value;
use cel::objects::{Opaque, OptionalValue};
use std::sync::Arc;

pub(super) fn declarations() -> Vec<Declaration> {
    let format = Type::new_opaque_type("kubernetes.NamedFormat");
    vec![
        declare!(fn "format.named"(STRING_TYPE) => named),
        declare!(method "validate"(format, STRING_TYPE) => validate),
        declare!(fn "format.dns1123Label"() => dns1123_label),
        declare!(fn "format.dns1123Subdomain"() => dns1123_subdomain),
        declare!(fn "format.dns1035Label"() => dns1035_label),
        declare!(fn "format.qualifiedName"() => qualified_name),
        declare!(fn "format.dns1123LabelPrefix"() => dns1123_label_prefix),
        declare!(fn "format.dns1123SubdomainPrefix"() => dns1123_subdomain_prefix),
        declare!(fn "format.dns1035LabelPrefix"() => dns1035_label_prefix),
        declare!(fn "format.labelValue"() => label_value),
        declare!(fn "format.uri"() => uri),
        declare!(fn "format.uuid"() => uuid),
        declare!(fn "format.byte"() => byte),
        declare!(fn "format.date"() => date),
        declare!(fn "format.datetime"() => datetime),
    ]
}

const NAMES: [&str; 13] = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

#[derive(Debug, PartialEq, Eq)]
struct Format(&'static str);

impl Opaque for Format {
    fn runtime_type_name(&self) -> &str {
        "kubernetes.NamedFormat"
    }
}

fn optional(value: Option<Value>) -> Value {
    Value::Opaque(Arc::new(value.map_or_else(OptionalValue::none, OptionalValue::of)))
}

fn named(arguments: &[Value]) -> Out {
    let [name] = arguments else {
        return Err(no_overload("format.named"));
    };
    let found = NAMES.into_iter().find(|known| *known == string(name));
    Ok(optional(found.map(|name| opaque(Format(name)))))
}

macro_rules! constants {
    ($($function:ident => $name:literal),*) => {
        $(fn $function(_: &[Value]) -> Out {
            Ok(opaque(Format($name)))
        })*
    };
}

constants!(
    dns1123_label => "dns1123Label",
    dns1123_subdomain => "dns1123Subdomain",
    dns1035_label => "dns1035Label",
    qualified_name => "qualifiedName",
    dns1123_label_prefix => "dns1123LabelPrefix",
    dns1123_subdomain_prefix => "dns1123SubdomainPrefix",
    dns1035_label_prefix => "dns1035LabelPrefix",
    label_value => "labelValue",
    uri => "uri",
    uuid => "uuid",
    byte => "byte",
    date => "date",
    datetime => "datetime"
);

fn validate(arguments: &[Value]) -> Out {
    let [format, text] = arguments else {
        return Err(no_overload("validate"));
    };
    let (name, text) = (as_opaque::<Format>(format, "validate")?.0, string(text));
    let problem = (!holds(name, text)).then(|| format!("must be a valid {name}"));
    Ok(optional(problem.map(|problem| strings([problem]))))
}

fn holds(name: &str, text: &str) -> bool {
    // A prefix may end in a dash, as what follows will complete it.
    let prefix = |check: fn(&str) -> bool| check(text.strip_suffix('-').unwrap_or(text));
    let dns1035 = |text: &str| is_dns_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase());
    match name {
        "dns1123Label" => is_dns_label(text),
        "dns1123Subdomain" => is_dns_subdomain(text),
        "dns1035Label" => dns1035(text),
        "dns1123LabelPrefix" => prefix(is_dns_label),
        "dns1123SubdomainPrefix" => prefix(is_dns_subdomain),
        "dns1035LabelPrefix" => prefix(dns1035),
        "labelValue" => text.is_empty() || is_name(text),
        "qualifiedName" => match text.split_once('/') {
            Some((domain, name)) => is_dns_subdomain(domain) && is_name(name),
            None => is_name(text),
        },
        other => matches_format(other, text),
    }
}

/// The name part of a label or annotation key, which is also what a label's value must look like.
fn is_name(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && edge(text.chars().next())
        && edge(text.chars().next_back())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}
