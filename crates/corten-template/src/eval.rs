//! A tree and values to text.

use serde_json::Value;

use crate::parse::{Node, Operand, Pipeline};
use crate::{More, Problem, TemplateError, Templates, functions};

/// How deep templates may include each other.
const DEPTH_MAX: usize = 50;

/// What all templates of a chart have in common.
pub(crate) struct Scope<'a> {
    pub(crate) templates: &'a Templates,
    pub(crate) files: &'a dyn Fn(&str) -> String,
    pub(crate) more: More<'a>,
}

/// A template as it runs.
struct Run<'a> {
    scope: &'a Scope<'a>,
    file: &'a str,
    root: Value,
    variables: Vec<(String, Value)>,
    line: usize,
    depth: usize,
}

/// The text of a template's body.
pub(crate) fn run(scope: &Scope<'_>, file: &str, body: &[Node], root: &Value) -> Result<String, TemplateError> {
    nested(scope, file, body, root, 0)
}

fn nested(scope: &Scope<'_>, file: &str, body: &[Node], root: &Value, depth: usize) -> Result<String, TemplateError> {
    let mut run = Run {
        scope,
        file,
        root: root.clone(),
        variables: Vec::new(),
        line: 1,
        depth,
    };
    let mut out = String::new();
    run.nodes(body, root, &mut out)?;
    Ok(out)
}

/// Whether a condition with this value holds.
pub(crate) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// A value as it is written.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(whole) if whole.fract() == 0.0 && whole.abs() < 1e15 => format!("{whole:.0}"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

impl Run<'_> {
    fn fail(&self, problem: Problem) -> TemplateError {
        TemplateError {
            file: self.file.to_owned(),
            line: self.line,
            problem,
        }
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Value, out: &mut String) -> Result<(), TemplateError> {
        let known = self.variables.len();
        for node in nodes {
            self.node(node, dot, out)?;
        }
        self.variables.truncate(known);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Value, out: &mut String) -> Result<(), TemplateError> {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Action(line, pipeline) => {
                self.line = *line;
                let value = self.pipeline(pipeline, dot)?;
                match &pipeline.variable {
                    Some((name, true)) => self.variables.push((name.clone(), value)),
                    Some((name, false)) => {
                        let known = self.variables.iter_mut().rev().find(|(known, _)| known == name);
                        match known {
                            Some(known) => known.1 = value,
                            None => return Err(self.fail(format!("the variable ${name} is not known"))),
                        }
                    }
                    None => out.push_str(&text(&value)),
                }
            }
            Node::If(arms) => {
                for (condition, body) in arms {
                    let holds = match condition {
                        Some((line, condition)) => {
                            self.line = *line;
                            truth(&self.pipeline(condition, dot)?)
                        }
                        None => true,
                    };
                    if holds {
                        return self.nodes(body, dot, out);
                    }
                }
            }
            Node::With {
                line,
                variable,
                what,
                body,
                otherwise,
            } => {
                self.line = *line;
                let value = self.pipeline(what, dot)?;
                if !truth(&value) {
                    return self.nodes(otherwise, dot, out);
                }
                let known = self.variables.len();
                if let Some(name) = variable {
                    self.variables.push((name.clone(), value.clone()));
                }
                self.nodes(body, &value, out)?;
                self.variables.truncate(known);
            }
            Node::Range { line, over, .. } => {
                self.line = *line;
                let over = self.pipeline(over, dot)?;
                self.range(node, over, dot, out)?;
            }
        }
        Ok(())
    }

    fn range(&mut self, node: &Node, over: Value, dot: &Value, out: &mut String) -> Result<(), TemplateError> {
        let Node::Range {
            key,
            element,
            body,
            otherwise,
            ..
        } = node
        else {
            return Ok(());
        };
        let pairs: Vec<(Value, Value)> = match over {
            Value::Null => Vec::new(),
            Value::Array(items) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| (Value::from(index), item))
                .collect(),
            // Go takes maps in the order of their keys, as our maps are.
            Value::Object(map) => map.into_iter().map(|(key, value)| (Value::from(key), value)).collect(),
            other => return Err(self.fail(format!("range cannot go over {other}"))),
        };
        if pairs.is_empty() {
            return self.nodes(otherwise, dot, out);
        }
        for (at, item) in pairs {
            let known = self.variables.len();
            if let Some(name) = key {
                self.variables.push((name.clone(), at));
            }
            if let Some(name) = element {
                self.variables.push((name.clone(), item.clone()));
            }
            self.nodes(body, &item, out)?;
            self.variables.truncate(known);
        }
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut fed: Option<Value> = None;
        for command in &pipeline.commands {
            fed = Some(self.command(command, dot, fed)?);
        }
        Ok(fed.unwrap_or(Value::Null))
    }

    fn command(&mut self, words: &[Operand], dot: &Value, fed: Option<Value>) -> Result<Value, TemplateError> {
        let Some((first, rest)) = words.split_first() else {
            return Ok(Value::Null);
        };
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        match first {
            // These stop as soon as the answer is clear, so that what stands behind may be wrong then.
            Operand::Function(name) if matches!(name.as_str(), "and" | "or") => {
                let mut value = Value::Null;
                for word in rest {
                    value = self.operand(word, dot)?;
                    if truth(&value) == (name == "or") {
                        return Ok(value);
                    }
                }
                Ok(fed.unwrap_or(value))
            }
            Operand::Function(name) => {
                for word in rest {
                    arguments.push(self.operand(word, dot)?);
                }
                arguments.extend(fed);
                self.call(name, arguments)
            }
            Operand::Field(fields) | Operand::Variable(_, fields)
                if fields.ends_with(&["Files".into(), "Get".into()]) =>
            {
                for word in rest {
                    arguments.push(self.operand(word, dot)?);
                }
                arguments.extend(fed);
                match &arguments[..] {
                    [Value::String(name)] => Ok(Value::from((self.scope.files)(name))),
                    _ => Err(self.fail("Files.Get takes the name of a file".to_owned())),
                }
            }
            operand if rest.is_empty() && fed.is_none() => self.operand(operand, dot),
            _ => Err(self.fail("only a function takes arguments".to_owned())),
        }
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        match operand {
            Operand::Constant(value) => Ok(value.clone()),
            Operand::Function(name) => self.call(name, Vec::new()),
            Operand::Field(fields) => self.field(dot, fields),
            Operand::Variable(name, fields) if name.is_empty() => self.field(&self.root, fields),
            Operand::Variable(name, fields) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                match known {
                    Some((_, value)) => self.field(value, fields),
                    None => Err(self.fail(format!("the variable ${name} is not known"))),
                }
            }
            Operand::Group(pipeline, fields) => {
                let value = self.pipeline(pipeline, dot)?;
                self.field(&value, fields)
            }
        }
    }

    fn field(&self, value: &Value, fields: &[String]) -> Result<Value, TemplateError> {
        let mut at = value;
        for field in fields {
            at = match at {
                Value::Object(map) => map.get(field).unwrap_or(&Value::Null),
                other => {
                    let path = fields.join(".");
                    return Err(self.fail(format!("{field:?} of .{path} cannot be taken from {other}")));
                }
            };
        }
        Ok(at.clone())
    }

    fn call(&mut self, name: &str, arguments: Vec<Value>) -> Result<Value, TemplateError> {
        if name != "include" {
            let own = (self.scope.more)(name, &arguments);
            return own
                .unwrap_or_else(|| functions::call(name, &arguments))
                .map_err(|problem| self.fail(problem));
        }
        let [Value::String(template), with] = &arguments[..] else {
            return Err(self.fail("include takes a name and a value".to_owned()));
        };
        let Some((file, body)) = self.scope.templates.defined.get(template) else {
            return Err(self.fail(format!("no template is named {template:?}")));
        };
        if self.depth == DEPTH_MAX {
            return Err(self.fail(format!(
                "templates include each other without end, the last is {template:?}"
            )));
        }
        nested(self.scope, file, body, with, self.depth + 1).map(Value::from)
    }
}
