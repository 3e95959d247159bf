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
