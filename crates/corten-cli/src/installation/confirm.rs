//! Asking before something is changed.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Result, ensure};

/// Asks, unless the answer was given with the command. Where nobody can answer, it has to be.
pub(crate) fn confirm(question: &str, given: bool) -> Result<bool> {
    if given {
        return Ok(true);
    }
    let mut input = std::io::stdin().lock();
    ensure!(
        std::io::stdin().is_terminal(),
        "nobody can be asked here: {question} Say so with -y"
    );
    eprint!("{question} (y/N) ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
