//! The program itself, with an agent that hands it pods: settings, readiness, servers, the word to end, a start without a control plane.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_enroll::zds::{Limits, Pods, Server, Workload};
use corten_proto::zds::WorkloadInfo;
use corten_rt::TaskGroup;
use tempfile::TempDir;

use crate::harness::{Mesh, Pod, mirror, ping};
use crate::{at, isolate};

/// An agent that knows two pods.
struct Agent(Vec<(&'static str, Arc<corten_linux::NetNs>)>);

impl Pods for Agent {
    fn snapshot(&self) -> Vec<Workload> {
        self.0
            .iter()
            .map(|(name, netns)| Workload {
                uid: (*name).to_owned(),
                info: WorkloadInfo {
                    name: (*name).to_owned(),
                    namespace: "default".to_owned(),
                    service_account: (*name).to_owned(),
                },
                netns: Some(netns.clone()),
            })
            .collect()
    }

    fn connected(&self, _proxies: usize) {}
}

/// The program, killed when the test ends.
pub(crate) struct Program(Child);

impl Program {
    pub(crate) fn start(folder: &Path, authority: Option<&Path>, ports: u16, more: &[(&str, &str)]) -> Program {
        Program(Self::command(folder, authority, ports, more).spawn().unwrap())
    }

    fn command(folder: &Path, authority: Option<&Path>, ports: u16, more: &[(&str, &str)]) -> Command {
        let address = |port: u16| format!("127.0.0.1:{}", ports + port);
        let mut command = Command::new(env!("CARGO_BIN_EXE_corten-node"));
        command
            .args(["proxy", "ztunnel"])
            .env("INPOD_UDS", folder.join("agent.sock"))
            .envs(authority.map(|folder| ("CORTEN_TEST_CA_DIR", folder)))
            .env("ADMIN_ADDR", address(0))
            .env("STATS_ADDR", address(20))
            .env("READINESS_ADDR", address(21))
            .env("ISTIO_META_DNS_CAPTURE", "false")
            .envs(more.iter().copied())
            .stdout(Stdio::null());
        command
    }

    pub(crate) fn wait_ready(&self, port: u16) {
        let deadline = Instant::now() + Duration::from_secs(15);
        while !get(port, "GET", "/healthz/ready").starts_with("HTTP/1.1 200") {
            assert!(
                Instant::now() < deadline,
                "not ready: {}",
                get(port, "GET", "/healthz/ready")
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get(port: u16, method: &str, path: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let _ = stream.read_to_string(&mut answer);
    }
    answer
}

pub(crate) fn agent(folder: &TempDir, pods: &[&Pod]) -> (tokio::runtime::Runtime, TaskGroup) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let inside = runtime.enter();
    let tasks = TaskGroup::new("agent");
    let known = Arc::new(Agent(pods.iter().map(|pod| (pod.name, pod.netns.clone())).collect()));
    let server = Server::bind(&folder.path().join("agent.sock"), known, Limits::default()).unwrap();
    tasks.serve("zds", |drain| server.run(drain));
    drop(inside);
    (runtime, tasks)
}

#[test]
fn the_program_serves_what_the_agent_names_and_hands_over_to_its_successor() {
    isolate!();
    let mut mesh = Mesh::new();
    let (mut client, mut server) = (mesh.pod("client"), mesh.pod("server"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("local.yaml");
    std::fs::write(
        &file,
        format!(
            "workloads:\n{}{}",
            client.workload("HBONE", ""),
            server.workload("HBONE", "")
        ),
    )
    .unwrap();
    let agent = agent(&folder, &[&client, &server]);
    let local = [("LOCAL_XDS_PATH", file.to_str().unwrap())];
    let mut old = Program::start(folder.path(), Some(mesh.authority()), 16000, &local);
    old.wait_ready(16021);
    client.redirect();
    server.redirect();
    mirror(server.listen(8080));
    let mut held = client.connect(at(server.ip, 8080)).unwrap();
    ping(&mut held).unwrap();

    let dump = get(16000, "GET", "/config_dump");
    let (_, body) = dump.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["workloads"][0]["name"], "client");
    assert_eq!(
        body["workloadState"]["server"]["connections"]["inbound"][0]["protocol"],
        "HBONE"
    );
    assert_eq!(body["certificates"][0]["state"], "Available");
    assert!(get(16020, "GET", "/metrics").contains("workload_manager_active_proxy_count 2\n"));
    assert!(get(16000, "POST", "/logging?level=debug").contains("debug"));
    assert!(get(16000, "POST", "/logging?level=%3D%3D").starts_with("HTTP/1.1 400"));
    assert!(get(16000, "GET", "/logging").starts_with("HTTP/1.1 405"));

    let new = Program::start(folder.path(), Some(mesh.authority()), 17000, &local);
    new.wait_ready(17021);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(old.0.id()).unwrap()).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    for _ in 0..200 {
        ping(&mut client.connect(at(server.ip, 8080)).unwrap()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    ping(&mut held).unwrap();
    assert!(old.0.try_wait().unwrap().is_none(), "it waits for what is open");
    drop(held);
    let deadline = Instant::now() + Duration::from_secs(10);
    while old.0.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it ends with the last connection");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(old.0.wait().unwrap().success());
    ping(&mut client.connect(at(server.ip, 8080)).unwrap()).unwrap();
    drop(agent);
}

#[test]
fn a_proxy_that_starts_while_the_authority_is_away_speaks_for_its_pods() {
    isolate!();
    let mut mesh = Mesh::new();
    let (mut client, mut server) = (mesh.pod("client"), mesh.pod("server"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("local.yaml");
    let workloads = format!(
        "workloads:\n{}{}",
        client.workload("HBONE", ""),
        server.workload("HBONE", "")
    );
    std::fs::write(&file, workloads).unwrap();
    let state = folder.path().join("state");
    let settings = [
        ("LOCAL_XDS_PATH", file.to_str().unwrap()),
        ("CORTEN_STATE_DIR", state.to_str().unwrap()),
        ("CORTEN_KEEP_KEYS", "true"),
        ("CA_ADDRESS", ""),
    ];
    let agent = agent(&folder, &[&client, &server]);
    client.redirect();
    server.redirect();
    mirror(server.listen(8080));
    let first = Program::start(folder.path(), Some(mesh.authority()), 16000, &settings);
    first.wait_ready(16021);
    ping(&mut client.connect(at(server.ip, 8080)).unwrap()).unwrap();
    let kept = state.join("certificates");
    let deadline = Instant::now() + Duration::from_secs(10);
    // Both pods' certificates are on disk.
    while !std::fs::read(&kept).is_ok_and(|bytes| bytes.starts_with(b"cortenk1\0\0\0\x02")) {
        assert!(Instant::now() < deadline, "the certificates are not kept");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&kept).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&state).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
    drop(first);

    let second = Program::start(folder.path(), None, 17000, &settings);
    second.wait_ready(17021);
    ping(&mut client.connect(at(server.ip, 8080)).unwrap()).unwrap();
    drop(agent);
}

#[test]
fn what_is_wrong_with_the_settings_is_said() {
    let output = Command::new(env!("CARGO_BIN_EXE_corten-node"))
        .env("SECRET_TTL", "soon")
        .env("IPV6_ENABLED", "perhaps")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said.contains("SECRET_TTL: 'soon'") && said.contains("IPV6_ENABLED: 'perhaps'"),
        "{said}"
    );
}

#[test]
fn a_dedicated_proxy_serves_the_workload_of_its_own_namespace() {
    isolate!();
    let mut mesh = Mesh::new();
    let (mut client, mut server) = (mesh.pod("client"), mesh.pod("server"));
    let one = mesh.node(&[]);
    let workloads = format!(
        "workloads:\n{}{}",
        client.workload("HBONE", ""),
        server.workload("HBONE", "")
    );
    one.configure(&workloads);
    one.enroll(&mut client);
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("PROXY_MODE", "dedicated"),
        ("PROXY_WORKLOAD_INFO", "default/server/server"),
        ("LOCAL_XDS", workloads.as_str()),
        // This pod has the rules of a shared mesh, which know the proxy by its mark.
        ("PACKET_MARK", "1337"),
    ];
    let mut command = Program::command(folder.path(), Some(mesh.authority()), 16000, &settings);
    let proxy = Program(server.netns.run(|| command.spawn()).unwrap().unwrap());
    server.netns.run(|| proxy.wait_ready(16021)).unwrap();
    server.redirect();
    crate::harness::echo(server.listen(8080));
    let answer = client.call(at(server.ip, 8080), "hello").unwrap();
    assert_eq!(answer, format!("{} hello", client.ip));
    let line = one.line("connection complete");
    assert!(
        line.contains("dst.identity=\"spiffe://cluster.local/ns/default/sa/server\""),
        "{line}"
    );
}

#[test]
fn every_line_of_the_log_is_an_object_if_wanted() {
    let output = Command::new(env!("CARGO_BIN_EXE_corten-node"))
        .envs([("LOG_FORMAT", "json"), ("TRUST_DOMAIN", "x"), ("PACKET_MARK", "red")])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<serde_json::Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<&str> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
    assert!(
        messages
            .iter()
            .any(|text| text.starts_with("TRUST_DOMAIN: 'x' has no effect")),
        "{said}"
    );
    assert!(messages.contains(&"PACKET_MARK: 'red' is not a u32"), "{said}");
}

#[test]
fn help_is_the_page_of_settings() {
    let output = Command::new(env!("CARGO_BIN_EXE_corten-node"))
        .arg("--help")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, corten_node::config::catalog::page());
}
