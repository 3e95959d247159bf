//! `corten waypoint apply`, `generate` and `delete`: a waypoint is one Gateway, and the control plane makes the rest of it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use corten_api::yaml;
use corten_inspect::waypoints;
use http::Method;
use serde_json::{Value, json};

use super::GROUP;
use crate::cluster::{Cluster, Connection, Refusal};
use crate::commands::wait;
use crate::output;

/// The label by which a namespace or a service names its waypoint.
const USE: &str = "istio.io/use-waypoint";
/// The label that says what a waypoint is for.
const FOR: &str = "istio.io/waypoint-for";
const REVISION: &str = "istio.io/rev";
const DATAPLANE: &str = "istio.io/dataplane-mode";
/// Who owns the fields: the same as with istioctl, so that either changes what the other has made.
const MANAGER: &str = "istioctl";

/// What passes a waypoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Traffic {
    /// Calls to services.
    Service,
    /// Calls to workloads by their own addresses.
    Workload,
    /// Both.
    All,
    /// Neither.
    None,
}

impl Traffic {
    fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Workload => "workload",
            Self::All => "all",
            Self::None => "none",
        }
    }
}

/// What a waypoint is to be.
#[derive(Debug, clap::Args)]
pub(crate) struct Wanted {
    #[command(flatten)]
    connection: Connection,
    /// Its name
    #[arg(long, default_value = "waypoint", value_parser = name)]
    name: String,
    /// What passes it; services when left out
    #[arg(long = "for", value_enum)]
    traffic: Option<Traffic>,
    /// The control plane's revision
    #[arg(short, long, default_value = "")]
    revision: String,
}

/// A name that is none of the words with a meaning of their own.
fn name(text: &str) -> Result<String, String> {
    match text {
        "none" => Err("\"none\" as a waypoint's name means that there is none; give it another one".to_owned()),
        "" => Ok("waypoint".to_owned()),
        text => Ok(text.to_owned()),
    }
}

impl Wanted {
    fn gateway(&self, namespace: Option<&str>) -> Value {
        let mut metadata = json!({"name": self.name});
        if let Some(namespace) = namespace {
            metadata["namespace"] = json!(namespace);
        }
        if let Some(traffic) = self.traffic {
            metadata["labels"][FOR] = json!(traffic.name());
        }
        if !self.revision.is_empty() {
            metadata["labels"][REVISION] = json!(self.revision);
        }
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": metadata,
            "spec": {
                "gatewayClassName": waypoints::CLASS,
                "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
            },
        })
    }

    /// Prints the Gateway.
    pub(super) fn generate(&self) -> Result<ExitCode> {
        output::text(yaml::document(&self.gateway(self.connection.named_namespace())))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Make a waypoint.
#[derive(Debug, clap::Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    wanted: Wanted,
    /// Label the namespace, so that what is called in it is called through the waypoint
    #[arg(long)]
    enroll_namespace: bool,
    /// Take the namespace from the waypoint that it has
    #[arg(long)]
    overwrite: bool,
    /// Return when the waypoint runs
    #[arg(short, long)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", value_parser = corten_core::Duration::parse_argument, default_value = "90s")]
    waypoint_timeout: Duration,
}

impl Apply {
    pub(super) fn run(self) -> Result<ExitCode> {
        self.wanted
            .connection
            .clone()
            .run(async |cluster| self.apply(&cluster).await)
    }

    async fn apply(&self, cluster: &Cluster) -> Result<ExitCode> {
        let (namespace, name) = (&cluster.namespace, &self.wanted.name);
        let labels = match cluster.get(&format!("/api/v1/namespaces/{namespace}")).await {
            Ok(mut object) => object["metadata"]["labels"].take(),
            Err(refusal) if refusal.is_not_found() => {
                bail!("there is no namespace {namespace}: `kubectl create namespace {namespace}` makes it")
            }
            Err(refusal) => return Err(refusal.into()),
        };
        if self.enroll_namespace {
            if let Some(has) = labels[USE].as_str().filter(|has| has != name)
                && !self.overwrite
            {
                eprintln!(
                    "Warning: namespace {namespace} has the waypoint {has:?} already, and nothing was done; --overwrite takes it from that one"
                );
                return Ok(ExitCode::SUCCESS);
            }
            if labels[DATAPLANE] != "ambient" {
                eprintln!(
                    "Warning: namespace {namespace} is not in the ambient mesh, and calls from outside of the mesh pass no waypoint: \
                     `kubectl label namespace {namespace} {DATAPLANE}=ambient`"
                );
            }
        }
        let path = format!("{GROUP}/namespaces/{namespace}/gateways");
        let object = self.wanted.gateway(Some(namespace));
        let place = format!("{path}/{name}?fieldManager={MANAGER}");
        cluster
            .patch(&place, "application/apply-patch+yaml", &object)
            .await
            .map_err(super::unknown_group)?;
        output::line(format!("waypoint {namespace}/{name} applied"))?;
        if self.wait {
            let runs = wait::until(cluster, &path, name, false, |gateway| {
                gateway.is_some_and(waypoints::is_programmed)
            });
            if tokio::time::timeout(self.waypoint_timeout, runs).await.is_err() {
                let gateway = cluster.get(&format!("{path}/{name}")).await?;
                bail!(
                    "waypoint {namespace}/{name} does not run after {:?}: {}",
                    self.waypoint_timeout,
                    waypoints::message(&gateway)
                );
            }
            output::line(format!("waypoint {namespace}/{name} is ready"))?;
        }
        if self.enroll_namespace {
            let label = json!({"metadata": {"labels": {USE: name}}});
            let place = format!("/api/v1/namespaces/{namespace}");
            cluster.patch(&place, "application/merge-patch+json", &label).await?;
            output::line(format!("namespace {namespace} labeled with {USE}={name}"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Which waypoints are to go.
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    connection: Connection,
    /// Their names
    #[arg(value_name = "NAME", required_unless_present_any = ["all", "revision"], conflicts_with_all = ["all", "revision"])]
    names: Vec<String>,
    /// All of the namespace
    #[arg(long)]
    all: bool,
    /// Those of this revision of the control plane
    #[arg(short, long)]
    revision: Option<String>,
}

impl Delete {
    pub(super) fn run(self) -> Result<ExitCode> {
        self.connection.clone().run(async |cluster| {
            let namespace = &cluster.namespace;
            let path = format!("{GROUP}/namespaces/{namespace}/gateways");
            let gateways = super::gateways_at(&cluster, &path).await?;
            let found: Vec<&str> = waypoints::select(&gateways)
                .into_iter()
                .filter(|gateway| {
                    let of = gateway["metadata"]["labels"][REVISION].as_str().unwrap_or("default");
                    self.revision.as_deref().is_none_or(|revision| revision == of)
                })
                .filter_map(|gateway| gateway["metadata"]["name"].as_str())
                .collect();
            let mut code = ExitCode::SUCCESS;
            let names: Vec<&str> = match &self.names[..] {
                [] => found.clone(),
                names => names.iter().map(String::as_str).collect(),
            };
            ensure!(
                !names.is_empty(),
                "there are no such waypoints in namespace {namespace}"
            );
            for name in names {
                let gone: Result<(), Refusal> = if found.contains(&name) {
                    let object = format!("{path}/{name}");
                    cluster
                        .request(Method::DELETE, &object, "application/json", None)
                        .await
                        .map(drop)
                } else {
                    eprintln!("error: waypoint {namespace}/{name} not found");
                    code = ExitCode::FAILURE;
                    continue;
                };
                match gone {
                    Ok(()) => output::line(format!("waypoint {namespace}/{name} deleted"))?,
                    Err(refusal) => {
                        eprintln!("error: waypoint {namespace}/{name}: {:#}", anyhow::Error::from(refusal));
                        code = ExitCode::FAILURE;
                    }
                }
            }
            Ok(code)
        })
    }
}
