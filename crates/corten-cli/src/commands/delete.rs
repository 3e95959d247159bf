//! `corten delete`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::apply::resource_of;
use super::wait;
use crate::cluster::{Cluster, Connection, Resource, Resources, Target, parse_targets};
use crate::output;

/// Delete objects
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    connection: Connection,
    /// TYPE NAME..., or TYPE/NAME...
    #[arg(value_name = "TYPE[/NAME]", required_unless_present = "filename")]
    words: Vec<String>,
    /// The objects of a file, a directory, or - for standard input
    #[arg(short, long, value_name = "FILE", conflicts_with = "words")]
    filename: Vec<std::path::PathBuf>,
    /// Only objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// All objects of the type in the namespace
    #[arg(long)]
    all: bool,
    /// Seconds that pods have to end; each has its own when left out
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<u32>,
    /// With --grace-period=0: do not wait for a pod's processes
    #[arg(long)]
    force: bool,
    /// What becomes of what the objects own
    #[arg(long, value_enum, default_value = "background")]
    cascade: Cascade,
    /// Return only when the objects are gone
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    wait: bool,
    /// How long to wait; for ever when 0
    #[arg(long, value_parser = corten_core::Duration::parse_argument, default_value = "0")]
    timeout: Duration,
    /// An object that is not there is no failure
    #[arg(long)]
    ignore_not_found: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Cascade {
    Background,
    Foreground,
    Orphan,
}

impl Delete {
    pub(crate) fn run(self) -> Result<ExitCode> {
        self.connection.clone().run(async |cluster| {
            let mut resources = Resources::of(&cluster).await?;
            let mut code = ExitCode::SUCCESS;
            let mut gone = Vec::new();
            for (resource, namespace, name) in self.chosen(&cluster, &mut resources).await? {
                let path = resource.path(Some(&namespace), Some(&name));
                match cluster
                    .request(
                        Method::DELETE,
                        &path,
                        "application/json",
                        Some(("application/json", self.options())),
                    )
                    .await
                {
                    Ok(answer) => {
                        let place = if resource.namespaced {
                            format!(" from {namespace} namespace")
                        } else {
                            String::new()
                        };
                        output::line(format!("{} {name:?} deleted{place}", resource.qualified()))?;
                        gone.push((path, uid(&answer)));
                    }
                    Err(refusal) if refusal.is_not_found() && self.ignore_not_found => {}
                    Err(refusal) => {
                        eprintln!("error: {:#}", anyhow::Error::from(refusal));
                        code = ExitCode::FAILURE;
                    }
                }
            }
            if self.wait {
                for (path, uid) in gone {
                    wait::until_gone(
                        &cluster,
                        &path,
                        uid.as_deref(),
                        (!self.timeout.is_zero()).then_some(self.timeout),
                    )
                    .await?;
                }
            }
            Ok(code)
        })
    }

    fn options(&self) -> Vec<u8> {
        let policy = match self.cascade {
            Cascade::Background => "Background",
            Cascade::Foreground => "Foreground",
            Cascade::Orphan => "Orphan",
        };
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
        let grace = if self.force {
            self.grace_period.or(Some(0))
        } else {
            self.grace_period
        };
        if let Some(grace) = grace {
            options["gracePeriodSeconds"] = grace.into();
        }
        options.to_string().into_bytes()
    }

    /// What is to be deleted: resource, namespace, name.
    async fn chosen(&self, cluster: &Cluster, resources: &mut Resources) -> Result<Vec<(Resource, String, String)>> {
        let mut chosen = Vec::new();
        if self.words.is_empty() {
            let files = super::apply::Files::of(self.filename.clone());
            for object in files.read()?.objects {
                let resource = resource_of(cluster, resources, &object).await?;
                let name = object["metadata"]["name"]
                    .as_str()
                    .context("metadata.name is missing")?
                    .to_owned();
                let namespace = object["metadata"]["namespace"]
                    .as_str()
                    .unwrap_or(&cluster.namespace)
                    .to_owned();
                chosen.push((resource, namespace, name));
            }
            return Ok(chosen);
        }
        for target in parse_targets(&self.words, self.selector.as_deref(), resources)? {
            let Target {
                resource,
                name,
                selector,
            } = &target;
            if let Some(name) = name {
                chosen.push((resource.clone(), cluster.namespace.clone(), name.clone()));
                continue;
            }
            ensure!(
                self.all || selector.is_some(),
                "name what to delete, or say --all, or give a selector with -l"
            );
            for object in target.objects(cluster, Some(&cluster.namespace)).await? {
                let name = object["metadata"]["name"].as_str().unwrap_or("").to_owned();
                chosen.push((resource.clone(), cluster.namespace.clone(), name));
            }
        }
        Ok(chosen)
    }
}

/// The uid in the answer to a deletion, which is the object or a status about it.
fn uid(answer: &Value) -> Option<String> {
    let uid = answer["metadata"]["uid"]
        .as_str()
        .or_else(|| answer["details"]["uid"].as_str());
    uid.map(str::to_owned)
}
