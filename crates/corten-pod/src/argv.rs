//! Which file a container's command is, and what a user is told when there is none. Pure: the file system is asked through a closure.

use std::path::{Path, PathBuf};

use crate::protocol::{Failure, FailureKind};

/// Where programs are looked for when the environment does not say.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is found at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory,
    /// A file that may not be executed, or that is behind a directory that may not be entered.
    Forbidden,
    /// A program.
    Program,
}

/// The file to execute for the first word of a command: the word itself when it has a slash, else the first program of that name in `path`.
pub fn resolve(word: &str, path: &str, probe: impl Fn(&Path) -> Found) -> Result<PathBuf, Failure> {
    let fail = |kind, what: &str| Err(Failure::new(kind, format!("exec: {word:?}: {what}")));
    if word.is_empty() {
        return fail(FailureKind::NotFound, "executable file not found in $PATH");
    }
    if word.contains('/') {
        return match probe(Path::new(word)) {
            Found::Program => Ok(word.into()),
            Found::Nothing => fail(
                FailureKind::NotFound,
                &format!("stat {word}: no such file or directory"),
            ),
            Found::Directory => fail(FailureKind::Permission, "is a directory"),
            Found::Forbidden => fail(FailureKind::Permission, "permission denied"),
        };
    }
    let mut forbidden = false;
    for dir in path.split(':') {
        let candidate = Path::new(if dir.is_empty() { "." } else { dir }).join(word);
        match probe(&candidate) {
            Found::Program => return Ok(candidate),
            Found::Forbidden => forbidden = true,
            Found::Nothing | Found::Directory => {}
        }
    }
    if forbidden {
        return fail(FailureKind::Permission, "permission denied");
    }
    fail(FailureKind::NotFound, "executable file not found in $PATH")
}

/// The environment a program gets: what was asked for (of a name given twice, the last), and defaults for what every program expects.
pub fn environment(asked: &[(String, String)], home: &str, hostname: &str, tty: bool) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = Vec::with_capacity(asked.len() + 4);
    for (name, value) in asked {
        match env.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => old.clone_from(value),
            None => env.push((name.clone(), value.clone())),
        }
    }
    let terminal = if tty { "xterm" } else { "" };
    for (name, value) in [
        ("PATH", DEFAULT_PATH),
        ("HOSTNAME", hostname),
        ("HOME", home),
        ("TERM", terminal),
    ] {
        if !value.is_empty() && env.iter().all(|(known, _)| known != name) {
            env.push((name.to_owned(), value.to_owned()));
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(path: &Path) -> Found {
        match path.to_str().unwrap() {
            "/usr/bin/env" | "/bin/env" | "./here" | "/app/run" => Found::Program,
            "/etc/passwd" | "/usr/bin/secret" => Found::Forbidden,
            "/tmp" | "/usr/bin/dir" => Found::Directory,
            _ => Found::Nothing,
        }
    }

    #[track_caller]
    fn check(word: &str, expected: Result<&str, &str>) {
        let found = resolve(word, "/usr/bin:/bin:", probe).map_err(|failure| failure.message);
        assert_eq!(found, expected.map(PathBuf::from).map_err(str::to_owned));
    }

    #[test]
    fn the_first_program_in_the_path_is_taken() {
        check("env", Ok("/usr/bin/env"));
    }

    #[test]
    fn an_empty_element_of_the_path_is_the_working_directory() {
        check("here", Ok("./here"));
    }

    #[test]
    fn a_word_with_a_slash_is_a_path() {
        check("/app/run", Ok("/app/run"));
        check("/nope", Err("exec: \"/nope\": stat /nope: no such file or directory"));
        check("/etc/passwd", Err("exec: \"/etc/passwd\": permission denied"));
        check("/tmp", Err("exec: \"/tmp\": is a directory"));
    }

    #[test]
    fn what_is_not_in_the_path_is_said_so() {
        check("foo", Err("exec: \"foo\": executable file not found in $PATH"));
        check("dir", Err("exec: \"dir\": executable file not found in $PATH"));
        check("secret", Err("exec: \"secret\": permission denied"));
        check("", Err("exec: \"\": executable file not found in $PATH"));
    }

    #[test]
    fn defaults_fill_the_environment_and_the_last_value_wins() {
        let asked = [("A", "1"), ("PATH", "/x"), ("A", "2")].map(|(name, value)| (name.into(), value.into()));
        let env = environment(&asked, "/root", "pod-0", true);
        let env: Vec<_> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(env, ["A=2", "PATH=/x", "HOSTNAME=pod-0", "HOME=/root", "TERM=xterm"]);
    }
}
