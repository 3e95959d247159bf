//! `corten waypoint`: the waypoints of a cluster, with istioctl's words and tables.

use std::process::ExitCode;

use anyhow::{Result, bail};
use corten_inspect::waypoints;
use serde_json::Value;

use crate::cluster::{Cluster, Connection};
use crate::output;

/// What to show.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Waypoint {
    /// Show the waypoints, and whether they run
    List(Which),
    /// Show what is known of how far the waypoints are; exit code 1 when one does not run
    Status(Which),
}

/// Which waypoints.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    #[command(flatten)]
    connection: Connection,
    /// Those of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

impl Waypoint {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let (Self::List(which) | Self::Status(which)) = &self;
        let (gateways, namespace) = which
            .connection
            .run(async |cluster| Ok((which.gateways(&cluster).await?, cluster.namespace)))?;
        let found = waypoints::select(&gateways);
        if found.is_empty() {
            let place = if which.all_namespaces {
                "in any namespace".to_owned()
            } else {
                format!("in namespace {namespace}; -A shows those of all")
            };
            output::line(format!("There are no waypoints {place}."))?;
            return Ok(ExitCode::SUCCESS);
        }
        match &self {
            Self::List(_) => output::text(waypoints::list(&found, which.all_namespaces))?,
            Self::Status(_) => {
                output::text(waypoints::status(&found, which.all_namespaces))?;
                if !found.iter().all(|it| waypoints::is_programmed(it)) {
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Which {
    async fn gateways(&self, cluster: &Cluster) -> Result<Vec<Value>> {
        let group = "/apis/gateway.networking.k8s.io/v1";
        let path = if self.all_namespaces {
            format!("{group}/gateways")
        } else {
            format!("{group}/namespaces/{}/gateways", cluster.namespace)
        };
        match cluster.get(&path).await {
            Ok(mut list) => Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default()),
            Err(refusal) if refusal.is_not_found() => {
                bail!("the cluster does not know the Gateway API: `corten crds | corten apply -f -` makes it")
            }
            Err(refusal) => Err(refusal.into()),
        }
    }
}
