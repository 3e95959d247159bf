//! Regular expressions as proxies read them: RE2's syntax, judged without RE2.
//!
//! A proxy refuses all of a table for one expression that it cannot read, so expressions are looked at before they are sent. Rust's
//! library is near but not the same: it takes sets of classes, look-alikes of flags and names of properties that RE2 does not, and
//! does not take `\Q`, `\C`, octal numbers and braces that repeat nothing. Nothing here recurses.
//!
//! Proxies of some versions read patterns as UTF-8, those of others as bytes (Latin-1): what is taken here both take.

mod class;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

/// The largest program that a pattern may become, in instructions: proxies refuse larger ones than 32768, and what is counted here
/// is an estimate.
const SIZE_MAX: u64 = 30_000;
/// The largest count of a repetition, and the largest product of counts of repetitions in each other.
const REPEAT_MAX: u64 = 1000;
/// Instructions for any character, in UTF-8.
const ANY_SIZE: u64 = 12;

/// Why RE2 refuses a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is empty; proxies do not take that.
    #[error("it is empty")]
    Empty,
    /// A parenthesis is open at the end.
    #[error("a '(' is not closed")]
    Unclosed,
    /// A parenthesis is closed that was not opened.
    #[error("a ')' closes nothing")]
    Unopened,
    /// A bracket is open at the end.
    #[error("a '[' is not closed")]
    UnclosedClass,
    /// Nothing stands before a repetition.
    #[error("{0:?} repeats nothing")]
    Nothing(String),
    /// A repetition is repeated.
    #[error("{0:?} repeats a repetition; put that into parentheses")]
    Twice(String),
    /// A count is too large, or the least is more than the most.
    #[error("{0:?} repeats too often: at most {REPEAT_MAX} times, all repetitions in each other together")]
    TooOften(String),
    /// An escape is unknown.
    #[error("{0:?} means nothing")]
    Escape(String),
    /// The pattern ends with a backslash.
    #[error("it ends with a backslash")]
    Backslash,
    /// What follows `(?` is unknown.
    #[error("{0:?} means nothing; looking ahead and back is not possible")]
    Flags(String),
    /// The name of a group is none, or there twice.
    #[error("{0:?} is no name for a group, or is one twice")]
    Name(String),
    /// A class or range of characters is none.
    #[error("{0:?} is no class or range of characters")]
    Class(String),
    /// It would take too much memory.
    #[error("it is too large for a proxy")]
    TooLarge,
}

/// Whether RE2 can read a pattern and proxies take it.
///
/// # Errors
///
/// The first thing that they would not.
pub fn check(pattern: &str) -> Result<(), Problem> {
    if pattern.is_empty() {
        return Err(Problem::Empty);
    }
    read(pattern)?;
    if pattern.is_ascii() {
        return Ok(());
    }
    let bytes: String = pattern.bytes().map(char::from).collect();
    read(&bytes)
}

fn read(pattern: &str) -> Result<(), Problem> {
    let mut parser = Parser {
        rest: pattern,
        groups: vec![Group::default()],
        names: HashSet::new(),
        fold: false,
    };
    parser.run()
}

/// What one piece of a pattern costs.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    /// Instructions.
    size: u64,
    /// The largest product of the counts of repetitions in it.
    repeats: u64,
}

/// What is between parentheses so far.
#[derive(Debug, Default)]
struct Group {
    /// Of all but the last piece.
    cost: Cost,
    /// The last piece, which a repetition is about.
    last: Option<Cost>,
    /// Whether case counted before it.
    fold: bool,
}

impl Group {
    fn push(&mut self, cost: Cost) {
        self.commit();
        self.last = Some(cost);
    }

    fn commit(&mut self) {
        if let Some(last) = self.last.take() {
            self.cost.size = self.cost.size.saturating_add(last.size);
            self.cost.repeats = self.cost.repeats.max(last.repeats);
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
    /// The innermost last; the first is the pattern itself.
    groups: Vec<Group>,
    names: HashSet<&'a str>,
    /// Case does not count.
    fold: bool,
}

impl<'a> Parser<'a> {
    fn run(&mut self) -> Result<(), Problem> {
        // What was just repeated, if the last thing read was a repetition.
        let mut repeated = false;
        while let Some(next) = self.rest.chars().next() {
            let mut repeats = false;
            match next {
                '(' => self.open()?,
                ')' => self.close()?,
                '|' => {
                    self.rest = &self.rest[1..];
                    let group = self.group();
                    group.commit();
                    group.cost.size += 1;
                }
                '[' => {
                    let size = class::read(&mut self.rest, self.fold)?;
                    self.piece(size);
                }
                '.' => {
                    self.rest = &self.rest[1..];
                    self.piece(ANY_SIZE);
                }
                '^' | '$' => {
                    self.rest = &self.rest[1..];
                    self.piece(1);
                }
                '*' | '+' | '?' => {
                    let whole = self.rest;
                    self.rest = &self.rest[1..];
                    self.repeat(whole, repeated, 0, None)?;
                    repeats = true;
                }
                '{' => match counts(self.rest) {
                    Some((rest, least, most)) => {
                        let whole = self.rest;
                        self.rest = rest;
                        let most_said = most.unwrap_or(least);
                        if least > REPEAT_MAX || most_said > REPEAT_MAX || most_said < least {
                            return Err(Problem::TooOften(read_of(whole, rest)));
                        }
                        self.repeat(whole, repeated, least, Some(most))?;
                        repeats = true;
                    }
                    // A brace that begins no repetition stands for itself.
                    None => self.literal('{'),
                },
                '\\' => self.escape()?,
                other => self.literal(other),
            }
            repeated = repeats;
            // Each group that is open costs something too.
            let depth = self.groups.len() as u64;
            if self.group().cost.size.saturating_add(depth) > SIZE_MAX {
                return Err(Problem::TooLarge);
            }
        }
        if self.groups.len() > 1 {
            return Err(Problem::Unclosed);
        }
        let group = self.group();
        group.commit();
        if group.cost.size > SIZE_MAX {
            return Err(Problem::TooLarge);
        }
        Ok(())
    }

    fn group(&mut self) -> &mut Group {
        if self.groups.is_empty() {
            self.groups.push(Group::default());
        }
        let innermost = self.groups.len() - 1;
        &mut self.groups[innermost]
    }

    fn piece(&mut self, size: u64) {
        self.group().push(Cost { size, repeats: 1 });
    }

    fn literal(&mut self, character: char) {
        self.rest = &self.rest[character.len_utf8()..];
        self.character(character);
    }

    fn character(&mut self, character: char) {
        let bytes = character.len_utf8() as u64;
        // Another case of it may be longer, and one letter may have two others.
        let size = if self.fold && character.is_alphabetic() {
            3 * bytes + 1
        } else {
            bytes
        };
        self.piece(size);
    }

    fn open(&mut self) -> Result<(), Problem> {
        let fold = self.fold;
        let new = Group {
            fold,
            ..Group::default()
        };
        let Some(rest) = self.rest.strip_prefix("(?") else {
            self.rest = &self.rest[1..];
            self.groups.push(new);
            return Ok(());
        };
        if let Some(named) = rest.strip_prefix("P<").or_else(|| rest.strip_prefix('<')) {
            let looks = named.starts_with(['=', '!']);
            let (name, rest) = named
                .split_once('>')
                .ok_or_else(|| Problem::Flags(self.rest.chars().take(8).collect()))?;
            let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if looks || !is_name || !self.names.insert(name) {
                return Err(Problem::Name(name.to_owned()));
            }
            self.rest = rest;
            self.groups.push(new);
            return Ok(());
        }
        let wrong = |read: &str| Problem::Flags(format!("(?{read}"));
        let (mut negated, mut said) = (false, false);
        for (at, flag) in rest.char_indices() {
            match flag {
                'i' => {
                    self.fold = !negated;
                    said = true;
                }
                'm' | 's' | 'U' => said = true,
                '-' if !negated => (negated, said) = (true, false),
                ':' | ')' if !negated || said => {
                    self.rest = &rest[at + 1..];
                    if flag == ':' {
                        self.groups.push(new);
                    }
                    return Ok(());
                }
                other => return Err(wrong(&rest[..at + other.len_utf8()])),
            }
        }
        Err(wrong(rest))
    }

    fn close(&mut self) -> Result<(), Problem> {
        let Some(mut group) = self.groups.pop().filter(|_| !self.groups.is_empty()) else {
            return Err(Problem::Unopened);
        };
        self.rest = &self.rest[1..];
        group.commit();
        self.fold = group.fold;
        let cost = Cost {
            size: group.cost.size.saturating_add(2),
            repeats: group.cost.repeats.max(1),
        };
        self.group().push(cost);
        Ok(())
    }

    /// Repeats the last piece: by an operator (`counted` is none), or by counts. `whole` is the pattern from the repetition on.
    fn repeat(&mut self, whole: &str, repeated: bool, least: u64, counted: Option<Option<u64>>) -> Result<(), Problem> {
        self.rest = self.rest.strip_prefix('?').unwrap_or(self.rest);
        let read = || read_of(whole, self.rest);
        if repeated {
            return Err(Problem::Twice(read()));
        }
        let text = read();
        let Some(last) = &mut self.group().last else {
            return Err(Problem::Nothing(text));
        };
        match counted {
            None => last.size = last.size.saturating_add(1),
            Some(most) => {
                let count = most.unwrap_or(least).max(least);
                last.repeats = last.repeats.saturating_mul(count.max(1));
                if count >= 2 && last.repeats > REPEAT_MAX {
                    return Err(Problem::TooOften(text));
                }
                last.size = last.size.saturating_mul(count.max(1)).saturating_add(count - least + 1);
            }
        }
        Ok(())
    }

    fn escape(&mut self) -> Result<(), Problem> {
        let mut after = self.rest[1..].chars();
        match after.next() {
            Some('b' | 'B' | 'A' | 'z') => {
                self.rest = &self.rest[2..];
                self.piece(1);
            }
            Some('C') => {
                self.rest = &self.rest[2..];
                self.piece(1);
            }
            Some('Q') => {
                let quoted = &self.rest[2..];
                let (literal, rest) = quoted.split_once("\\E").unwrap_or((quoted, ""));
                self.rest = rest;
                for character in literal.chars() {
                    self.character(character);
                }
            }
            _ => match class::named(&mut self.rest)? {
                Some(size) => self.piece(size),
                None => {
                    let character = class::escaped(&mut self.rest)?;
                    self.character(character);
                }
            },
        }
        Ok(())
    }
}

/// What was read, up to `rest`.
fn read_of(whole: &str, rest: &str) -> String {
    whole[..whole.len() - rest.len()].to_owned()
}

/// The counts of a repetition, `{2}`, `{2,}` or `{2,3}`, and what follows; `None`: it is none.
fn counts(text: &str) -> Option<(&str, u64, Option<u64>)> {
    let inside = text.strip_prefix('{')?;
    let (least, rest) = number(inside)?;
    if let Some(rest) = rest.strip_prefix('}') {
        return Some((rest, least, Some(least)));
    }
    let rest = rest.strip_prefix(',')?;
    if let Some(rest) = rest.strip_prefix('}') {
        return Some((rest, least, None));
    }
    let (most, rest) = number(rest)?;
    Some((rest.strip_prefix('}')?, least, Some(most)))
}

fn number(text: &str) -> Option<(u64, &str)> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(length);
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    // More than any count that is taken.
    Some((digits.parse().unwrap_or_else(|_| u64::from(u32::MAX)), rest))
}
