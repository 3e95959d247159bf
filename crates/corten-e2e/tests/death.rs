//! Death by a signal that cannot be caught: of either process, nothing is left, and the next `up` works.

use std::io::Read;

use corten_e2e::{As, Processes, Runtime, everything_gone, interfaces};

fn check(user: As, detached: bool, victim: fn(&Processes) -> i32) {
    if let Err(reason) = user.possible() {
        corten_rt::skip!("{reason}");
    }
    let runtime = Runtime::new(user);
    let before = interfaces();
    for _ in 0..3 {
        let foreground = (!detached).then(|| {
            let mut up = runtime.foreground(&[]);
            let mut output = up.stdout.take().expect("a pipe");
            let mut seen = String::new();
            let mut block = [0; 4096];
            while !seen.contains("export KUBECONFIG=") {
                let count = output.read(&mut block).expect("text");
                assert!(count > 0, "it ended before it was ready: {seen}");
                seen.push_str(&String::from_utf8_lossy(&block[..count]));
            }
            up
        });
        if detached {
            runtime.up(&[]);
        }
        let processes = runtime.processes("default");
        let victim = victim(&processes);
        Processes::kill(victim);
        if let Some(mut up) = foreground {
            let mut errors = String::new();
            up.stderr
                .take()
                .expect("a pipe")
                .read_to_string(&mut errors)
                .expect("text");
            assert!(!up.wait().expect("it can be waited for").success());
            if victim == processes.inner {
                assert!(errors.contains("process 1 ended unexpectedly (signal 9)"), "{errors}");
            }
        }
        // At once: what is left of the one before is waited for.
        runtime.up(&[]);
        let processes = runtime.processes("default");
        runtime.corten(&["down"]).ok();
        everything_gone(runtime.dir(), &processes, &before);
    }
}

#[test]
fn of_the_outer_process_as_root() {
    check(As::Root, true, |processes| processes.outer);
}

#[test]
fn of_the_outer_process_as_a_user() {
    check(As::User, true, |processes| processes.outer);
}

#[test]
fn of_the_inner_process_as_root() {
    check(As::Root, false, |processes| processes.inner);
}

#[test]
fn of_the_inner_process_as_a_user() {
    check(As::User, false, |processes| processes.inner);
}
