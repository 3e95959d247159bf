//! Go templates, as far as our own charts use them, and what people write for injection: text to tree, tree and values to text.
//!
//! The charts are for Helm; this reads the same files, so that `corten` and `helm` cannot disagree about an object. Values never
//! change while a template runs, and what is not known is an error that names it, rather than something like it.

mod eval;
mod functions;
mod lex;
mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value;

pub use self::functions::merge;
use self::parse::Node;

/// A template cannot be read, or not be run with these values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {problem}")]
pub struct TemplateError {
    /// The template's file.
    pub file: String,
    /// The line in it, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

/// What went wrong, before it is known where.
type Problem = String;

/// Functions that a caller has besides: a name and what it is given, to what it gives or why it does not. `None`: it is not one of
/// them. They go before those that are always there.
pub type More<'a> = &'a dyn Fn(&str, &[Value]) -> Option<Result<Value, String>>;

/// The templates of one chart.
#[derive(Debug, Default)]
pub struct Templates {
    /// What is rendered: files, in order.
    files: Vec<(String, Vec<Node>)>,
    /// What is included by name.
    defined: BTreeMap<String, (String, Vec<Node>)>,
}

impl Templates {
    /// Reads a file. One whose name begins with an underscore only defines what others include.
    ///
    /// # Errors
    ///
    /// It is no template.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), TemplateError> {
        let parsed = parse::file(text).map_err(|(line, problem)| TemplateError {
            file: name.to_owned(),
            line,
            problem,
        })?;
        for (defined, body) in parsed.defined {
            self.defined.insert(defined, (name.to_owned(), body));
        }
        let base = name.rsplit('/').next().unwrap_or(name);
        if !base.starts_with('_') {
            self.files.push((name.to_owned(), parsed.body));
        }
        Ok(())
    }

    /// The text of every file with these values; `files` answers `.Files.Get`, with nothing for a file that is not there.
    ///
    /// # Errors
    ///
    /// A template cannot be run with these values.
    pub fn render(&self, root: &Value, files: &dyn Fn(&str) -> String) -> Result<Vec<(String, String)>, TemplateError> {
        self.render_with(root, files, &|_, _| None)
    }

    /// As [`Templates::render`], with more functions.
    ///
    /// # Errors
    ///
    /// A template cannot be run with these values.
    pub fn render_with(
        &self,
        root: &Value,
        files: &dyn Fn(&str) -> String,
        more: More<'_>,
    ) -> Result<Vec<(String, String)>, TemplateError> {
        let scope = eval::Scope {
            templates: self,
            files,
            more,
        };
        self.files
            .iter()
            .map(|(name, body)| Ok((name.clone(), eval::run(&scope, name, body, root)?)))
            .collect()
    }
}
