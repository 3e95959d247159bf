//! Values as YAML, in the form that kubectl prints: block style, keys in order, strings plain where they can be.

use serde_json::Value;

/// A value as a YAML document, with its final line end.
pub fn document(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(&mut out, value, 0),
        Value::Array(items) if !items.is_empty() => block(&mut out, value, 0),
        scalar => inline(&mut out, scalar, 0),
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

/// The lines of a filled map or list.
fn block(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) => {
            for (number, (key, value)) in map.iter().enumerate() {
                // The first key stands where the caller left off: after "- ", or at the line's start.
                if number > 0 {
                    out.push_str(&" ".repeat(indent));
                }
                out.push_str(&scalar(key, indent));
                out.push(':');
                match value {
                    Value::Object(inner) if !inner.is_empty() => {
                        out.push('\n');
                        out.push_str(&" ".repeat(indent + 2));
                        block(out, value, indent + 2);
                    }
                    // A list stands as far left as its key.
                    Value::Array(inner) if !inner.is_empty() => {
                        out.push('\n');
                        out.push_str(&" ".repeat(indent));
                        block(out, value, indent);
                    }
                    other => {
                        out.push(' ');
                        inline(out, other, indent + 2);
                    }
                }
            }
        }
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    out.push_str(&" ".repeat(indent));
                }
                out.push_str("- ");
                match item {
                    Value::Object(inner) if !inner.is_empty() => block(out, item, indent + 2),
                    Value::Array(inner) if !inner.is_empty() => block(out, item, indent + 2),
                    other => inline(out, other, indent + 2),
                }
            }
        }
        _ => {}
    }
}

/// A value that stands behind its key or dash, with the line end.
fn inline(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => out.push_str(&scalar(text, indent)),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
    }
    out.push('\n');
}

/// A string: plain, quoted, or over several lines.
fn scalar(text: &str, indent: usize) -> String {
    let control = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}');
    if text.chars().any(control) {
        return double_quoted(text);
    }
    if text.contains('\n') {
        return literal(text, indent);
    }
    if is_other_type(text) {
        return double_quoted(text);
    }
    if is_plain(text) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

fn double_quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// `|` and the lines as they are.
fn literal(text: &str, indent: usize) -> String {
    // A leading space would be taken for indentation.
    if text.starts_with([' ', '\n']) {
        return double_quoted(text);
    }
    let body = text.trim_end_matches('\n');
    let chomp = match text.len() - body.len() {
        0 => "-",
        1 => "",
        _ => "+",
    };
    let pad = " ".repeat(indent.max(2));
    let mut out = format!("|{chomp}");
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            out.push_str(&pad);
            out.push_str(line);
        }
    }
    out
}

/// Whether a reader would take the plain text for something else than a string.
fn is_other_type(text: &str) -> bool {
    const WORDS: [&str; 12] = [
        "null", "~", "true", "false", "yes", "no", "on", "off", "y", "n", "=", "<<",
    ];
    let lower = text.to_ascii_lowercase();
    let number = || {
        let digits = lower.trim_start_matches(['+', '-']).replace('_', "");
        let based = digits.starts_with("0x") || digits.starts_with("0o") || digits.starts_with("0b");
        let begins = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        begins && (based || digits.parse::<f64>().is_ok() || [".inf", ".nan"].contains(&digits.as_str()))
    };
    // 2001-01-01 and 12:30 are types of their own in YAML 1.1.
    let date_like = || {
        let begin: Vec<char> = text.chars().take(5).collect();
        begin.len() == 5 && begin[..4].iter().all(char::is_ascii_digit) && begin[4] == '-'
    };
    let sexagesimal = || text.contains(':') && text.chars().all(|c| c.is_ascii_digit() || matches!(c, ':' | '.' | '_'));
    text.is_empty() || WORDS.contains(&lower.as_str()) || number() || date_like() || sexagesimal()
}

/// Whether a string needs no quotes.
fn is_plain(text: &str) -> bool {
    let starts_badly = text.starts_with([
        '[', ']', '{', '}', ',', '#', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`', ' ',
    ]);
    let indicator = ["-", "?", ":"]
        .iter()
        .any(|mark| text == *mark || text.starts_with(&format!("{mark} ")));
    let document_mark = text.starts_with("---") || text.starts_with("...");
    let inside = text.contains(": ") || text.contains(" #") || text.ends_with(':') || text.ends_with(' ');
    !(starts_badly || indicator || document_mark || inside)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(value: &Value, expected: &str) {
        assert_eq!(document(value), expected);
    }

    #[test]
    fn lists_stand_under_their_key() {
        let value = json!({"a": {"b": [{"c": 1, "d": [1, "x"]}, "s"]}, "e": {}, "f": []});
        check(
            &value,
            "a:\n  b:\n  - c: 1\n    d:\n    - 1\n    - x\n  - s\ne: {}\nf: []\n",
        );
    }

    #[test]
    fn strings_are_quoted_where_they_must() {
        for (text, expected) in [
            ("plain text", "plain text"),
            ("", "\"\""),
            ("true", "\"true\""),
            ("1.5", "\"1.5\""),
            ("2024-01-01T00:00:00Z", "\"2024-01-01T00:00:00Z\""),
            ("0x1F", "\"0x1F\""),
            ("1.2.3", "1.2.3"),
            ("a: b", "'a: b'"),
            ("it's", "it's"),
            ("*", "'*'"),
            ("- x", "'- x'"),
            ("-x", "-x"),
            ("tab\t", "\"tab\\t\""),
            ("http://a:80", "http://a:80"),
        ] {
            check(&json!({ "k": text }), &format!("k: {expected}\n"));
        }
    }

    #[test]
    fn lines_stay_lines() {
        check(&json!({"a": {"k": "one\ntwo\n"}}), "a:\n  k: |\n    one\n    two\n");
        check(&json!({"k": "one\n\ntwo"}), "k: |-\n  one\n\n  two\n");
        check(&json!(["one\ntwo"]), "- |-\n  one\n  two\n");
    }
}
