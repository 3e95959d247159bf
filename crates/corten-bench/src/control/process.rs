//! The control plane as a process: started, and measured from outside.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::mesh::Mesh;

const READY_MAX: Duration = Duration::from_secs(120);

/// A running control plane.
pub(crate) struct Control {
    child: Child,
    /// From the start of the process until it was ready.
    pub(crate) start: Duration,
    /// Seconds of CPU until then.
    pub(crate) cpu_at_ready: f64,
    /// Discovery over TLS.
    pub(crate) discovery: SocketAddr,
}

impl Control {
    /// Starts the binary beside this one, and waits until it is ready.
    pub(crate) async fn start(mesh: &Mesh) -> Result<Control> {
        let binary = std::env::current_exe()?.with_file_name("corten-control");
        let mut command = Command::new(&binary);
        command
            .args(["--monitoringAddr=", "--log_output_level=warn"])
            .env_clear();
        Control::start_with(mesh, &mut command).await
    }

    /// Starts an istiod, and waits until it is ready. What it asks of the API is not held back.
    pub(crate) async fn start_istiod(mesh: &Mesh, binary: &Path) -> Result<Control> {
        let mut command = Command::new(binary);
        command
            .args(["discovery", "--monitoringAddr=127.0.0.1:0", "--httpsAddr="])
            .args(["--log_output_level=default:warn", "--ctrlz_port=0"])
            .args(["--kubernetesApiQPS=5000", "--kubernetesApiBurst=5000"])
            .env_clear()
            .env("POD_NAME", "istiod")
            .env("POD_NAMESPACE", "istio-system")
            .env("CLUSTER_ID", "Kubernetes")
            .env("PILOT_ENABLE_GATEWAY_API", "false")
            // All clients come at once, and are not to be turned away.
            .env("PILOT_MAX_REQUESTS_PER_SECOND", "100000");
        Control::start_with(mesh, &mut command).await
    }

    async fn start_with(mesh: &Mesh, command: &mut Command) -> Result<Control> {
        let ports = free_ports()?;
        let [http, discovery] = ports;
        let log = std::fs::File::create(mesh.dir().join("control.log"))?;
        let binary = Path::new(command.get_program()).to_owned();
        let began = Instant::now();
        let child = command
            .arg("--grpcAddr=")
            .arg(format!("--httpAddr={http}"))
            .arg(format!("--secureGRPCAddr={discovery}"))
            .arg("--kubeconfig")
            .arg(mesh.kubeconfig())
            .current_dir(mesh.dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let mut control = Control {
            child,
            start: Duration::ZERO,
            cpu_at_ready: 0.0,
            discovery,
        };
        while !is_ready(http).await {
            if began.elapsed() > READY_MAX || control.child.try_wait()?.is_some() {
                let log = std::fs::read_to_string(mesh.dir().join("control.log"))?;
                bail!("{} does not become ready:\n{log}", binary.display());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        control.start = began.elapsed();
        control.cpu_at_ready = control.cpu()?;
        Ok(control)
    }

    /// Seconds of CPU that all its threads have used.
    pub(crate) fn cpu(&self) -> Result<f64> {
        // Threads that have ended are in the process's sum only, which is in ticks; ours do not end.
        let mut nanoseconds = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            nanoseconds += text
                .split(' ')
                .next()
                .and_then(|first| first.parse::<u64>().ok())
                .unwrap_or_default();
        }
        Ok(nanoseconds as f64 / 1e9)
    }

    /// Resident memory in megabytes (1,000,000 bytes).
    pub(crate) fn resident_mb(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .context("a process has memory")?;
        let kilobytes: f64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
        Ok(kilobytes * 1024.0 / 1e6)
    }

    /// Waits until it does nothing any more: less than a hundredth of a core for a while.
    pub(crate) async fn settled(&self) -> Result<()> {
        loop {
            let before = self.cpu()?;
            tokio::time::sleep(Duration::from_millis(300)).await;
            if self.cpu()? - before < 0.003 {
                return Ok(());
            }
        }
    }

    /// Asks it to end, and waits.
    pub(crate) async fn stop(mut self) -> Result<()> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        let deadline = Instant::now() + Duration::from_secs(15);
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("corten-control does not end");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Ended already, or not to be left behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_ports() -> Result<[SocketAddr; 2]> {
    let listeners = [
        std::net::TcpListener::bind("127.0.0.1:0")?,
        std::net::TcpListener::bind("127.0.0.1:0")?,
    ];
    Ok([listeners[0].local_addr()?, listeners[1].local_addr()?])
}

async fn is_ready(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer.starts_with("HTTP/1.1 200"))
    };
    ask.await.unwrap_or(false)
}
