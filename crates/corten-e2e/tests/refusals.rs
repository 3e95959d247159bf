//! What cannot be done is said clearly: what, with which value, and what to do instead.

use std::net::TcpListener;

use corten_e2e::{As, Runtime};

/// Runs a command that must fail with `code`, and looks for `parts` in what it says.
#[track_caller]
fn check(runtime: &Runtime, args: &[&str], code: i32, parts: &[&str]) {
    let said = runtime.corten(args).fails(code);
    for part in parts {
        assert!(said.contains(part), "{args:?}: no {part:?} in: {said}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let runtime = Runtime::new(As::User);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port().to_string();
    for args in [&["up", "--port", &port][..], &["up", "--detach", "--port", &port]] {
        check(
            &runtime,
            args,
            1,
            &[&format!("port {port} on 127.0.0.1 is in use"), "--port"],
        );
    }
}

#[test]
fn unknown_and_impossible_names_are_named() {
    let runtime = Runtime::new(As::User);
    for command in ["down", "status", "reset"] {
        check(
            &runtime,
            &[command, "--name", "nobody"],
            1,
            &["there is no instance \"nobody\"", "corten up"],
        );
    }
    check(
        &runtime,
        &["up", "--name", "No/Body"],
        1,
        &["\"No/Body\" cannot name an instance", "lower-case"],
    );
}

#[test]
fn wrong_usage_has_a_code_of_its_own() {
    let runtime = Runtime::new(As::User);
    check(&runtime, &["up", "--nodes", "0"], 2, &["--nodes"]);
    check(&runtime, &["up", "--image", "nonsense"], 2, &["example.org/web="]);
    check(&runtime, &["fly"], 2, &["fly"]);
}

#[test]
fn a_state_directory_that_cannot_be_is_named() {
    let runtime = Runtime::new(As::User);
    std::fs::write(runtime.dir().join("file"), "").expect("the test's own directory");
    let mut up = runtime.command(&["up"]);
    let output = up
        .env("XDG_STATE_HOME", runtime.dir().join("file"))
        .output()
        .expect("corten runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("cannot use the state directory") && said.contains("file/corten/default"),
        "{said}"
    );
}

/// Runs a shell script as root of a user namespace with its own mounts, in which `corten` can be found.
#[track_caller]
fn confined(runtime: &Runtime, script: &str) -> Option<String> {
    let path = format!(
        "{}:{}",
        runtime.dir().join("bin").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let output = runtime
        .program("unshare", &["-Urm", "sh", "-ec", script])
        .env("PATH", path)
        .output()
        .ok()?;
    Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn the_setting_that_forbids_user_namespaces_is_named() {
    let runtime = Runtime::new(As::User);
    let script = "command -v setpriv >/dev/null || exit 0
        echo 0 >/proc/sys/user/max_user_namespaces
        for command in up doctor; do setpriv --bounding-set=-all --inh-caps=-all corten $command || true; done";
    let Some(said) = confined(&runtime, script).filter(|said| !said.is_empty()) else {
        corten_rt::skip!("needs unshare and setpriv (package util-linux)");
    };
    assert_eq!(said.matches("user.max_user_namespaces is 0").count(), 2, "{said}");
    assert_eq!(
        said.matches("sysctl -w user.max_user_namespaces=65536").count(),
        2,
        "{said}"
    );
}

#[test]
fn a_full_disk_is_named() {
    let runtime = Runtime::new(As::User);
    let script = "mount -t tmpfs -o size=1m none \"$XDG_STATE_HOME\"; corten up --detach || true; corten up || true";
    let Some(said) = confined(&runtime, script) else {
        corten_rt::skip!("needs unshare (package util-linux)");
    };
    assert_eq!(said.matches("is full (").count(), 2, "{said}");
    assert_eq!(
        said.matches("make room there, or set XDG_STATE_HOME").count(),
        2,
        "{said}"
    );
}
