//! Sandboxes with real namespaces and programs: as root, and as an unprivileged user in a user namespace with a single id.
//!
//! Every test runs itself again as process 1 of namespaces of its own ([`isolated`]); as root, once more as an ordinary user.

use std::fs;
use std::future::Future;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use corten_linux::NetNs;
use corten_linux::testing::{Isolation, isolated, relay};
use corten_pod::sandbox::{
    ContainerSpec, Exit, HostsEntry, Mount, NetworkNamespace, ResolvConf, Sandbox, SandboxSpec, Security, StartError,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// Set for the second run of a test, as an ordinary user.
const AS_USER: &str = "CORTEN_TEST_AS_USER";

/// An id that is somebody else's than root's; it needs no account.
const ORDINARY: u32 = 61_234;

/// Runs a test in namespaces of its own, as root and as an ordinary user, as far as this machine lets it.
fn run<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    match isolated() {
        Isolation::Inside => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(test());
        }
        Isolation::Done => as_ordinary_user(),
        Isolation::Refused(reason) => corten_rt::skip!("{reason}"),
    }
}

/// Runs the calling test once more without root's powers.
fn as_ordinary_user() {
    if !rustix::process::geteuid().is_root() || std::env::var_os(AS_USER).is_some() {
        return;
    }
    let thread = std::thread::current();
    let test = thread.name().expect("tests run in named threads");
    let (output, writer) = std::io::pipe().unwrap();
    let mut again = std::process::Command::new("/proc/self/exe");
    again
        .args(["--exact", test, "--nocapture"])
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .env(AS_USER, "1")
        .uid(ORDINARY)
        .gid(ORDINARY);
    match again.spawn() {
        Ok(mut child) => {
            // It holds the other end of the pipe.
            drop(again);
            relay(output);
            assert!(
                child.wait().unwrap().success(),
                "{test} failed as an ordinary user; its output is above"
            );
        }
        Err(error) => corten_rt::skip!("an ordinary user cannot execute this test: {error}"),
    }
}

/// A pod with what a test needs around it.
struct Pod {
    sandbox: Sandbox,
    exits: mpsc::Receiver<Exit>,
    dir: TempDir,
}

impl Pod {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut SandboxSpec)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut spec = SandboxSpec {
            namespace: "shop".into(),
            name: "web".into(),
            uid: "1".into(),
            hostname: "web".into(),
            dir: dir.path().join("pod"),
            dns: ResolvConf {
                nameservers: vec!["10.96.0.10".parse().unwrap()],
                searches: vec!["shop.svc.cluster.local".into()],
                options: vec!["ndots:5".into()],
            },
            hosts: Vec::new(),
            netns: Default::default(),
            share_process_namespace: false,
            masks: Vec::new(),
        };
        change(&mut spec);
        let mut sandbox = Sandbox::create(spec).await.unwrap();
        let exits = sandbox.exits();
        Self { sandbox, exits, dir }
    }

    /// A container that runs a shell script.
    fn script(&self, name: &str, script: &str) -> ContainerSpec {
        ContainerSpec {
            name: name.into(),
            argv: ["sh", "-c", script].map(str::to_owned).into(),
            log_path: self.log_path(name),
            ..ContainerSpec::default()
        }
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("logs/{name}/0.log"))
    }

    /// What a container printed: `stdout F line` (or with `\\r\\n`, as terminals have it).
    fn log(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.log_path(name)).unwrap();
        text.lines()
            .map(|line| line.split_once(' ').unwrap().1.to_owned())
            .collect()
    }

    async fn exit(&mut self) -> Exit {
        tokio::time::timeout(Duration::from_secs(30), self.exits.recv())
            .await
            .expect("an exit in time")
            .unwrap()
    }

    /// Runs a container to its end and gives what it printed.
    async fn output(&mut self, container: ContainerSpec) -> Vec<String> {
        let name = container.name.clone();
        let _ = fs::remove_file(self.log_path(&name));
        self.sandbox.start(container).await.unwrap();
        let exit = self.exit().await;
        let log = self.log(&name);
        assert_eq!((exit.container.as_str(), exit.code), (name.as_str(), 0), "{log:#?}");
        log.into_iter()
            .map(|line| line.splitn(3, ' ').nth(2).unwrap_or_default().to_owned())
            .collect()
    }

    async fn exec(&self, container: &str, argv: &[&str], input: &str) -> (String, String, i32) {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        let mut exec = self.sandbox.exec(container, argv, false, true).await.unwrap();
        let mut stdin = exec.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let (mut out, mut err) = (String::new(), String::new());
        exec.stdout.read_to_string(&mut out).await.unwrap();
        exec.stderr.unwrap().read_to_string(&mut err).await.unwrap();
        (out, err, exec.exit.await.unwrap().code)
    }
}

/// The processes this process 1 can see, by the names of their programs.
fn processes(name: &str) -> usize {
    let comm = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("comm")).ok();
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(comm);
    all.filter(|comm| comm.trim() == name).count()
}

#[test]
fn a_container_runs_to_its_end() {
    run(|| async {
        let mut pod = Pod::new().await;
        let mut container = pod.script(
            "main",
            "echo $GREETING from $HOSTNAME pid $$; echo oops >&2; printf bye > /dev/last-words; exit 3",
        );
        container.env = vec![("GREETING".into(), "hello".into())];
        container.termination_message_path = Some("/dev/last-words".into());
        pod.sandbox.start(container).await.unwrap();
        let exit = pod.exit().await;
        assert_eq!(
            (exit.code, exit.signal, exit.message.as_deref()),
            (3, None, Some("bye"))
        );
        let mut log = pod.log("main");
        log.sort();
        assert_eq!(log, ["stderr F oops", "stdout F hello from web pid 1"]);
    });
}

/// A shell that waits for what it started sleeps until it is told of an end.
#[test]
fn programs_have_no_signals_blocked() {
    run(|| async {
        let mut pod = Pod::new().await;
        let mut blocked = pod.script("main", "");
        blocked.argv = ["grep", "SigBlk", "/proc/self/status"].map(str::to_owned).into();
        assert_eq!(pod.output(blocked).await, ["SigBlk:\t0000000000000000"]);
        assert_eq!(
            pod.output(pod.script("waits", "sleep 0.01 & wait; echo waited")).await,
            ["waited"]
        );
    });
}

#[test]
fn what_a_container_writes_is_its_own() {
    run(|| async {
        let mut pod = Pod::new().await;
        let path = "/usr/lib/corten-was-here";
        let write = format!("echo x > {path} && echo y > /tmp/x && echo z > /run/x && mkdir /new && ls /tmp");
        assert_eq!(pod.output(pod.script("main", &write)).await, ["x"]);
        assert!(!Path::new(path).exists() && !Path::new("/new").exists() && !Path::new("/run/x").exists());
        let look = format!("ls {path} /tmp/x /run/x 2>/dev/null | wc -l");
        assert_eq!(
            pod.output(pod.script("main", &look)).await,
            ["0"],
            "the same container, started again"
        );
    });
}

#[test]
fn a_pod_has_files_devices_and_processes_of_its_own() {
    run(|| async {
        let hosts = vec![HostsEntry {
            address: "10.244.0.9".parse().unwrap(),
            names: vec!["web".into()],
        }];
        let mut pod = Pod::new().await;
        pod.sandbox.set_hosts(hosts);
        let cat = "hostname; cat /etc/hostname; tail -n 1 /etc/hosts; cat /etc/resolv.conf; ls /sys/class/net";
        assert_eq!(
            pod.output(pod.script("main", cat)).await,
            [
                "web",
                "web",
                "10.244.0.9\tweb",
                "search shop.svc.cluster.local",
                "nameserver 10.96.0.10",
                "options ndots:5",
                "lo"
            ]
        );
        let devices = "echo lost > /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; echo out > /dev/stdout; \
            echo s > /dev/shm/x && cat /dev/shm/x; test -c /dev/ptmx && echo ptmx; cat /proc/1/comm; ls -d /proc/[0-9]* | wc -l > /dev/null";
        assert_eq!(
            pod.output(pod.script("main", devices)).await,
            ["3", "3", "out", "s", "ptmx", "sh"]
        );
        let again = "cat /dev/shm/x; echo 1 > /proc/sys/kernel/panic || echo read-only";
        let found = pod.output(pod.script("other", again)).await;
        let has = |wanted: &str| found.iter().any(|line| line == wanted);
        assert!(
            has("s") && has("read-only"),
            "shared memory is the pod's, kernel settings are not: {found:?}"
        );
    });
}

#[test]
fn volumes_are_mounted_on_top() {
    run(|| async {
        let mut pod = Pod::new().await;
        let volume = pod.dir.path().join("volume");
        fs::create_dir_all(volume.join("part")).unwrap();
        fs::write(volume.join("part/file"), "content\n").unwrap();
        symlink("/etc", volume.join("escape")).unwrap();
        let mount = |target: &str, sub_path: Option<&str>, read_only| Mount {
            source: volume.clone(),
            target: target.into(),
            read_only,
            sub_path: sub_path.map(PathBuf::from),
        };
        let mut container = pod.script(
            "main",
            "cat /data/part/file /run/secrets/deep/file /etc/one-file; echo new > /data/new; echo no > /sealed/new || echo sealed; ls /made",
        );
        container.mounts = vec![
            mount("/data", None, false),
            mount("/sealed", None, true),
            mount("/var/run/secrets/deep", Some("part"), true),
            mount("/etc/one-file", Some("part/file"), true),
            mount("/made", Some("on/demand"), false),
        ];
        let found = pod.output(container).await;
        assert_eq!(found[..3], ["content", "content", "content"]);
        assert!(found.iter().any(|line| line == "sealed"), "{found:?}");
        assert_eq!(fs::read_to_string(volume.join("new")).unwrap(), "new\n");
        assert!(volume.join("on/demand").is_dir());

        let mut bad = pod.script("bad", "true");
        bad.mounts = vec![mount("/data", Some("escape"), false)];
        let error = pod.sandbox.start(bad).await.unwrap_err();
        assert!(
            matches!(&error, StartError::Invalid(message) if message.contains("sub path escape")),
            "{error}"
        );
        let mut bad = pod.script("bad", "true");
        bad.mounts = vec![Mount {
            source: "/does/not/exist".into(),
            target: "/data".into(),
            ..Mount::default()
        }];
        let error = pod.sandbox.start(bad).await.unwrap_err();
        assert!(error.to_string().contains("mount /does/not/exist"), "{error}");
    });
}

#[test]
fn a_command_that_cannot_run_is_explained() {
    run(|| async {
        let pod = Pod::new().await;
        let start = async |argv: &[&str]| {
            let mut container = pod.script("main", "");
            container.argv = argv.iter().map(|word| (*word).to_owned()).collect();
            pod.sandbox.start(container).await.unwrap_err()
        };
        let not_found = |message: &str| StartError::NotFound(message.into());
        let permission = |message: &str| StartError::Permission(message.into());
        assert_eq!(
            start(&["foo"]).await,
            not_found("exec: \"foo\": executable file not found in $PATH")
        );
        assert_eq!(
            start(&["/foo"]).await,
            not_found("exec: \"/foo\": stat /foo: no such file or directory")
        );
        assert_eq!(
            start(&["/etc/passwd"]).await,
            permission("exec: \"/etc/passwd\": permission denied")
        );
        assert_eq!(start(&["/etc"]).await, permission("exec: \"/etc\": is a directory"));
        assert!(matches!(start(&[]).await, StartError::Invalid(_)));
        let mut container = pod.script("main", "sleep 1000");
        container.security.capabilities_add = vec!["NET_ADMN".into()];
        let error = pod.sandbox.start(container).await.unwrap_err();
        assert_eq!(error, StartError::Invalid("there is no capability \"NET_ADMN\"".into()));

        pod.sandbox.start(pod.script("main", "sleep 1000")).await.unwrap();
        let again = pod.sandbox.start(pod.script("main", "true")).await.unwrap_err();
        assert_eq!(again, StartError::AlreadyRunning("main".into()));
        let exec = pod.sandbox.exec("main", vec!["foo".into()], false, false).await.err();
        assert_eq!(
            exec,
            Some(not_found("exec: \"foo\": executable file not found in $PATH"))
        );
        let exec = pod.sandbox.exec("other", vec!["true".into()], false, false).await.err();
        assert_eq!(exec, Some(StartError::NotRunning("other".into())));
    });
}

#[test]
fn programs_run_in_a_running_container() {
    run(|| async {
        let mut pod = Pod::new().await;
        let mut container = pod.script("main", "echo up > /tmp/new; mv /tmp/new /tmp/state; sleep 1000");
        container.env = vec![("COLOUR".into(), "red".into())];
        container.cwd = Some("/made/for/it".into());
        pod.sandbox.start(container).await.unwrap();
        let script = "until test -e /tmp/state; do :; done; cat /tmp/state; cat; pwd; echo $COLOUR >&2; exit 5";
        let (out, err, code) = pod.exec("main", &["sh", "-c", script], "input\n").await;
        assert_eq!(
            (out.as_str(), err.as_str(), code),
            ("up\ninput\n/made/for/it\n", "red\n", 5)
        );

        let argv = [
            "sh",
            "-c",
            "stty size; tty; read line; stty size; echo got $line; exit 4",
        ]
        .map(str::to_owned);
        let mut exec = pod.sandbox.exec("main", argv.into(), true, true).await.unwrap();
        let mut seen = Vec::new();
        let mut read_until = async |exec: &mut corten_pod::sandbox::Exec, wanted: &str| {
            while !String::from_utf8_lossy(&seen).contains(wanted) {
                let count = exec.stdout.read_buf(&mut seen).await.unwrap();
                assert!(count > 0, "{wanted:?} in {:?}", String::from_utf8_lossy(&seen));
            }
        };
        read_until(&mut exec, "/dev/pts/0\r\n").await;
        exec.terminal.as_ref().unwrap().resize(132, 43).unwrap();
        exec.stdin.as_mut().unwrap().write_all(b"line\n").await.unwrap();
        read_until(&mut exec, "43 132\r\ngot line\r\n").await;
        assert_eq!(exec.exit.await.unwrap().code, 4);

        // A program that nobody holds any more ends, with those it started.
        let argv = ["sh", "-c", "sleep 1000 & sleep 1000 & echo $$ $!; wait"].map(str::to_owned);
        let mut exec = pod.sandbox.exec("main", argv.into(), false, false).await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\n") {
            assert!(
                exec.stdout.read_buf(&mut seen).await.unwrap() > 0,
                "it printed {seen:?}"
            );
        }
        drop(exec.hold);
        let end = exec.exit.await.unwrap();
        assert_eq!((end.code, end.signal), (137, Some(9)));
        let both = String::from_utf8(seen).unwrap();
        // The first process of the container need not collect what it inherits.
        let runs = "grep -qs '^State:.[^ZX]' /proc/$pid/status";
        let gone = format!(
            "for pid in {}; do while {runs}; do :; done; done; echo gone",
            both.trim()
        );
        assert_eq!(pod.exec("main", &["sh", "-c", &gone], "").await.0, "gone\n");

        pod.sandbox.signal("main", 9).await.unwrap();
        let exit = pod.exit().await;
        assert_eq!((exit.code, exit.signal), (137, Some(9)));
    });
}

#[test]
fn a_container_with_a_terminal_logs_what_it_shows() {
    run(|| async {
        let mut pod = Pod::new().await;
        let mut container = pod.script("main", "test -t 1 && tty && echo $TERM");
        container.tty = true;
        let found = pod.output(container).await;
        assert_eq!(found, ["/dev/pts/0", "xterm"]);
    });
}

#[test]
fn all_processes_end_with_the_first() {
    run(|| async {
        for share_process_namespace in [false, true] {
            let mut pod = Pod::with(|spec| spec.share_process_namespace = share_process_namespace).await;
            // The grandchild has left its parent, session and terminal.
            pod.sandbox
                .start(pod.script("main", "setsid sleep 7654 & setsid sleep 7654 & read line"))
                .await
                .unwrap();
            // Its stdin is /dev/null, so it has ended by now or will soon.
            assert_eq!(pod.exit().await.code, 1);
            let mut container = pod.script(
                "main",
                "setsid sleep 7654 & setsid sleep 7654 & trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done",
            );
            container.name = "second".into();
            container.log_path = pod.log_path("second");
            pod.sandbox.start(container).await.unwrap();
            while pod.log("second").is_empty() {
                tokio::task::yield_now().await;
            }
            pod.sandbox.signal("second", 15).await.unwrap();
            assert_eq!(pod.exit().await.code, 7);
            let mut left = processes("sleep");
            for _ in 0..100 {
                if left == 0 {
                    break;
                }
                // With shared processes the kernel does not say when the last of the killed ones is gone.
                tokio::time::sleep(Duration::from_millis(10)).await;
                left = processes("sleep");
            }
            assert_eq!(left, 0, "shared: {share_process_namespace}");
            pod.sandbox.stop().await;
        }
    });
}

#[test]
fn a_container_runs_as_the_user_it_asks_for() {
    run(|| async {
        let mut pod = Pod::new().await;
        let volume = pod.dir.path().join("volume");
        fs::create_dir(&volume).unwrap();
        fs::set_permissions(&volume, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let script = "id -u; id -g; id -un; echo written > /data/file; cat /data/file; stat -c %u:%g /data/file; echo out > /dev/stdout; \
            grep CapEff /proc/self/status";
        let mut container = pod.script("main", script);
        container.run_as_user = Some(4242);
        container.run_as_group = Some(4343);
        container.mounts = vec![Mount {
            source: volume.clone(),
            target: "/data".into(),
            ..Mount::default()
        }];
        let found = pod.output(container.clone()).await;
        let expected = [
            "4242",
            "4343",
            "user4242",
            "written",
            "4242:4343",
            "out",
            "CapEff:\t0000000000000000",
        ];
        assert_eq!(found, expected);
        assert_eq!(fs::read_to_string(volume.join("file")).unwrap(), "written\n");

        container.argv = ["sleep", "1000"].map(str::to_owned).into();
        pod.sandbox.start(container).await.unwrap();
        let (out, err, code) = pod
            .exec("main", &["sh", "-c", "id -u; id -g; cat /data/file"], "")
            .await;
        assert_eq!((out.as_str(), err.as_str(), code), ("4242\n4343\nwritten\n", "", 0));
    });
}

#[test]
fn capabilities_and_a_sealed_root() {
    run(|| async {
        let mut pod = Pod::new().await;
        let mut container = pod.script(
            "main",
            "grep CapEff /proc/self/status; touch /x /usr/x /tmp/x 2>/dev/null || echo sealed",
        );
        container.security = Security {
            capabilities_add: vec!["NET_ADMIN".into()],
            capabilities_drop: vec!["ALL".into()],
            read_only_root: true,
            ..Security::default()
        };
        assert_eq!(pod.output(container).await, ["CapEff:\t0000000000001000", "sealed"]);
        let usual = pod.output(pod.script("main", "grep CapEff /proc/self/status")).await;
        assert_eq!(usual, ["CapEff:\t00000000a00425fb"]);
    });
}

#[test]
fn the_runtime_s_own_state_is_hidden() {
    run(|| async {
        let state = tempfile::tempdir_in("/var/tmp").unwrap();
        fs::write(state.path().join("secret"), "key").unwrap();
        let mut pod = Pod::with(|spec| spec.masks = vec![state.path().to_owned()]).await;
        let look = format!(
            "ls -A {dir} | wc -l; touch {dir}/new 2>/dev/null || echo sealed",
            dir = state.path().display()
        );
        assert_eq!(pod.output(pod.script("main", &look)).await, ["0", "sealed"]);
        assert!(!state.path().join("new").exists());
    });
}

#[test]
fn ports_of_a_pod_can_be_dialled() {
    run(|| async {
        let pod = Pod::new().await;
        let netns = NetNs::open(pod.sandbox.netns_path()).unwrap();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = netns.run(|| std::net::TcpListener::bind(address)).unwrap().unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"hello").unwrap());
            let mut stream = pod.sandbox.dial(port).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "hello");
            server.join().unwrap();
            let refused = pod.sandbox.dial(port).await.unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        }
    });
}

#[test]
fn a_pod_can_join_the_network_of_another_place() {
    run(|| async {
        let node = Pod::new().await;
        let path = node.sandbox.netns_path().to_owned();
        let mut pod = Pod::with(|spec| spec.netns = NetworkNamespace::Path(path.clone())).await;
        assert_eq!(pod.sandbox.netns_path(), path);
        let mut container = pod.script("main", "readlink /proc/self/ns/net; ls /sys/class/net");
        container.security.privileged = true;
        let expected = fs::read_link(&path).unwrap().display().to_string();
        assert_eq!(pod.output(container).await, [expected.as_str(), "lo"]);
    });
}

#[test]
fn many_containers_share_a_pod() {
    run(|| async {
        let mut pod = Pod::new().await;
        let names: Vec<_> = (0..8).map(|number| format!("c{number}")).collect();
        let starts = names
            .iter()
            .map(|name| pod.sandbox.start(pod.script(name, "echo $HOSTNAME; exit 0")));
        let started = futures_util::future::join_all(starts).await;
        assert!(started.iter().all(Result::is_ok), "{started:?}");
        let mut ended = Vec::new();
        for _ in &names {
            let exit = pod.exit().await;
            assert_eq!(exit.code, 0);
            ended.push(exit.container);
        }
        ended.sort();
        assert_eq!(ended, names);
        assert!(names.iter().all(|name| pod.log(name) == ["stdout F web"]));
    });
}

#[test]
fn nothing_is_left_of_a_pod() {
    run(|| async {
        let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
        let before = mounts();
        let pod = Pod::new().await;
        pod.sandbox
            .start(pod.script("main", "echo x > /usr/lib/x; sleep 1000"))
            .await
            .unwrap();
        pod.sandbox.stop().await;
        pod.sandbox.stop().await;
        assert_eq!(processes("corten-pod") + processes("sleep") + processes("sh"), 0);
        assert_eq!(mounts(), before);
        assert!(!pod.dir.path().join("pod").exists());
        assert_eq!(
            pod.sandbox.start(pod.script("main", "true")).await,
            Err(StartError::Gone)
        );
        let mut pod = pod;
        let exit = pod.exit().await;
        assert_eq!((exit.container.as_str(), exit.signal), ("main", Some(9)));
        assert_eq!(pod.exits.recv().await, None);
    });
}

#[test]
fn a_pod_ends_with_its_runtime() {
    run(|| async {
        let pod = Pod::new().await;
        pod.sandbox.start(pod.script("main", "sleep 1000")).await.unwrap();
        let netns = fs::read_link(pod.sandbox.netns_path()).unwrap();
        let shared = Arc::new(pod.sandbox);
        drop(shared);
        // This process 1 collects what its runtime left behind.
        let collected = tokio::task::spawn_blocking(|| rustix::process::wait(rustix::process::WaitOptions::empty()));
        let ended = tokio::time::timeout(Duration::from_secs(30), collected).await;
        ended.expect("the pod ends in time").unwrap().unwrap();
        assert_eq!(processes("sleep"), 0, "{netns:?}");
    });
}
