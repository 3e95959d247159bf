//! The plugin's process: environment and standard input in, one JSON document and an exit code out.

use std::io::{Read, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut input = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut input);
    let result = match read {
        Ok(_) => corten_bridge::run(&|name| std::env::var(name).ok(), &input),
        Err(error) => {
            Err(corten_bridge::Error::Io(format!("cannot read the configuration: {error}")).document("1.1.0"))
        }
    };
    let (document, code) = match result {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(document)) => (document, ExitCode::SUCCESS),
        Err(document) => (document, ExitCode::FAILURE),
    };
    match writeln!(std::io::stdout().lock(), "{document}") {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}
