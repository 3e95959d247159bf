//! `corten-echo`: see [`corten_images::echo`].

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    corten_images::echo::main(&corten_images::echo::Arguments::parse())
}
