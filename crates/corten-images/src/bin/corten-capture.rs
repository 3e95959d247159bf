//! `corten-capture`: see [`corten_images::capture`].

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    corten_images::capture::main(&corten_images::capture::Arguments::parse())
}
