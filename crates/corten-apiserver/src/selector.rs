//! Label and field selectors: parsing their text and object forms, and matching objects.
//!
//! Pure. Which fields a resource can be selected by is told by the caller.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::object;

/// A label selector; the empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelSelector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    Absent,
    Greater(i64),
    Less(i64),
}

impl LabelSelector {
    /// Parses `a=b,c!=d,e in (x,y),f notin (z),g,!h`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut requirements = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (requirement, after) =
                requirement(rest).map_err(|error| format!("unable to parse requirement: {error}"))?;
            requirements.push(requirement);
            rest = after.trim_start();
            match rest.strip_prefix(',') {
                Some(after) => {
                    rest = after.trim_start();
                    if rest.is_empty() {
                        return Err("found '', expected: identifier after ','".to_owned());
                    }
                }
                None if rest.is_empty() => {}
                None => {
                    let found = match value(rest).0 {
                        "" => &rest[..1],
                        word => word,
                    };
                    return Err(format!("found '{found}', expected: ',' or 'end of string'"));
                }
            }
        }
        Ok(Self(requirements))
    }

    /// Reads the object form, `{matchLabels, matchExpressions}`. Null selects nothing, which is `None`.
    pub fn from_object(selector: &Value) -> Option<Self> {
        if selector.is_null() {
            return None;
        }
        let mut requirements = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            requirements.push(Requirement {
                key: key.clone(),
                test: Test::In(BTreeSet::from([value.as_str()?.to_owned()])),
            });
        }
        for expression in object::items(&selector["matchExpressions"]) {
            let values = || {
                object::strings(&expression["values"])
                    .into_iter()
                    .map(str::to_owned)
                    .collect()
            };
            let test = match expression["operator"].as_str()? {
                "In" => Test::In(values()),
                "NotIn" => Test::NotIn(values()),
                "Exists" => Test::Exists,
                "DoesNotExist" => Test::Absent,
                _ => return None,
            };
            requirements.push(Requirement {
                key: expression["key"].as_str()?.to_owned(),
                test,
            });
        }
        Some(Self(requirements))
    }

    /// Whether every object matches.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object's labels match.
    pub fn matches(&self, object: &Value) -> bool {
        self.matches_labels(object::at(object, &["metadata", "labels"]))
    }

    /// Whether a map of labels matches.
    pub fn matches_labels(&self, labels: &Value) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels[requirement.key.as_str()].as_str();
            match &requirement.test {
                Test::In(set) => value.is_some_and(|v| set.contains(v)),
                Test::NotIn(set) => value.is_none_or(|v| !set.contains(v)),
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
                Test::Greater(than) => value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v > *than),
                Test::Less(than) => value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v < *than),
            }
        })
    }
}

/// One requirement and the text after it.
fn requirement(text: &str) -> Result<(Requirement, &str), String> {
    if let Some(rest) = text.strip_prefix('!') {
        let (key, rest) = word(rest.trim_start())?;
        return Ok((
            Requirement {
                key: checked_key(key)?,
                test: Test::Absent,
            },
            rest,
        ));
    }
    let (key, rest) = word(text)?;
    let key = checked_key(key)?;
    let rest = rest.trim_start();
    let (test, rest) = if let Some(rest) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
        let (value, rest) = value(rest);
        (Test::In(BTreeSet::from([checked_value(value)?])), rest)
    } else if let Some(rest) = rest.strip_prefix("!=") {
        let (value, rest) = value(rest);
        (Test::NotIn(BTreeSet::from([checked_value(value)?])), rest)
    } else if let Some(rest) = rest.strip_prefix('>') {
        let (value, rest) = value(rest);
        (Test::Greater(number(value)?), rest)
    } else if let Some(rest) = rest.strip_prefix('<') {
        let (value, rest) = value(rest);
        (Test::Less(number(value)?), rest)
    } else if let Some(rest) = keyword(rest, "notin") {
        let (values, rest) = set(rest)?;
        (Test::NotIn(values), rest)
    } else if let Some(rest) = keyword(rest, "in") {
        let (values, rest) = set(rest)?;
        (Test::In(values), rest)
    } else if rest.is_empty() || rest.starts_with(',') {
        (Test::Exists, rest)
    } else {
        let (found, _) = value(rest);
        return Err(format!("found '{found}', expected: in, notin, =, ==, !=, gt, lt"));
    };
    Ok((Requirement { key, test }, rest))
}

fn word(text: &str) -> Result<(&str, &str), String> {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "-._/".contains(c)))
        .unwrap_or(text.len());
    if end == 0 {
        return Err(format!("found '{text}', expected: identifier"));
    }
    Ok(text.split_at(end))
}

fn value(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text
        .find(|c: char| "=!<>(),".contains(c) || c.is_whitespace())
        .unwrap_or(text.len());
    text.split_at(end)
}

fn keyword<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    let rest = text.strip_prefix(word)?;
    rest.starts_with([' ', '(']).then(|| rest.trim_start())
}

fn set(text: &str) -> Result<(BTreeSet<String>, &str), String> {
    let Some(rest) = text.strip_prefix('(') else {
        return Err(format!("found '{text}', expected: '('"));
    };
    let Some((inside, rest)) = rest.split_once(')') else {
        return Err("found '', expected: ',' or ')'".to_owned());
    };
    let values = inside
        .split(',')
        .map(|value| checked_value(value.trim()))
        .collect::<Result<_, _>>()?;
    Ok((values, rest))
}

fn number(text: &str) -> Result<i64, String> {
    text.parse()
        .map_err(|_| format!("for 'Gt', 'Lt' operators, the value must be an integer, not {text:?}"))
}

fn checked_key(key: &str) -> Result<String, String> {
    let (prefix, name) = key.rsplit_once('/').unwrap_or(("", key));
    let good = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    if name.len() > 63 || !good(name) || prefix.len() > 253 || prefix.contains('/') {
        return Err(format!(
            "invalid label key {key:?}: name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
        ));
    }
    Ok(key.to_owned())
}

fn checked_value(value: &str) -> Result<String, String> {
    let good = value.is_empty()
        || value.len() <= 63
            && value.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
            && value.starts_with(|c: char| c.is_ascii_alphanumeric())
            && value.ends_with(|c: char| c.is_ascii_alphanumeric());
    if good {
        Ok(value.to_owned())
    } else {
        Err(format!(
            "values[0]: Invalid value: {value:?}: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
        ))
    }
}

/// A field selector; the empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldSelector(Vec<FieldTest>);

#[derive(Clone, Debug, PartialEq)]
struct FieldTest {
    path: String,
    equal: bool,
    value: String,
}

impl FieldSelector {
    /// Parses `metadata.name=a,spec.nodeName!=b`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tests = Vec::new();
        for term in text.split(',').map(str::trim).filter(|term| !term.is_empty()) {
            let (path, equal, value) = if let Some((path, value)) = term.split_once("!=") {
                (path, false, value)
            } else if let Some((path, value)) = term.split_once("==") {
                (path, true, value)
            } else if let Some((path, value)) = term.split_once('=') {
                (path, true, value)
            } else {
                return Err(format!("invalid selector: '{text}'; can't understand '{term}'"));
            };
            tests.push(FieldTest {
                path: path.trim().to_owned(),
                equal,
                value: value.trim().to_owned(),
            });
        }
        Ok(Self(tests))
    }

    /// Whether every object matches.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// The first field of the selector that is not among the supported ones.
    pub fn unsupported(&self, supported: &dyn Fn(&str) -> bool) -> Option<&str> {
        self.0
            .iter()
            .map(|test| test.path.as_str())
            .find(|path| !supported(path))
    }

    /// The value that a field must have, when the selector asks for exactly one.
    pub fn exact(&self, path: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|test| test.equal && test.path == path)
            .map(|test| test.value.as_str())
    }

    /// Whether an object matches. An absent field has the empty value; numbers and booleans compare as they are written.
    pub fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|test| {
            let found = test.path.split('.').fold(object, |value, key| &value[key]);
            let found = match found {
                Value::String(text) => text.clone(),
                Value::Null if matches!(test.path.as_str(), "spec.unschedulable" | "spec.hostNetwork") => {
                    "false".to_owned()
                }
                Value::Null => String::new(),
                other => other.to_string(),
            };
            (found == test.value) == test.equal
        })
    }
}

/// Both kinds of selector of one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector {
    /// By label.
    pub labels: LabelSelector,
    /// By field.
    pub fields: FieldSelector,
}

impl Selector {
    /// Whether an object matches both.
    pub fn matches(&self, object: &Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }

    /// Whether every object matches.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(selector: &str, labels: Value, expect: bool) {
        let selector = LabelSelector::parse(selector).expect("the selector is well formed");
        assert_eq!(selector.matches(&json!({"metadata": {"labels": labels}})), expect);
    }

    #[test]
    fn label_selectors_select() {
        check("", json!({}), true);
        check("a=b", json!({"a": "b"}), true);
        check("a == b , c!=d", json!({"a": "b"}), true);
        check("a=b,c!=d", json!({"a": "b", "c": "d"}), false);
        check("a in (x, y),b notin (z)", json!({"a": "y"}), true);
        check("a in (x,y)", json!({}), false);
        check("a,!b", json!({"a": ""}), true);
        check("a,!b", json!({"a": "", "b": ""}), false);
        check("n>3,n<5", json!({"n": "4"}), true);
        check("example.com/in=in", json!({"example.com/in": "in"}), true);
    }

    #[test]
    fn bad_label_selectors_are_refused() {
        for bad in ["a=b,", "=b", "a in x", "a in (x", "a b", "a=b c", "a=-", "-a"] {
            assert!(LabelSelector::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn field_selectors_select() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n"}});
        for (selector, expect) in [
            ("metadata.name=p", true),
            ("metadata.name!=p", false),
            ("spec.nodeName==n,status.phase!=Running", true),
            ("spec.nodeName=", false),
            ("status.podIP=", true),
        ] {
            let parsed = FieldSelector::parse(selector).expect("the selector is well formed");
            assert_eq!(parsed.matches(&pod), expect, "{selector}");
        }
        assert!(FieldSelector::parse("x").is_err());
    }
}
