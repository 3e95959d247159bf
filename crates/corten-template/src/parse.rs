//! Pieces to a tree.

use serde_json::Value;

use crate::Problem;
use crate::lex::{Piece, Token, pieces};

/// A part of a template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Text(String),
    /// What a pipeline gives is written, unless it is given to a variable.
    Action(usize, Pipeline),
    /// Conditions with what belongs to them; the last may have none.
    If(Vec<Arm>),
    /// Key or index, element, of what, for each, if there is none.
    Range {
        line: usize,
        key: Option<String>,
        element: Option<String>,
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        line: usize,
        variable: Option<String>,
        what: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
}

/// A condition with its line, none behind the last else, and what belongs to it.
pub(crate) type Arm = (Option<(usize, Pipeline)>, Vec<Node>);

/// Commands, each fed with what the one before gave.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pipeline {
    /// The variable that takes the result, and whether it is new.
    pub(crate) variable: Option<(String, bool)>,
    pub(crate) commands: Vec<Vec<Operand>>,
}

/// A word of a command.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    Function(String),
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Constant(Value),
    Group(Pipeline, Vec<String>),
}

/// A file's templates.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) body: Vec<Node>,
    pub(crate) defined: Vec<(String, Vec<Node>)>,
}

struct Parser {
    pieces: std::iter::Peekable<std::vec::IntoIter<Piece>>,
    defined: Vec<(String, Vec<Node>)>,
    line: usize,
}

type Result<T> = std::result::Result<T, (usize, Problem)>;

/// What ended a list of nodes.
#[derive(Debug, PartialEq)]
enum Stop {
    Text,
    End,
    Else(Vec<Token>),
}

/// Reads a file.
pub(crate) fn file(text: &str) -> Result<Parsed> {
    let mut parser = Parser {
        pieces: pieces(text)?.into_iter().peekable(),
        defined: Vec::new(),
        line: 1,
    };
    let (body, end) = parser.nodes()?;
    if end != Stop::Text {
        return Err((parser.line, "an end or else without its beginning".to_owned()));
    }
    Ok(Parsed {
        body,
        defined: parser.defined,
    })
}

impl Parser {
    fn fail<T>(&self, problem: impl Into<String>) -> Result<T> {
        Err((self.line, problem.into()))
    }

    fn nodes(&mut self) -> Result<(Vec<Node>, Stop)> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (line, tokens) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(line, tokens) => (line, tokens),
            };
            self.line = line;
            let Some((Token::Name(word), rest)) = tokens.split_first() else {
                nodes.push(Node::Action(line, self.pipeline(&tokens)?));
                continue;
            };
            match word.as_str() {
                "end" => return Ok((nodes, Stop::End)),
                "else" => return Ok((nodes, Stop::Else(rest.to_vec()))),
                "if" => nodes.push(self.condition(line, rest)?),
                "range" => nodes.push(self.range(line, rest)?),
                "with" => nodes.push(self.with(line, rest)?),
                "define" => {
                    let [Token::Text(name)] = rest else {
                        return self.fail("write define \"name\"");
                    };
                    let name = name.clone();
                    let (body, end) = self.nodes()?;
                    self.must_end(end)?;
                    self.defined.push((name, body));
                }
                _ => nodes.push(Node::Action(line, self.pipeline(&tokens)?)),
            }
        }
        Ok((nodes, Stop::Text))
    }

    fn must_end(&self, end: Stop) -> Result<()> {
        match end {
            Stop::End => Ok(()),
            Stop::Else(_) => self.fail("a second else"),
            Stop::Text => self.fail("an end is missing"),
        }
    }

    fn condition(&mut self, line: usize, tokens: &[Token]) -> Result<Node> {
        let mut arms = Vec::new();
        let mut condition = Some((line, self.pipeline(tokens)?));
        loop {
            let last = condition.is_none();
            let (body, end) = self.nodes()?;
            arms.push((condition.take(), body));
            match end {
                Stop::Else(rest) if !last => match rest.split_first() {
                    None => {}
                    Some((Token::Name(word), rest)) if word == "if" => {
                        condition = Some((self.line, self.pipeline(rest)?));
                    }
                    Some(_) => return self.fail("only if can stand behind else"),
                },
                end => {
                    self.must_end(end)?;
                    return Ok(Node::If(arms));
                }
            }
        }
    }

    fn body(&mut self) -> Result<(Vec<Node>, Vec<Node>)> {
        let (body, end) = self.nodes()?;
        match end {
            Stop::Else(rest) if rest.is_empty() => {
                let (otherwise, end) = self.nodes()?;
                self.must_end(end)?;
                Ok((body, otherwise))
            }
            end => {
                self.must_end(end)?;
                Ok((body, Vec::new()))
            }
        }
    }

    fn range(&mut self, line: usize, tokens: &[Token]) -> Result<Node> {
        let (mut key, mut element) = (None, None);
        let over = match tokens {
            [
                Token::Variable(first, _),
                Token::Comma,
                Token::Variable(second, _),
                Token::Assign(true),
                rest @ ..,
            ] => {
                (key, element) = (Some(first.clone()), Some(second.clone()));
                rest
            }
            [Token::Variable(first, _), Token::Assign(true), rest @ ..] => {
                element = Some(first.clone());
                rest
            }
            rest => rest,
        };
        let over = self.pipeline(over)?;
        let (body, otherwise) = self.body()?;
        Ok(Node::Range {
            line,
            key,
            element,
            over,
            body,
            otherwise,
        })
    }

    fn with(&mut self, line: usize, tokens: &[Token]) -> Result<Node> {
        let mut what = self.pipeline(tokens)?;
        let variable = what.variable.take().map(|(name, _)| name);
        let (body, otherwise) = self.body()?;
        Ok(Node::With {
            line,
            variable,
            what,
            body,
            otherwise,
        })
    }

    fn pipeline(&self, tokens: &[Token]) -> Result<Pipeline> {
        let (variable, tokens) = match tokens {
            [Token::Variable(name, fields), Token::Assign(new), rest @ ..] if fields.is_empty() => {
                (Some((name.clone(), *new)), rest)
            }
            tokens => (None, tokens),
        };
        let mut rest = tokens;
        let commands = self.commands(&mut rest)?;
        if !rest.is_empty() {
            return self.fail("a ) without its (");
        }
        Ok(Pipeline { variable, commands })
    }

    /// Up to the end, or to a closing parenthesis.
    fn commands(&self, rest: &mut &[Token]) -> Result<Vec<Vec<Operand>>> {
        let mut commands = vec![Vec::new()];
        while let Some((token, after)) = rest.split_first() {
            if matches!(token, Token::Close(_)) {
                break;
            }
            *rest = after;
            let operand = match token {
                Token::Pipe => {
                    commands.push(Vec::new());
                    continue;
                }
                Token::Open => {
                    let inner = self.commands(rest)?;
                    let Some((Token::Close(fields), after)) = rest.split_first() else {
                        return self.fail("a ( without its )");
                    };
                    *rest = after;
                    let inner = Pipeline {
                        variable: None,
                        commands: inner,
                    };
                    Operand::Group(inner, fields.clone())
                }
                Token::Name(name) => match name.as_str() {
                    "true" => Operand::Constant(Value::Bool(true)),
                    "false" => Operand::Constant(Value::Bool(false)),
                    "nil" => Operand::Constant(Value::Null),
                    _ => Operand::Function(name.clone()),
                },
                Token::Field(fields) => Operand::Field(fields.clone()),
                Token::Variable(name, fields) => Operand::Variable(name.clone(), fields.clone()),
                Token::Text(text) => Operand::Constant(Value::from(text.as_str())),
                Token::Number(number) => Operand::Constant(Value::from(*number)),
                Token::Assign(_) | Token::Comma | Token::Close(_) => return self.fail("a value is missing"),
            };
            if let Some(command) = commands.last_mut() {
                command.push(operand);
            }
        }
        if commands.iter().any(Vec::is_empty) {
            return self.fail("a command is empty");
        }
        Ok(commands)
    }
}
