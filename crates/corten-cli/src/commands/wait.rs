//! `corten wait`, and waiting in general.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use corten_schema::jsonpath::{Path, PathError, plain};
use futures_util::TryStreamExt as _;
use http::Request;
use kube::api::WatchEvent;
use serde_json::Value;

use crate::cluster::{Cluster, Connection, Resources, Target, parse_targets, query};
use crate::output;

/// Wait until something holds of objects
#[derive(Debug, clap::Args)]
pub(crate) struct Wait {
    #[command(flatten)]
    connection: Connection,
    /// TYPE NAME... or TYPE/NAME...
    #[arg(required = true, value_name = "TYPE[/NAME]")]
    words: Vec<String>,
    /// Only objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// All objects of the type in the namespace
    #[arg(long)]
    all: bool,
    /// condition=TYPE[=STATUS], jsonpath={PATH}[=VALUE], create, or delete
    #[arg(long = "for", value_name = "WHAT")]
    what: What,
    /// How long to wait
    #[arg(long, value_parser = corten_core::Duration::parse_argument, default_value = "30s")]
    timeout: Duration,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq)]
enum What {
    Condition { type_: String, status: String },
    Path { path: Path, value: Option<String> },
    Create,
    Delete,
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "create" => Ok(Self::Create),
            None if text == "delete" => Ok(Self::Delete),
            Some(("condition", rest)) => {
                let (type_, status) = rest.split_once('=').unwrap_or((rest, "True"));
                Ok(Self::Condition {
                    type_: type_.to_owned(),
                    status: status.to_owned(),
                })
            }
            Some(("jsonpath", rest)) => {
                let close = rest
                    .rfind('}')
                    .ok_or_else(|| format!("{rest:?} is not {{PATH}} or {{PATH}}=VALUE"))?;
                // Shells leave the quotes of '{PATH}'=VALUE where they were not theirs.
                let path = rest[..=close].trim_start_matches(['\'', '"']);
                let value = rest[close + 1..].trim_start_matches(['\'', '"']).strip_prefix('=');
                let value = value.map(|value| value.trim_matches(['\'', '"']).to_owned());
                let path = path.parse().map_err(|error: PathError| error.to_string())?;
                Ok(Self::Path { path, value })
            }
            _ => Err(format!(
                "{text:?} cannot be waited for; there are condition=TYPE, jsonpath={{PATH}}=VALUE, create and delete"
            )),
        }
    }
}

impl What {
    fn holds(&self, object: &Value) -> bool {
        match self {
            Self::Condition { type_, status } => {
                let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
                let mut of_type = conditions.filter(|condition| same(&condition["type"], type_));
                of_type.any(|condition| same(&condition["status"], status) && is_current(object, condition))
            }
            Self::Path { path, value } => path.find(object).into_iter().any(|found| match value {
                Some(value) => plain(found) == *value,
                None => !found.is_null(),
            }),
            Self::Create => true,
            Self::Delete => false,
        }
    }
}

fn same(value: &Value, text: &str) -> bool {
    value.as_str().is_some_and(|value| value.eq_ignore_ascii_case(text))
}

/// Whether a condition speaks of the object as it is now.
fn is_current(object: &Value, condition: &Value) -> bool {
    let seen = condition["observedGeneration"]
        .as_i64()
        .or_else(|| object["status"]["observedGeneration"].as_i64());
    match (seen, object["metadata"]["generation"].as_i64()) {
        (Some(seen), Some(generation)) => seen >= generation,
        _ => true,
    }
}

impl Wait {
    pub(crate) fn run(self) -> Result<ExitCode> {
        self.connection.clone().run(async |cluster| {
            let deadline = Instant::now() + self.timeout;
            let resources = Resources::of(&cluster).await?;
            let mut code = ExitCode::SUCCESS;
            let mut any = false;
            for target in parse_targets(&self.words, self.selector.as_deref(), &resources)? {
                for name in self.names(&cluster, &target).await? {
                    any = true;
                    let title = format!("{}/{name}", target.resource.qualified());
                    let path = target.resource.path(Some(&cluster.namespace), Some(&name));
                    let collection = target.resource.path(Some(&cluster.namespace), None);
                    let left = deadline.saturating_duration_since(Instant::now());
                    match tokio::time::timeout(left, self.one(&cluster, &collection, &path, &name)).await {
                        Ok(done) => {
                            done?;
                            let met = match &self.what {
                                What::Delete => "deleted",
                                What::Create => "created",
                                _ => "condition met",
                            };
                            output::line(format!("{title} {met}"))?;
                        }
                        Err(_) => {
                            eprintln!("error: timed out waiting for the condition on {title}");
                            code = ExitCode::FAILURE;
                        }
                    }
                }
            }
            ensure!(any || matches!(self.what, What::Delete), "no matching resources found");
            Ok(code)
        })
    }

    async fn names(&self, cluster: &Cluster, target: &Target) -> Result<Vec<String>> {
        if let Some(name) = &target.name {
            return Ok(vec![name.clone()]);
        }
        ensure!(
            self.all || target.selector.is_some(),
            "name what to wait for, or say --all, or give a selector with -l"
        );
        let objects = target.objects(cluster, Some(&cluster.namespace)).await?;
        Ok(objects
            .iter()
            .filter_map(|object| object["metadata"]["name"].as_str())
            .map(str::to_owned)
            .collect())
    }

    async fn one(&self, cluster: &Cluster, collection: &str, path: &str, name: &str) -> Result<()> {
        match &self.what {
            What::Delete => until_gone(cluster, path, None, None).await,
            What::Create => until(cluster, collection, name, true, |object| object.is_some())
                .await
                .map(drop),
            what => until(cluster, collection, name, false, |object| {
                object.is_some_and(|object| what.holds(object))
            })
            .await
            .map(drop),
        }
    }
}

/// Waits until the object at a path is gone, or another has taken its name.
pub(crate) async fn until_gone(
    cluster: &Cluster,
    path: &str,
    uid: Option<&str>,
    timeout: Option<Duration>,
) -> Result<()> {
    let (collection, name) = path.rsplit_once('/').context("an object's path ends with its name")?;
    let gone = until(cluster, collection, name, true, |object| {
        object.is_none_or(|object| uid.is_some_and(|uid| object["metadata"]["uid"] != uid))
    });
    match timeout {
        None => gone.await.map(drop),
        Some(timeout) => match tokio::time::timeout(timeout, gone).await {
            Ok(done) => done.map(drop),
            Err(_) => bail!("timed out waiting for {name:?} to be gone"),
        },
    }
}

/// Follows one object until something holds of it, absence included; without `may_be_absent` an absent object is an error.
pub(crate) async fn until(
    cluster: &Cluster,
    collection: &str,
    name: &str,
    may_be_absent: bool,
    holds: impl Fn(Option<&Value>) -> bool,
) -> Result<Option<Value>> {
    loop {
        let only = Some(format!("metadata.name={name}"));
        let list = cluster
            .get(&format!("{collection}{}", query(&[("fieldSelector", only.clone())])))
            .await?;
        let present = list["items"].as_array().and_then(|items| items.first()).cloned();
        if present.is_none() && !may_be_absent {
            bail!("{name:?} not found");
        }
        if holds(present.as_ref()) {
            return Ok(present);
        }
        let version = list["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        let path = format!(
            "{collection}{}",
            query(&[
                ("watch", Some("1".to_owned())),
                ("fieldSelector", only),
                ("resourceVersion", version)
            ])
        );
        let events = cluster
            .client()
            .request_events::<Value>(Request::get(path).body(Vec::new())?)
            .await;
        let mut events = std::pin::pin!(events.map_err(|error| cluster.refusal(error))?);
        // A watch that ends, or fell behind, is begun again from the present state.
        while let Some(event) = events.try_next().await.map_err(|error| cluster.refusal(error))? {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) if holds(Some(&object)) => {
                    return Ok(Some(object));
                }
                WatchEvent::Deleted(_) if holds(None) => return Ok(None),
                WatchEvent::Deleted(_) if !may_be_absent => bail!("{name:?} was deleted"),
                WatchEvent::Error(_) => break,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(what: &str, object: &Value, expect: bool) {
        assert_eq!(
            what.parse::<What>().expect("something to wait for").holds(object),
            expect,
            "{what}"
        );
    }

    #[test]
    fn what_holds() {
        let object = json!({
            "metadata": {"generation": 2},
            "status": {"observedGeneration": 2, "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}, {"type": "Old", "status": "True", "observedGeneration": 1}]},
        });
        check("condition=Ready", &object, true);
        check("condition=ready=true", &object, true);
        check("condition=Ready=False", &object, false);
        check("condition=Old", &object, false);
        check("jsonpath={.status.phase}=Running", &object, true);
        check("jsonpath='{.status.phase}'=Failed", &object, false);
        check("jsonpath={.status.phase}", &object, true);
        check("jsonpath={.status.absent}", &object, false);
        for bad in ["Ready", "conditions=x", "jsonpath=x"] {
            assert!(bad.parse::<What>().is_err(), "{bad}");
        }
    }
}
