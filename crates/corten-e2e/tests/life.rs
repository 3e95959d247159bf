//! The life of an instance: up, status, down, up again, reset.

use std::io::{BufRead, BufReader, Read};

use corten_e2e::{As, Runtime, everything_gone, interfaces};
use rustix::process::{Pid, Signal, kill_process};

/// Runs a test as root and as an ordinary user, where possible.
macro_rules! as_both {
    ($($test:ident;)*) => { $(mod $test {
        use super::*;

        #[test]
        fn as_root() { run(As::Root); }

        #[test]
        fn as_user() { run(As::User); }

        fn run(user: As) {
            if let Err(reason) = user.possible() {
                corten_rt::skip!("{reason}");
            }
            super::$test(&Runtime::new(user));
        }
    })* };
}

as_both! {
    it_comes_and_goes;
    the_foreground_ends_on_a_signal;
    a_second_one_is_refused_and_others_run_beside_it;
    it_keeps_its_port;
}

fn it_comes_and_goes(runtime: &Runtime) {
    let before = interfaces();
    let shown = runtime.up(&[]);
    let kubeconfig = runtime.state("default").join("kubeconfig");
    assert!(
        shown.contains(&format!("export KUBECONFIG={}", kubeconfig.display())),
        "{shown}"
    );
    let status = runtime.status("default");
    assert_eq!(status["phase"], "ready", "{status}");
    assert!(
        status["log"]
            .as_str()
            .is_some_and(|log| std::path::Path::new(log).is_file()),
        "{status}"
    );
    let processes = runtime.processes("default");
    assert_eq!(runtime.corten(&["down"]).ok(), "\"default\" is stopped\n");
    everything_gone(runtime.dir(), &processes, &before);

    assert!(
        runtime.corten(&["status"]).code == Some(3),
        "a stopped instance has a code of its own"
    );
    assert_eq!(runtime.corten(&["down"]).ok(), "\"default\" was not running\n");
    runtime.up(&[]);
    let refused = runtime.corten(&["reset"]).fails(1);
    assert!(refused.contains("is running as process"), "{refused}");
    runtime.corten(&["down"]).ok();
    runtime.corten(&["reset"]).ok();
    assert!(!runtime.state("default").exists());
}

fn the_foreground_ends_on_a_signal(runtime: &Runtime) {
    let before = interfaces();
    let mut up = runtime.foreground(&[]);
    let mut output = BufReader::new(up.stdout.take().expect("a pipe"));
    let mut line = String::new();
    while !line.starts_with("export KUBECONFIG=") {
        line.clear();
        assert!(
            output.read_line(&mut line).expect("text") > 0,
            "it ended before it was ready"
        );
    }
    let processes = runtime.processes("default");
    kill_process(Pid::from_child(&up), Signal::INT).expect("it runs");
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("text");
    assert!(rest.ends_with("corten default: stopped\n"), "{rest}");
    assert!(up.wait().expect("it can be waited for").success());
    everything_gone(runtime.dir(), &processes, &before);
}

fn a_second_one_is_refused_and_others_run_beside_it(runtime: &Runtime) {
    runtime.up(&[]);
    let pid = runtime.processes("default").outer;
    for command in [&["up"][..], &["up", "--detach"]] {
        let refused = runtime.corten(command).fails(1);
        let expected = format!("\"default\" is already running as process {pid}: stop it with `corten down`");
        assert!(refused.contains(&expected), "{refused}");
    }
    runtime.up(&["--name", "other", "--nodes", "1"]);
    let all = runtime.corten(&["status", "--all"]).ok();
    assert_eq!(all.matches(" ready ").count(), 2, "{all}");
    runtime.corten(&["down"]).ok();
    assert_eq!(runtime.status("other")["phase"], "ready");
}

fn it_keeps_its_port(runtime: &Runtime) {
    runtime.up(&[]);
    let server = runtime.status("default")["server"].clone();
    runtime.corten(&["down"]).ok();
    runtime.up(&[]);
    assert_eq!(runtime.status("default")["server"], server);
}
