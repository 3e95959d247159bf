//! `corten validate`: objects of files, each on its own, as admission judges them.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use corten_api::decode;
use corten_api::diagnostic::Diagnostic;
use corten_api::validate;

use super::analyze::read;
use crate::output;

/// Judge objects of files one by one
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What is wrong is printed on standard error, with file, line and column; see also `corten analyze`, which looks at
objects together. Exit codes: 0 all objects are valid, 1 some are not, or a file cannot be read. Example:
  kubectl get virtualservices -A -o yaml | corten validate -f -"
)]
pub(crate) struct Validate {
    /// A file, a directory with everything below it, or - for standard input; can be given several times
    #[arg(short, long, required = true, value_name = "FILE", value_delimiter = ',')]
    filename: Vec<PathBuf>,
}

impl Validate {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let texts = read::texts(&self.filename)?;
        ensure!(!texts.is_empty(), "there is no YAML or JSON file in what -f names");
        let mut refused = false;
        for (name, text) in &texts {
            let found = judged(name, text);
            for diagnostic in &found {
                eprintln!("{diagnostic}");
            }
            let is_bad = found.iter().any(Diagnostic::is_error);
            refused |= is_bad;
            match found.is_empty() {
                _ if is_bad => {}
                true => output::line(format!("{name:?} is valid"))?,
                false => output::line(format!("{name:?} has warnings"))?,
            }
        }
        Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn judged(name: &str, text: &str) -> Vec<Diagnostic> {
    let (objects, mut found) = decode::objects(name, text);
    found.extend(objects.iter().flat_map(validate::object));
    found
}
