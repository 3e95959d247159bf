//! Asking and telling a running container: probes' questions and lifecycle hooks, by HTTP, gRPC, TCP or a command in it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{self, Container};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::machine::{Connect, PodSandbox};
use super::probes::{Answer, grpc, http, port};

/// The container that is asked, and the way to it.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) container: Arc<Container>,
    pub(crate) pod_ip: Option<IpAddr>,
    pub(crate) connect: Connect,
    pub(crate) sandbox: Arc<dyn PodSandbox>,
}

/// As much of a command's output as is kept for messages.
const OUTPUT_BYTES_MAX: u64 = 10 * 1024;

/// Asks a probe's question once.
pub(crate) async fn ask(target: Target, probe: v1::Probe) -> Answer {
    let seconds = i64::from(probe.timeout_seconds.unwrap_or(1).max(1));
    let timeout = Duration::from_secs(u64::try_from(seconds).unwrap_or(1));
    let container = &target.container;
    if let Some(exec) = &probe.exec {
        let command = exec.command.clone().unwrap_or_default();
        return match tokio::time::timeout(timeout, run(&target, command.clone())).await {
            Ok(Ok((0, _))) => Answer::Success,
            Ok(Ok((_, output))) => Answer::Failure(output),
            Ok(Err(error)) => Answer::Error(error),
            Err(_) => {
                let command = command.join(" ");
                Answer::Failure(format!("command timed out: \"{command}\" timed out after {seconds}s"))
            }
        };
    }
    if let Some(get) = &probe.http_get {
        let request = match http::Request::of(get, container, target.pod_ip, "probe") {
            Ok(request) => request,
            Err(error) => return Answer::Error(error),
        };
        return tokio::time::timeout(timeout, http::get(&target.connect, &request))
            .await
            .unwrap_or_else(|_| http::timed_out(&request));
    }
    let Some(ip) = target.pod_ip else {
        return Answer::Error("the pod has no address".to_owned());
    };
    if let Some(tcp) = &probe.tcp_socket {
        let port = match port(&tcp.port, container) {
            Ok(port) => port,
            Err(error) => return Answer::Error(error),
        };
        let host = tcp
            .host
            .clone()
            .filter(|host| !host.is_empty())
            .unwrap_or_else(|| ip.to_string());
        return match tokio::time::timeout(timeout, http::dial(&target.connect, &host, port)).await {
            Ok(Ok(_)) => Answer::Success,
            Ok(Err(error)) => Answer::Failure(error),
            Err(_) => Answer::Failure(format!("dial tcp {host}:{port}: i/o timeout")),
        };
    }
    if let Some(grpc) = &probe.grpc {
        let service = grpc.service.as_deref().unwrap_or_default();
        let Ok(port) = u16::try_from(grpc.port) else {
            return Answer::Error(format!("invalid port number: {}", grpc.port));
        };
        return tokio::time::timeout(timeout, grpc::check(&target.connect, ip, port, service))
            .await
            .unwrap_or_else(|_| grpc::timed_out(seconds));
    }
    Answer::Error(format!("missing probe handler for container {}", container.name))
}

/// Runs a lifecycle hook; an error says why it failed.
pub(crate) async fn hook(target: Target, handler: v1::LifecycleHandler) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        return match run(&target, command.clone()).await? {
            (0, _) => Ok(()),
            (code, output) => Err(format!(
                "command '{}' exited with {code}: {}",
                command.join(" "),
                output.trim_end()
            )),
        };
    }
    if let Some(get) = &handler.http_get {
        let request = http::Request::of(get, &target.container, target.pod_ip, "lifecycle")?;
        return match http::get(&target.connect, &request).await {
            Answer::Success | Answer::Warning(_) => Ok(()),
            Answer::Failure(error) | Answer::Error(error) => Err(error),
        };
    }
    if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    Err("the hook has no exec, httpGet or sleep".to_owned())
}

/// Runs a command in the container to its end: exit code, and what it printed.
async fn run(target: &Target, command: Vec<String>) -> Result<(i32, String), String> {
    let exec = target.sandbox.exec(&target.container.name, command, false, false).await;
    let mut exec = exec.map_err(|error| error.to_string())?;
    let mut output = Output::default();
    let stderr = exec.stderr.take();
    // What a program leaves behind may hold its output open; its own end is what counts.
    let exit = {
        let reading = output.read(exec.stdout, stderr);
        tokio::pin!(reading);
        tokio::select! {
            () = &mut reading => (&mut exec.exit).await,
            exit = &mut exec.exit => {
                let _ = tokio::time::timeout(Duration::from_millis(100), &mut reading).await;
                exit
            }
        }
    };
    let exit = exit.map_err(|_| "the container went away".to_owned())?;
    output.out.extend(output.err);
    Ok((exit.code, String::from_utf8_lossy(&output.out).into_owned()))
}

/// What a command printed so far.
#[derive(Default)]
struct Output {
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Output {
    async fn read(&mut self, stdout: impl AsyncRead + Unpin, stderr: Option<impl AsyncRead + Unpin>) {
        let Self { out, err } = self;
        let read_err = async {
            if let Some(stderr) = stderr {
                // What was read before an error is all there is.
                let _ = stderr.take(OUTPUT_BYTES_MAX).read_to_end(err).await;
            }
        };
        let mut stdout = stdout.take(OUTPUT_BYTES_MAX);
        let _ = tokio::join!(stdout.read_to_end(out), read_err);
    }
}
