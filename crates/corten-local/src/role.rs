//! The roles this executable plays besides the user's command: it is started again, by itself, inside namespaces.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::doctor::probe;
use crate::up;

/// Plays the role named by the arguments, if they name one. The first thing `main` does.
///
/// Roles are not commands: they work only when started with the open files they expect.
pub fn play(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.into_iter().skip(1).map_while(|arg| arg.into_string().ok());
    match (args.next()?.as_str(), args.next()) {
        (up::ROLE, Some(count)) => Some(up::process_one::main(&count)),
        (probe::ROLE, Some(count)) => Some(probe::main(&count)),
        (probe::NESTED, None) => Some(ExitCode::SUCCESS),
        _ => None,
    }
}
