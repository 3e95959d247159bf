//! For tests that need namespaces of their own: root's powers over an empty network, and nothing left behind.

use std::io::{self, BufRead as _};
use std::path::Path;

use crate::namespaces::Namespaces;
use crate::spawn::{Spawn, SpawnError};
use crate::{Exit, mounts};

/// Names the test that runs in the namespaces made for it.
const VARIABLE: &str = "CORTEN_ISOLATED_TEST";

/// How the test at hand is to go on.
#[derive(Debug)]
pub enum Isolation {
    /// This is process 1 of fresh user (without root), mount, PID, network, UTS and IPC namespaces: do the test.
    Inside,
    /// The test ran, and passed, in a process of its own: nothing is left to do here.
    Done,
    /// It cannot be run on this machine, for this reason: skip it.
    Refused(String),
}

/// Runs the calling `#[test]` once more, alone, in a process with namespaces of its own, and says which of both processes this is.
///
/// ```ignore
/// #[test]
/// fn a_bridge_can_be_made() {
///     match isolated() {
///         Isolation::Inside => {}
///         Isolation::Done => return,
///         Isolation::Refused(reason) => corten_rt::skip!("{reason}"),
///     }
///     // ... the test
/// }
/// ```
///
/// # Panics
/// If the test failed in its namespaces, or was not called from a test's own thread.
pub fn isolated() -> Isolation {
    let thread = std::thread::current();
    let test = thread.name().filter(|name| *name != "main").map_or_else(
        // With one test thread the harness runs tests on its own.
        || std::env::var(VARIABLE).expect("isolated() is called from a test's own thread"),
        str::to_owned,
    );
    if std::env::var(VARIABLE).is_ok_and(|name| name == test) {
        prepare().expect("the namespaces were just made for this");
        return Isolation::Inside;
    }
    let (output, writer) = io::pipe().expect("a pipe can be made");
    let errors = writer.try_clone().expect("a pipe can be shared");
    let spawn = Spawn::this_program()
        .stdio(1, writer.into())
        .stdio(2, errors.into())
        .args(["--exact", &test, "--nocapture", "--test-threads=1", "--include-ignored"])
        .inherit_env()
        .env(VARIABLE, &test)
        .namespaces(Namespaces::isolated());
    match spawn.start() {
        Ok(mut child) => {
            relay(output);
            let exit = child.wait().expect("a child can be waited for");
            assert_eq!(
                exit,
                Exit::Code(0),
                "{test} failed in its own namespaces; its output is above"
            );
            Isolation::Done
        }
        Err(error @ (SpawnError::Namespaces(_) | SpawnError::UserMap { .. })) => Isolation::Refused(error.to_string()),
        Err(error) => panic!("{error}"),
    }
}

/// Prints what a second run of a test says as output of the first: shown if it fails, and never taken for a test of its own.
///
/// # Panics
/// If it cannot be read.
pub fn relay(output: impl io::Read) {
    for line in io::BufReader::new(output).split(b'\n') {
        let line = line.expect("a pipe can be read");
        println!("| {}", String::from_utf8_lossy(&line));
    }
}

/// What every process 1 of fresh namespaces does first.
fn prepare() -> io::Result<()> {
    mounts::make_private()?;
    mounts::proc(Path::new("/proc"))?;
    mounts::fresh_sys()?;
    mounts::shadow(Path::new("/run")).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::NetNs;

    #[test]
    fn inside_there_is_an_empty_network_and_a_fresh_proc() {
        match isolated() {
            Isolation::Inside => {}
            Isolation::Done => return,
            Isolation::Refused(reason) => corten_rt::skip!("{reason}"),
        }
        assert_eq!(std::process::id(), 1);
        let interfaces = || {
            fs::read_dir("/sys/class/net")
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect::<Vec<_>>()
        };
        assert_eq!(interfaces(), ["lo"]);
        let own = fs::read_link("/proc/thread-self/ns/net").unwrap();

        let other = NetNs::create().unwrap();
        let inside = other
            .run(|| fs::read_link("/proc/thread-self/ns/net").unwrap())
            .unwrap();
        assert_ne!(inside, own);
        assert_eq!(
            fs::read_link("/proc/thread-self/ns/net").unwrap(),
            own,
            "this thread stayed"
        );

        // Not in /run/netns: where that exists it is the machine's, and root's.
        let pinned = Path::new("/run/corten-test");
        other.pin(pinned).unwrap();
        drop(other);
        let again = NetNs::open(pinned).unwrap();
        assert_eq!(
            again
                .run(|| fs::read_link("/proc/thread-self/ns/net").unwrap())
                .unwrap(),
            inside
        );
    }
}
