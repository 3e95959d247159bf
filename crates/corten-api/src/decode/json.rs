//! JSON to the spanned tree. YAML is nearly a superset of JSON, but not quite (tabs, surrogate pairs), and texts from
//! machines are large: they take this straight road.
//!
//! Knows nothing of objects; a stream is any number of values with blanks between them.

use std::str::FromStr;

use serde_json::Number;

use super::{
    Limits, Problem,
    node::{Data, Entry, Node},
};
use crate::diagnostic::{Code, Position};

/// Decodes all values of a text.
pub(super) fn stream(text: &str, limits: &Limits) -> Result<(Vec<Node>, Vec<Problem>), Problem> {
    let mut reader = Reader {
        text,
        offset: 0,
        line: 1,
        line_start: 0,
        limits,
        problems: Vec::new(),
        depth: 0,
    };
    let mut nodes = Vec::new();
    loop {
        reader.blanks();
        if reader.peek().is_none() {
            return Ok((nodes, reader.problems));
        }
        nodes.push(reader.value()?);
    }
}

struct Reader<'a> {
    text: &'a str,
    offset: usize,
    line: u32,
    line_start: usize,
    limits: &'a Limits,
    problems: Vec<Problem>,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.offset).copied()
    }

    fn at(&self) -> Position {
        let column = self
            .text
            .get(self.line_start..self.offset)
            .map_or(0, |s| s.chars().count());
        Position {
            line: self.line,
            column: u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1),
        }
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, Problem> {
        Err(Problem {
            code: Code::SYNTAX,
            at: self.at(),
            message: message.into(),
        })
    }

    fn blanks(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' => {
                    self.line += 1;
                    self.line_start = self.offset + 1;
                }
                b' ' | b'\t' | b'\r' => {}
                _ => return,
            }
            self.offset += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Problem> {
        self.blanks();
        if self.peek() == Some(byte) {
            self.offset += 1;
            return Ok(());
        }
        self.fail(format!("'{}' expected here", char::from(byte)))
    }

    fn value(&mut self) -> Result<Node, Problem> {
        self.blanks();
        let at = self.at();
        let data = match self.peek() {
            None => return self.fail("the text ends where a value is expected"),
            Some(b'{') => self.nested(Self::map)?,
            Some(b'[') => self.nested(Self::list)?,
            Some(b'"') => Data::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => Data::Number(self.number()?),
            Some(_) => self.word()?,
        };
        Ok(Node { at, data })
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Data, Problem>) -> Result<Data, Problem> {
        if self.depth == self.limits.depth {
            return Err(Problem {
                code: Code::LIMIT,
                at: self.at(),
                message: format!("nested more than {} levels deep", self.limits.depth),
            });
        }
        self.depth += 1;
        self.offset += 1;
        let data = read(self)?;
        self.depth -= 1;
        Ok(data)
    }

    fn map(&mut self) -> Result<Data, Problem> {
        let mut entries = super::map::Entries::default();
        self.blanks();
        if self.peek() == Some(b'}') {
            self.offset += 1;
            return Ok(Data::Map(Vec::new()));
        }
        loop {
            self.blanks();
            let at = self.at();
            if self.peek() != Some(b'"') {
                return self.fail("a key in double quotes expected here");
            }
            let key = self.string()?;
            self.expect(b':')?;
            let value = self.value()?;
            self.problems.extend(entries.insert(Entry { at, key, value }));
            self.blanks();
            match self.peek() {
                Some(b',') => self.offset += 1,
                Some(b'}') => {
                    self.offset += 1;
                    return Ok(Data::Map(entries.finish()));
                }
                _ => return self.fail("',' or '}' expected here"),
            }
        }
    }

    fn list(&mut self) -> Result<Data, Problem> {
        let mut items = Vec::new();
        self.blanks();
        if self.peek() == Some(b']') {
            self.offset += 1;
            return Ok(Data::List(items));
        }
        loop {
            items.push(self.value()?);
            self.blanks();
            match self.peek() {
                Some(b',') => self.offset += 1,
                Some(b']') => {
                    self.offset += 1;
                    return Ok(Data::List(items));
                }
                _ => return self.fail("',' or ']' expected here"),
            }
        }
    }

    fn word(&mut self) -> Result<Data, Problem> {
        let rest = self.text.get(self.offset..).unwrap_or_default();
        for (word, data) in [
            ("null", Data::Null),
            ("true", Data::Bool(true)),
            ("false", Data::Bool(false)),
        ] {
            if rest.starts_with(word) {
                self.offset += word.len();
                return Ok(data);
            }
        }
        self.fail("a value expected here: an object, a list, a string in double quotes, a number, true, false or null")
    }

    fn number(&mut self) -> Result<Number, Problem> {
        let rest = self.text.get(self.offset..).unwrap_or_default();
        let end = rest
            .bytes()
            .position(|b| !matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
            .unwrap_or(rest.len());
        let literal = rest.get(..end).unwrap_or_default();
        // The library checks the form, but does not read every fraction to the last bit.
        let exact = |number: Number| match number.is_f64() {
            true => literal.parse().ok().and_then(Number::from_f64),
            false => Some(number),
        };
        match Number::from_str(literal).ok().and_then(exact) {
            Some(number) => {
                self.offset += end;
                Ok(number)
            }
            None => self.fail(format!("'{literal}' is not a JSON number")),
        }
    }

    /// Reads a string by finding its end and leaving the escapes to serde_json.
    fn string(&mut self) -> Result<String, Problem> {
        let bytes = self.text.as_bytes();
        let mut end = self.offset + 1;
        let mut escaped = false;
        loop {
            match bytes.get(end) {
                None | Some(b'\n') => return self.fail("the string that begins here has no end"),
                Some(b'\\') => {
                    escaped = true;
                    end += 2;
                }
                Some(b'"') => break,
                Some(_) => end += 1,
            }
        }
        let literal = self.text.get(self.offset..=end).unwrap_or_default();
        let text = if escaped || literal.bytes().any(|b| b < 0x20) {
            match serde_json::from_str(literal) {
                Ok(text) => text,
                Err(error) => return self.fail(format!("not a JSON string: {error}")),
            }
        } else {
            literal.get(1..literal.len() - 1).unwrap_or_default().to_owned()
        };
        self.offset = end + 1;
        Ok(text)
    }
}
