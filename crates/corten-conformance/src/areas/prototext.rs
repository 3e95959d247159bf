//! Protobuf's text format, as far as configuration is written in it: read as the JSON of the same message.
//!
//! There is no schema here, so the names of fields tell maps, lists, durations and wrapped values apart.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Number, Value, json};

/// Fields that are maps.
const MAPS: [&str; 2] = ["proxy_metadata", "runtime_values"];

/// Reads a message.
pub(super) fn read(text: &str) -> Result<Value> {
    let mut tokens = tokens(text)?;
    tokens.reverse();
    let read = message(&mut tokens, None)?;
    Ok(Value::Object(read))
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Text(String),
    Word(String),
    Mark(char),
}

fn tokens(text: &str) -> Result<Vec<Token>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '"' | '\'' => {
                let mut text = String::new();
                let mut chars = rest.char_indices().skip(1);
                loop {
                    match chars.next().context("a text does not end")? {
                        (end, last) if last == first => {
                            found.push(Token::Text(text));
                            break end + 1;
                        }
                        (_, '\\') => text.push(match chars.next().context("a text does not end")?.1 {
                            'n' => '\n',
                            't' => '\t',
                            other => other,
                        }),
                        (_, other) => text.push(other),
                    }
                }
            }
            '{' | '}' | '[' | ']' | ':' | ',' | ';' | '<' | '>' => {
                found.push(Token::Mark(first));
                1
            }
            _ if first.is_whitespace() => first.len_utf8(),
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || "{}[]:,;<>#\"'".contains(c));
                let end = end.unwrap_or(rest.len());
                found.push(Token::Word(rest[..end].to_owned()));
                end
            }
        };
        rest = &rest[taken..];
    }
    Ok(found)
}

/// The fields until `end`; the tokens are in reverse.
fn message(tokens: &mut Vec<Token>, end: Option<char>) -> Result<Map<String, Value>> {
    let mut made = Map::new();
    loop {
        let name = match tokens.pop() {
            None if end.is_none() => return Ok(made),
            Some(Token::Mark(mark)) if Some(mark) == end => return Ok(made),
            Some(Token::Mark(',' | ';')) => continue,
            Some(Token::Word(name)) => name,
            other => bail!("a field is expected, not {other:?}"),
        };
        if tokens.last() == Some(&Token::Mark(':')) {
            tokens.pop();
        }
        let value = value(tokens, &name)?;
        let value = if MAPS.contains(&name.as_str()) {
            map(&value)?
        } else {
            value
        };
        let key = camel(&name);
        match (made.get_mut(&key), value) {
            (Some(Value::Object(map)), Value::Object(more)) if MAPS.contains(&name.as_str()) => map.extend(more),
            // A field that comes again is a list.
            (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
            (Some(Value::Array(list)), one) => list.push(one),
            (Some(known), one) => *known = json!([known.take(), one]),
            (None, value) => drop(made.insert(key, value)),
        }
    }
}

fn value(tokens: &mut Vec<Token>, field: &str) -> Result<Value> {
    Ok(match tokens.pop() {
        Some(Token::Text(text)) => json!(text),
        Some(Token::Word(word)) => match word.as_str() {
            "true" => json!(true),
            "false" => json!(false),
            word => match word.parse::<Number>() {
                Ok(number) => Value::Number(number),
                Err(_) => json!(word),
            },
        },
        Some(Token::Mark('[')) => {
            let mut list = Vec::new();
            loop {
                match tokens.last() {
                    Some(Token::Mark(']')) => break drop(tokens.pop()),
                    Some(Token::Mark(',')) => drop(tokens.pop()),
                    _ => list.push(value(tokens, field)?),
                }
            }
            Value::Array(list)
        }
        Some(Token::Mark(open @ ('{' | '<'))) => {
            let read = message(tokens, Some(if open == '{' { '}' } else { '>' }))?;
            let of = |key: &str| read.get(key).and_then(Value::as_i64);
            if read.len() == 1 && read.contains_key("value") {
                return Ok(read["value"].clone());
            }
            if !read.is_empty() && read.keys().all(|key| matches!(key.as_str(), "seconds" | "nanos")) {
                let (seconds, nanos) = (of("seconds").unwrap_or(0), of("nanos").unwrap_or(0));
                return Ok(json!(if nanos == 0 {
                    format!("{seconds}s")
                } else {
                    format!("{seconds}.{nanos:09}s")
                }));
            }
            Value::Object(read)
        }
        other => bail!("a value is expected for {field}, not {other:?}"),
    })
}

/// Entries of keys and values.
fn map(entries: &Value) -> Result<Value> {
    let one = std::slice::from_ref(entries);
    let entries = entries.as_array().map_or(one, Vec::as_slice);
    let pairs = entries.iter().map(|entry| {
        let key = entry["key"].as_str().context("an entry of a map has no key")?;
        Ok((key.to_owned(), entry["value"].clone()))
    });
    Ok(Value::Object(pairs.collect::<Result<Map<_, _>>>()?))
}

fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let mut made = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        made.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        made.push_str(letters.as_str());
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_format_is_read_as_json() {
        let text = r#"
            a_b: "x" # why
            drain: {seconds: 5}  limit { value: 7 }
            runtime_values: [{ key: "k" value: "true" }, {key: "l", value: ""}]
            list: "1" list: "2"
            mode: NONE
            deep: { er: { c_d: [1, -2] } };
        "#;
        let expected = json!({
            "aB": "x", "drain": "5s", "limit": 7, "runtimeValues": {"k": "true", "l": ""}, "list": ["1", "2"], "mode": "NONE",
            "deep": {"er": {"cD": [1, -2]}},
        });
        assert_eq!(read(text).unwrap(), expected);
        assert!(read("a: {").is_err() && read("a: \"b").is_err());
    }
}
