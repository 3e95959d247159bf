//! What is left out of messages: other namespaces, and what the user does not want to hear.

use crate::message::Message;

/// A code that is not to be said of some objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// The code.
    pub code: String,
    /// `Kind namespace/name` or `Kind name.namespace`; `*` stands for anything.
    pub objects: String,
}

/// Why a text is no suppression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not CODE=KIND NAME.NAMESPACE, for example \"IST0103=Pod *.testing\"")]
pub struct SuppressionError(String);

impl std::str::FromStr for Suppression {
    type Err = SuppressionError;

    fn from_str(text: &str) -> Result<Suppression, SuppressionError> {
        let parts: Vec<&str> = text.split('=').collect();
        match parts[..] {
            [code, objects] if !code.is_empty() && !objects.is_empty() => Ok(Suppression {
                code: code.to_owned(),
                objects: objects.to_owned(),
            }),
            _ => Err(SuppressionError(text.to_owned())),
        }
    }
}

impl Suppression {
    /// Whether a message is left out by it.
    pub fn covers(&self, message: &Message) -> bool {
        let object = &message.object;
        let dotted = match object.namespace.as_str() {
            "" => format!("{} {}", object.kind, object.name),
            namespace => format!("{} {}.{namespace}", object.kind, object.name),
        };
        let names = [message.origin(), dotted];
        self.code == message.code.0 && names.iter().any(|name| glob(&self.objects, name))
    }
}

/// Whether a message is about something of a namespace, or of no namespace. A namespace itself is of itself.
pub fn is_of_namespace(message: &Message, namespace: &str) -> bool {
    let own = match message.object.kind.as_str() {
        "Namespace" => &message.object.name,
        _ => &message.object.namespace,
    };
    own.is_empty() || own == namespace
}

/// Whether a text is of a form, where `*` stands for anything.
fn glob(form: &str, text: &str) -> bool {
    let Some((first, rest)) = form.split_once('*') else {
        return form == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            Some(at) => text = text.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_matched() {
        for (form, text, expected) in [
            ("Pod a", "Pod a", true),
            ("Pod a", "Pod ab", false),
            ("Pod *", "Pod n/a", true),
            ("* n/*", "Pod n/a", true),
            ("*b*b", "ab", false),
            ("*b*b", "abb", true),
            ("*", "", true),
        ] {
            assert_eq!(glob(form, text), expected, "{form} {text}");
        }
    }

    #[test]
    fn suppressions_are_read() {
        let good: Suppression = "IST0103=Pod *.testing".parse().expect("a suppression");
        assert_eq!(
            (good.code.as_str(), good.objects.as_str()),
            ("IST0103", "Pod *.testing")
        );
        for bad in ["", "IST0103", "IST0103=", "a=b=c"] {
            assert!(bad.parse::<Suppression>().is_err(), "{bad}");
        }
    }
}
