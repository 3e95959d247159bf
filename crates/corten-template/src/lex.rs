//! A template's text to pieces: plain text and actions, and an action's text to tokens.

use crate::Problem;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    /// Text as it is.
    Text(String),
    /// What stands between the braces, with the line it starts in.
    Action(usize, Vec<Token>),
}

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A keyword or function.
    Name(String),
    /// `.`, `.a.b`: the fields.
    Field(Vec<String>),
    /// `$`, `$x`, `$x.a`: the variable, and fields of it.
    Variable(String, Vec<String>),
    /// A string.
    Text(String),
    /// A whole number.
    Number(i64),
    /// `(`.
    Open,
    /// `)`, with fields taken from what the parentheses hold.
    Close(Vec<String>),
    /// `|`.
    Pipe,
    /// `:=` (true) or `=`.
    Assign(bool),
    /// `,`.
    Comma,
}

/// Splits a template.
pub(crate) fn pieces(text: &str) -> Result<Vec<Piece>, (usize, Problem)> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut line = 1;
    let mut trim_next = false;
    let plain = |text: &str, trim_start: bool, trim_end: bool| {
        let text = if trim_start { text.trim_start() } else { text };
        if trim_end { text.trim_end() } else { text }.to_owned()
    };
    while let Some(open) = rest.find("{{") {
        let (before, after) = rest.split_at(open);
        line += before.matches('\n').count();
        let mut inner = &after[2..];
        let trims = inner.starts_with("- ") || inner.starts_with("-\n");
        let text = plain(before, trim_next, trims);
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        if trims {
            inner = &inner[1..];
        }
        let end = end_of_action(inner).ok_or_else(|| (line, "an action is not closed with }}".to_owned()))?;
        let (content, after) = inner.split_at(end);
        let ends_trimming = content.ends_with(" -") || content.ends_with("\n-");
        let content = if ends_trimming {
            &content[..content.len() - 1]
        } else {
            content
        };
        let content_lines = content.matches('\n').count();
        if !content.trim_start().starts_with("/*") {
            let tokens = tokens(content).map_err(|problem| (line, problem))?;
            pieces.push(Piece::Action(line, tokens));
        }
        line += content_lines;
        trim_next = ends_trimming;
        rest = &after[2..];
    }
    let text = plain(rest, trim_next, false);
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

/// Where the closing braces stand, which may also stand in strings and comments.
fn end_of_action(text: &str) -> Option<usize> {
    if text.trim_start().starts_with("/*") {
        let comment = text.find("*/")?;
        return text[comment..].find("}}").map(|at| comment + at);
    }
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some(mark) => {
                if escaped {
                    escaped = false;
                } else if c == '\\' && mark == '"' {
                    escaped = true;
                } else if c == mark {
                    quote = None;
                }
            }
            None if matches!(c, '"' | '`') => quote = Some(c),
            None if c == '}' && text[at..].starts_with("}}") => return Some(at),
            None => {}
        }
    }
    None
}

fn tokens(text: &str) -> Result<Vec<Token>, Problem> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else {
            return Ok(tokens);
        };
        let token = match first {
            '(' => take(&mut rest, 1, Token::Open),
            ')' => {
                rest = &rest[1..];
                Token::Close(fields(&mut rest))
            }
            '|' => take(&mut rest, 1, Token::Pipe),
            ',' => take(&mut rest, 1, Token::Comma),
            ':' if rest.starts_with(":=") => take(&mut rest, 2, Token::Assign(true)),
            '=' => take(&mut rest, 1, Token::Assign(false)),
            '"' | '`' => Token::Text(string(&mut rest, first)?),
            '.' => {
                let fields = fields(&mut rest);
                if fields.is_empty() {
                    rest = &rest[1..];
                }
                Token::Field(fields)
            }
            '$' => {
                rest = &rest[1..];
                let name = word(&mut rest);
                Token::Variable(name, fields(&mut rest))
            }
            c if c.is_ascii_digit() || c == '-' => number(&mut rest)?,
            c if c.is_alphabetic() || c == '_' => Token::Name(word(&mut rest)),
            c => return Err(format!("{c:?} has no meaning in an action")),
        };
        tokens.push(token);
    }
}

fn take(rest: &mut &str, length: usize, token: Token) -> Token {
    *rest = &rest[length..];
    token
}

fn word(rest: &mut &str) -> String {
    let end = rest
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    *rest = after;
    word.to_owned()
}

/// `.a.b`, as far as it goes.
fn fields(rest: &mut &str) -> Vec<String> {
    let mut fields = Vec::new();
    while let Some(after) = rest.strip_prefix('.') {
        if !after.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            break;
        }
        *rest = after;
        fields.push(word(rest));
    }
    fields
}

fn number(rest: &mut &str) -> Result<Token, Problem> {
    let digits = |c: char| !c.is_ascii_digit() && c != '-';
    let (text, after) = rest.split_at(rest.find(digits).unwrap_or(rest.len()));
    *rest = after;
    let number = text.parse().map_err(|_| format!("{text:?} is no whole number"))?;
    Ok(Token::Number(number))
}

fn string(rest: &mut &str, mark: char) -> Result<String, Problem> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == mark => {
                *rest = &rest[at + 1..];
                return Ok(text);
            }
            '\\' if mark == '"' => match chars.next() {
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                Some((_, c @ ('"' | '\\'))) => text.push(c),
                other => return Err(format!("the escape {other:?} is not known")),
            },
            c => text.push(c),
        }
    }
    Err("a string does not end".to_owned())
}
