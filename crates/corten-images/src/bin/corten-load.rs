//! `corten-load`: see [`corten_images::load`].

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    corten_images::load::main(&corten_images::load::Arguments::parse())
}
