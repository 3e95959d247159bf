//! `corten exec`.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use futures_util::SinkExt as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{Api, AttachParams, AttachedProcess, TerminalSize};
use rustix::termios;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::{Connection, container_of, pod_of};

/// Run a command in a container
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code: the command's own.")]
pub(crate) struct Exec {
    #[command(flatten)]
    connection: Connection,
    /// POD, or TYPE/NAME for a pod of a workload
    #[arg(value_name = "POD | TYPE/NAME")]
    pod: String,
    /// The container; the first one when left out
    #[arg(short, long)]
    container: Option<String>,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the command a terminal
    #[arg(short = 't', long)]
    tty: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Exec {
    pub(crate) fn run(self) -> Result<ExitCode> {
        self.connection.clone().run(async |cluster| {
            let name = pod_of(&cluster, &self.pod).await?;
            let tty = self.tty && self.stdin && std::io::stdin().is_terminal();
            if self.tty && !tty {
                eprintln!("standard input is no terminal, so the command gets none");
            }
            let parameters = AttachParams {
                container: Some(container_of(&cluster, &name, self.container.as_deref()).await?),
                stdin: self.stdin,
                stdout: true,
                stderr: !tty,
                tty,
                ..AttachParams::default()
            };
            let pods: Api<Pod> = Api::namespaced(cluster.client(), &cluster.namespace);
            let process = pods
                .exec(&name, self.command.clone(), &parameters)
                .await
                .map_err(|error| cluster.refusal(error))?;
            let raw = if tty { Some(RawTerminal::enter()?) } else { None };
            let status = converse(process, self.stdin, tty).await;
            drop(raw);
            outcome(status?.as_ref())
        })
    }
}

/// Passes bytes in both directions until the command has ended; its status, if the server sent one.
async fn converse(mut process: AttachedProcess, stdin: bool, tty: bool) -> Result<Option<Status>> {
    let status = process.take_status().context("the connection brings no status")?;
    let (stdout, stderr, input) = (process.stdout(), process.stderr(), process.stdin().filter(|_| stdin));
    let sizes = process.terminal_size().filter(|_| tty);
    let ended = async {
        // What the command wrote comes before its status.
        let (out, err) = tokio::join!(pour(stdout, tokio::io::stdout()), pour(stderr, tokio::io::stderr()));
        out.and(err)?;
        anyhow::Ok(status.await)
    };
    let resized = async {
        if let Some(mut sizes) = sizes {
            let mut changes = signal(SignalKind::window_change())?;
            loop {
                if let Ok(size) = termios::tcgetwinsize(std::io::stdout()) {
                    // A command that has ended does not mind its size.
                    let _ = sizes
                        .send(TerminalSize {
                            width: size.ws_col,
                            height: size.ws_row,
                        })
                        .await;
                }
                changes.recv().await;
            }
        }
        std::future::pending::<std::io::Result<()>>().await
    };
    let fed = async {
        if let Some(mut input) = input {
            // The command may end before it has read everything.
            let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut input).await;
            let _ = input.shutdown().await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        status = ended => status,
        failed = resized => failed.map(|()| None).context("following the size of the terminal"),
        () = fed => Ok(None),
    }
}

/// Copies a stream to its end, each piece as soon as it is there.
async fn pour(from: Option<impl AsyncRead + Unpin>, mut to: impl AsyncWrite + Unpin) -> std::io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut block = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut block).await?;
        if read == 0 {
            return to.flush().await;
        }
        to.write_all(&block[..read]).await?;
        to.flush().await?;
    }
}

/// The exit code in a status.
fn outcome(status: Option<&Status>) -> Result<ExitCode> {
    let Some(status) = status else {
        bail!("the connection ended without saying how the command did")
    };
    if status.status.as_deref() == Some("Success") {
        return Ok(ExitCode::SUCCESS);
    }
    let causes = status
        .details
        .iter()
        .flat_map(|details| details.causes.iter().flatten());
    let code = causes
        .filter(|cause| cause.reason.as_deref() == Some("ExitCode"))
        .find_map(|cause| cause.message.as_ref()?.parse::<i32>().ok());
    match code {
        Some(code) => {
            eprintln!("command terminated with exit code {code}");
            Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
        }
        None => bail!("{}", status.message.as_deref().unwrap_or("the command did not run")),
    }
}

/// The terminal with every key passed on; as before when dropped.
struct RawTerminal(termios::Termios);

impl RawTerminal {
    fn enter() -> Result<Self> {
        let before = termios::tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(std::io::stdin(), termios::OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = termios::tcsetattr(std::io::stdin(), termios::OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_has_an_exit_code() {
        let status = |value| serde_json::from_value::<Status>(value).expect("a status");
        let success = status(json!({"status": "Success"}));
        assert_eq!(outcome(Some(&success)).expect("it ran"), ExitCode::SUCCESS);
        let failure =
            status(json!({"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}}));
        assert_eq!(outcome(Some(&failure)).expect("it ran"), ExitCode::from(3));
        let refused = status(json!({"status": "Failure", "message": "no such container"}));
        assert_eq!(
            outcome(Some(&refused)).expect_err("it did not run").to_string(),
            "no such container"
        );
        assert!(outcome(None).is_err());
    }
}
