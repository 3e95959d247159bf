//! `corten status`.

mod mesh;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use corten_local::control::Connection;
use corten_local::instance::{DEFAULT_NAME, Instance};
use corten_local::status::{Phase, RuntimeStatus};
use jiff::Timestamp;

use super::reset::others;
use super::up::view;
use crate::place::{Name, home};
use crate::{cluster, output};

/// Show whether an instance runs, its nodes and pods, the mesh in it, what is wrong, and where its kubeconfig and log are.
///
/// Of another cluster (with --kubeconfig or --context, or when there is no instance), its mesh.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 running, 1 failed, 3 not running, or the cluster has no mesh.")]
pub(crate) struct Status {
    #[command(flatten)]
    name: Name,
    /// The mesh of the cluster that this kubeconfig file names
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "all"])]
    kubeconfig: Option<PathBuf>,
    /// The mesh of the cluster of this context of the kubeconfig
    #[arg(long, value_name = "NAME", conflicts_with_all = ["name", "all"])]
    context: Option<String>,
    /// All instances, a line each
    #[arg(long, conflicts_with = "name")]
    all: bool,
    /// The same as JSON
    #[arg(long)]
    json: bool,
}

/// The exit code for an instance that is not running.
const NOT_RUNNING: u8 = 3;

/// How long a look at the mesh may take.
const MESH_WITHIN: Duration = Duration::from_secs(15);

/// How long a running instance may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

impl Status {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        if self.all {
            return all(self.json);
        }
        if self.kubeconfig.is_some() || self.context.is_some() {
            return of_cluster(cluster::Connection::of(self.kubeconfig, self.context), self.json);
        }
        let instance = self.name.instance()?;
        let name = instance.name();
        if !instance.exists() && name == DEFAULT_NAME && std::env::var_os("KUBECONFIG").is_some_and(|it| !it.is_empty())
        {
            return of_cluster(cluster::Connection::of(None, None), self.json);
        }
        if !instance.exists() {
            bail!("there is no instance {name:?}{}", others(&instance)?);
        }
        let Some(status) = ask(&instance)? else {
            output::line(format!(
                "{name:?} is not running; its state is in {}",
                instance.dir().display()
            ))?;
            return Ok(ExitCode::from(NOT_RUNNING));
        };
        let mesh = (status.phase == Phase::Ready).then(|| look_at_mesh(&status));
        if self.json {
            let mut shown = serde_json::to_value(&status)?;
            if let Some(Ok(mesh)) = &mesh {
                shown["mesh"] = serde_json::to_value(mesh)?;
            }
            output::line(serde_json::to_string_pretty(&shown)?)?;
        } else {
            for line in view::render(&status, std::env::var_os("KUBECONFIG").as_ref()) {
                output::line(line)?;
            }
            if let Some(mesh) = mesh {
                output::line("")?;
                for line in told(mesh) {
                    output::line(line)?;
                }
            }
            output::line(format!("log: {}", status.log.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The mesh in a few lines.
fn told(mesh: anyhow::Result<Option<mesh::Mesh>>) -> Vec<String> {
    match mesh {
        Ok(Some(mesh)) => mesh.lines(Timestamp::now()),
        Ok(None) => vec!["mesh: none, it was left out (`corten up` without --no-mesh brings it)".to_owned()],
        Err(error) => vec![format!("mesh: not known: {error:#}")],
    }
}

/// The mesh of a cluster that is no instance of ours.
fn of_cluster(connection: cluster::Connection, json: bool) -> anyhow::Result<ExitCode> {
    let mesh = connection.run(mesh_of)?;
    let code = ExitCode::from(if mesh.is_some() { 0 } else { NOT_RUNNING });
    if json {
        output::line(serde_json::to_string_pretty(&serde_json::json!({ "mesh": mesh }))?)?;
        return Ok(code);
    }
    match mesh {
        Some(mesh) => mesh.lines(Timestamp::now()).into_iter().try_for_each(output::line)?,
        None => output::line("mesh: none is installed in this cluster")?,
    }
    Ok(code)
}

async fn mesh_of(cluster: cluster::Cluster) -> anyhow::Result<Option<mesh::Mesh>> {
    let looked = tokio::time::timeout(MESH_WITHIN, mesh::of(&cluster));
    looked.await.context("the API server does not answer in time")?
}

/// The mesh of a running instance; `None`: it has none.
fn look_at_mesh(status: &RuntimeStatus) -> anyhow::Result<Option<mesh::Mesh>> {
    cluster::Connection::of(Some(status.kubeconfig.clone()), None).run(mesh_of)
}

/// Asks a running instance; `None` if nobody runs it.
fn ask(instance: &Instance) -> anyhow::Result<Option<RuntimeStatus>> {
    let Some(holder) = instance.holder() else {
        return Ok(None);
    };
    let answer = Connection::open(&instance.control_socket(), PATIENCE).and_then(|mut it| it.status());
    match answer {
        Ok(status) => Ok(Some(status)),
        // It ended while it was asked.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock && instance.holder().is_none() => Ok(None),
        Err(error) => Err(error).with_context(|| {
            let (name, log) = (instance.name(), instance.log());
            format!(
                "{name:?} runs as process {} but does not answer; its log is {}",
                holder.pid,
                log.display()
            )
        }),
    }
}

fn all(json: bool) -> anyhow::Result<ExitCode> {
    let mut running = Vec::new();
    let header = ["NAME", "STATE", "NODES", "PODS", "PROBLEMS", "SERVER"]
        .map(str::to_owned)
        .to_vec();
    let mut rows = vec![header];
    for instance in Instance::all(&home()?) {
        rows.push(match ask(&instance)? {
            None => vec![instance.name().to_owned(), "stopped".to_owned()],
            Some(status) => {
                let row = vec![
                    status.name.clone(),
                    format!("{:?}", status.phase).to_lowercase(),
                    status.nodes.len().to_string(),
                    status.namespaces.iter().map(|it| it.pods).sum::<usize>().to_string(),
                    status.problems.len().to_string(),
                    status.server.clone(),
                ];
                running.push(status);
                row
            }
        });
    }
    if json {
        output::line(serde_json::to_string_pretty(&running)?)?;
    } else {
        for line in output::table(&rows) {
            output::line(line)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
