//! A text that a regular expression takes, for the expressions that people write into routes: no look-around, no counting up to the million.

use regex::Regex;

/// How often a counted part is repeated at most.
const REPEATS_MAX: usize = 64;
/// How long a sample may become.
const LENGTH_MAX: usize = 4096;

/// A text that the whole expression takes; nothing if none was found.
pub(super) fn of(expression: &str) -> Option<String> {
    let whole = Regex::new(&format!("^(?:{expression})$")).ok()?;
    let characters: Vec<char> = expression.chars().collect();
    let mut at = 0;
    let text = alternatives(&characters, &mut at)?;
    whole.is_match(&text).then_some(text)
}

/// The first alternative, up to the end or a closing parenthesis.
fn alternatives(expression: &[char], at: &mut usize) -> Option<String> {
    let mut text = String::new();
    while let Some(&c) = expression.get(*at) {
        match c {
            ')' => return Some(text),
            '|' => {
                // The others are only passed.
                *at += 1;
                alternatives(expression, at)?;
                return Some(text);
            }
            _ => {
                let piece = piece(expression, at)?;
                let count = count(expression, at)?;
                text.push_str(&piece.repeat(count));
                if text.len() > LENGTH_MAX {
                    return None;
                }
            }
        }
    }
    Some(text)
}

/// One character, class or group.
fn piece(expression: &[char], at: &mut usize) -> Option<String> {
    let c = *expression.get(*at)?;
    *at += 1;
    Some(match c {
        '^' | '$' => String::new(),
        '.' => "x".to_owned(),
        '\\' => {
            let c = *expression.get(*at)?;
            *at += 1;
            match c {
                'd' => "1".to_owned(),
                'w' | 'D' | 'S' => "x".to_owned(),
                's' => " ".to_owned(),
                'W' => "-".to_owned(),
                'b' | 'A' | 'z' | 'B' => String::new(),
                'n' => "\n".to_owned(),
                't' => "\t".to_owned(),
                other => other.to_string(),
            }
        }
        '(' => {
            if expression.get(*at) == Some(&'?') {
                // Flags and names, up to what they are of.
                while let Some(&c) = expression.get(*at) {
                    *at += 1;
                    if c == ':' || c == '>' {
                        break;
                    }
                    if c == ')' {
                        return Some(String::new());
                    }
                }
            }
            let inner = alternatives(expression, at)?;
            *at += 1;
            inner
        }
        '[' => class(expression, at)?,
        other => other.to_string(),
    })
}

/// A character of a class.
fn class(expression: &[char], at: &mut usize) -> Option<String> {
    let begin = *at;
    // A bracket right after the opening is meant as itself.
    let mut end = begin + usize::from(expression.get(begin) == Some(&'^'));
    end += usize::from(expression.get(end) == Some(&']'));
    while *expression.get(end)? != ']' {
        end += if expression[end] == '\\' { 2 } else { 1 };
    }
    *at = end + 1;
    let written: String = expression[begin..end].iter().collect();
    let class = Regex::new(&format!("^[{written}]$")).ok()?;
    let usual = "xaA0-_./~ ".chars().chain((33_u8..127).map(char::from));
    usual.map(String::from).find(|it| class.is_match(it))
}

/// How often the piece before is repeated, at the least.
fn count(expression: &[char], at: &mut usize) -> Option<usize> {
    let count = match expression.get(*at) {
        Some('*' | '?') => {
            *at += 1;
            0
        }
        Some('+') => {
            *at += 1;
            1
        }
        Some('{') => {
            let end = *at + expression[*at..].iter().position(|c| *c == '}')?;
            let written: String = expression[*at + 1..end].iter().collect();
            *at = end + 1;
            written
                .split(',')
                .next()?
                .trim()
                .parse()
                .ok()
                .filter(|it| *it <= REPEATS_MAX)?
        }
        _ => return Some(1),
    };
    // Laziness changes nothing about what is taken.
    if expression.get(*at) == Some(&'?') {
        *at += 1;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_taken_by_what_they_are_of() {
        let check =
            |expression: &str, expected: Option<&str>| assert_eq!(of(expression).as_deref(), expected, "{expression}");
        check("/v[0-9]+/items/.*", Some("/v0/items/"));
        check("^/(a|b)/c$", Some("/a/c"));
        check(r"\d{3}-\w+?", Some("111-x"));
        check("(?i)jason", Some("jason"));
        check("[^/]+\\.json", Some("x.json"));
        check("(?P<who>.{2,4})@x", Some("xx@x"));
        check("[]a]b", Some("ab"));
        check(".*", Some(""));
        check("a{1000000}", None);
        check("(", None);
        check("[a", None);
    }
}
