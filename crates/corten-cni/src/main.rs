//! The plugin's process: environment and standard input in, one JSON document and an exit code out.

use std::io::{Read, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut input = Vec::new();
    let result = match std::io::stdin().lock().read_to_end(&mut input) {
        Ok(_) => {
            let mut agent = corten_cni::agent::Socket::default();
            corten_cni::run(&|name| std::env::var(name).ok(), &input, &mut agent)
        }
        Err(error) => Err(corten_cni::Error::Io(error.to_string()).document("1.1.0")),
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
