//! Templates of JSON paths: text, `{.path}`, `{"literal"}`, `{range .items[*]}...{end}`.

use std::str::FromStr;

use serde_json::Value;

use super::{Path, PathError, closing, plain, quoted};

/// A parsed template.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Vec<Part>);

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// What stands between braces is no path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A brace that nothing closes.
    #[error("{{{0} is not closed")]
    Open(String),
    /// A range to the end of the text.
    #[error("{{range}} has no {{end}}")]
    RangeWithoutEnd,
    /// An end of nothing.
    #[error("{{end}} without {{range}}")]
    EndWithoutRange,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Path(Path),
    Range(Path, Template),
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let mut rest = text;
        parse(&mut rest, false)
    }
}

/// Parses until the end, or until the `{end}` of a range.
fn parse(rest: &mut &str, in_range: bool) -> Result<Template, TemplateError> {
    let mut parts = Vec::new();
    loop {
        let Some(open) = rest.find('{') else {
            if in_range {
                return Err(TemplateError::RangeWithoutEnd);
            }
            if !rest.is_empty() {
                parts.push(Part::Text((*rest).to_owned()));
            }
            return Ok(Template(parts));
        };
        if open > 0 {
            parts.push(Part::Text(rest[..open].to_owned()));
        }
        let inner = &rest[open + 1..];
        let close = closing(inner, '}').ok_or_else(|| TemplateError::Open(inner.to_owned()))?;
        let expression = inner[..close].trim();
        *rest = &inner[close + 1..];
        if expression == "end" {
            return if in_range {
                Ok(Template(parts))
            } else {
                Err(TemplateError::EndWithoutRange)
            };
        }
        if let Some(path) = expression.strip_prefix("range ") {
            let path = path.parse()?;
            parts.push(Part::Range(path, parse(rest, true)?));
        } else if let Some(literal) = quoted(expression) {
            parts.push(Part::Text(unescape(literal)));
        } else {
            parts.push(Part::Path(expression.parse()?));
        }
    }
}

impl Template {
    /// The template filled in from a value.
    pub fn render(&self, value: &Value) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Path(path) => {
                    let found: Vec<String> = path.find(value).into_iter().map(plain).collect();
                    text.push_str(&found.join(" "));
                }
                Part::Range(path, body) => text.extend(path.find(value).into_iter().map(|item| body.render(item))),
            }
        }
        text
    }
}

fn unescape(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\t", "\t").replace("\\\"", "\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(template: &str, expect: &str) {
        let value = json!({
            "kind": "List",
            "items": [{"metadata": {"name": "a", "labels": {"x.y/z": "1"}}, "n": 1, "ok": true}, {"metadata": {"name": "b"}, "n": 2}],
        });
        let template: Template = template.parse().expect("a template");
        assert_eq!(template.render(&value), expect);
    }

    #[test]
    fn templates() {
        check("{.kind}", "List");
        check("{.items[0].n}{.items[0].n}", "11");
        check("is {.kind}!", "is List!");
        check("{.items[*].metadata.name}", "a b");
        check("{.items[0].metadata.name}{\"\\n\"}", "a\n");
        check("{.items[-1:].n}", "2");
        check("{range .items[*]}{.metadata.name}={.n};{end}", "a=1;b=2;");
        check("{.items[?(@.n==2)].metadata.name}", "b");
        check("{.items[?(@.metadata.name!=\"b\")].n}", "1");
        check("{.items[?(@.n>1)].n}", "2");
        check("{.items[?(@.ok)].n}", "1");
        check("{..name}", "a b");
        check("{.items[0].metadata.labels.x\\.y/z}", "1");
        check("{.items[0].metadata.labels['x.y/z']}", "1");
        check("{.items[0].metadata}", r#"{"labels":{"x.y/z":"1"},"name":"a"}"#);
        check("{.absent}", "");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for bad in ["{.a", "{a}", "{range .a}{.b}", "{end}", "{.a[}", "{.a[?(b)]}"] {
            assert!(bad.parse::<Template>().is_err(), "{bad}");
        }
    }
}
