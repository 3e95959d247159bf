//! `corten x check-inject`: which webhook injects a pod, and why the others do not.

use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use corten_inspect::injection::{judge, labels, table};
use serde_json::{Map, Value};

use crate::cluster::{Cluster, Connection, pods_behind, split_name};
use crate::output;

/// Say which webhook injects a proxy into a pod, and why the others do not
#[derive(Debug, clap::Args)]
pub(crate) struct CheckInject {
    #[command(flatten)]
    connection: Connection,
    /// The pod, or TYPE/NAME for a pod of a workload
    #[arg(
        value_name = "[TYPE/]NAME[.NAMESPACE]",
        required_unless_present = "labels",
        conflicts_with = "labels"
    )]
    pod: Option<String>,
    /// A pod of the namespace with these labels, whether or not there is one
    #[arg(short, long, value_name = "KEY=VALUE,...", value_parser = parsed)]
    labels: Option<Labels>,
}

/// Labels from the command line.
#[derive(Clone, Debug)]
pub(crate) struct Labels(Value);

impl CheckInject {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let judged = self.connection.run(async |cluster| {
            let (namespace, own) = self.pod(&cluster).await?;
            let space = cluster.get(&format!("/api/v1/namespaces/{namespace}")).await?;
            let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
            let mut list = cluster.get(path).await?;
            let webhooks = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
            Ok(judge(&webhooks, &own, &labels(&space)))
        })?;
        let (table, wrong) = table(&judged);
        output::text(table)?;
        if let Some(wrong) = wrong {
            eprintln!("error: {wrong}");
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The namespace and the labels of the pod that is meant.
    async fn pod(&self, cluster: &Cluster) -> Result<(String, Value)> {
        if let Some(Labels(labels)) = &self.labels {
            return Ok((cluster.namespace.clone(), labels.clone()));
        }
        let Some(word) = &self.pod else {
            bail!("name a pod, or labels with -l");
        };
        let (name, given) = split_name(word);
        let namespace = given.unwrap_or(&cluster.namespace).to_owned();
        let pod = if name.contains('/') {
            let mut pods = pods_behind(&cluster.in_namespace(&namespace), name).await?;
            ensure!(!pods.is_empty(), "{name} has no pods in namespace {namespace}");
            pods.swap_remove(0)
        } else {
            cluster
                .get(&format!("/api/v1/namespaces/{namespace}/pods/{name}"))
                .await?
        };
        Ok((namespace, labels(&pod)))
    }
}

fn parsed(text: &str) -> Result<Labels, String> {
    let pairs = text.split(',').map(|pair| {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| format!("{pair:?} is not KEY=VALUE"))?;
        Ok((key.to_owned(), Value::from(value)))
    });
    Ok(Labels(Value::Object(pairs.collect::<Result<Map<_, _>, String>>()?)))
}
