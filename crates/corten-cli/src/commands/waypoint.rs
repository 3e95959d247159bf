//! `corten waypoint`: the waypoints of a cluster, with istioctl's words and tables.

mod making;

use std::process::ExitCode;

use anyhow::Result;
use corten_inspect::waypoints;
use serde_json::Value;

use crate::cluster::{Cluster, Connection, Refusal};
use crate::output;

/// Where the API has the Gateway API.
const GROUP: &str = "/apis/gateway.networking.k8s.io/v1";

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Waypoint {
    /// Make a waypoint, or change one
    Apply(making::Apply),
    /// Print the Gateway that a waypoint is
    Generate(making::Wanted),
    /// Remove waypoints
    Delete(making::Delete),
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
        let (which, ends) = match self {
            Self::List(which) => (which, false),
            Self::Status(which) => (which, true),
            Self::Generate(wanted) => return wanted.generate(),
            Self::Apply(apply) => return apply.run(),
            Self::Delete(delete) => return delete.run(),
        };
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
        if !ends {
            output::text(waypoints::list(&found, which.all_namespaces))?;
            return Ok(ExitCode::SUCCESS);
        }
        output::text(waypoints::status(&found, which.all_namespaces))?;
        Ok(if found.iter().all(|it| waypoints::is_programmed(it)) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl Which {
    async fn gateways(&self, cluster: &Cluster) -> Result<Vec<Value>> {
        let path = if self.all_namespaces {
            format!("{GROUP}/gateways")
        } else {
            format!("{GROUP}/namespaces/{}/gateways", cluster.namespace)
        };
        gateways_at(cluster, &path).await
    }
}

/// The Gateways at a path.
async fn gateways_at(cluster: &Cluster, path: &str) -> Result<Vec<Value>> {
    let mut list = cluster.get(path).await.map_err(unknown_group)?;
    Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
}

/// Why the Gateway API does not answer.
fn unknown_group(refusal: Refusal) -> anyhow::Error {
    if refusal.is_not_found() {
        anyhow::anyhow!("the cluster does not know the Gateway API: `corten crds | corten apply -f -` makes it")
    } else {
        refusal.into()
    }
}
