//! Go templates, as far as our own charts use them: text to tree, tree and values to text.
//!
//! The charts are for Helm; this reads the same files, so that `corten` and `helm` cannot disagree about an object. Values never
//! change while a template runs, and what a chart does not use is an error that names it, rather than something like it.

mod eval;
mod functions;
mod lex;
mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value;

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
    pub fn render(&self, root: &Value, files: &dyn Fn(&str) -> String) -> Result<Vec<(String, String)>, TemplateError> {
        let scope = eval::Scope { templates: self, files };
        self.files
            .iter()
            .map(|(name, body)| Ok((name.clone(), eval::run(&scope, name, body, root)?)))
            .collect()
    }
}
