//! `corten label` and `corten annotate`.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};

use crate::cluster::{Cluster, Connection, Resources, parse_targets};
use crate::output;

/// Set (KEY=VALUE) or remove (KEY-) labels or annotations
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Mark {
    #[command(flatten)]
    connection: Connection,
    /// TYPE NAME... or TYPE/NAME..., then KEY=VALUE or KEY-
    #[arg(required = true, value_name = "TYPE[/NAME] | KEY=VALUE | KEY-")]
    words: Vec<String>,
    /// Only objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// All objects of the type in the namespace
    #[arg(long)]
    all: bool,
    /// Replace values that are there
    #[arg(long)]
    overwrite: bool,
}

/// Which of the two maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Labels,
    Annotations,
}

/// A key with its new value; without one, the key is removed.
type Change = (String, Option<String>);

impl Mark {
    pub(crate) fn run(self, field: Field) -> Result<ExitCode> {
        let (words, changes) = split(&self.words)?;
        ensure!(!changes.is_empty(), "say what to set (KEY=VALUE) or to remove (KEY-)");
        self.connection.clone().run(async |cluster| {
            let resources = Resources::of(&cluster).await?;
            let mut code = ExitCode::SUCCESS;
            for target in parse_targets(&words, self.selector.as_deref(), &resources)? {
                ensure!(
                    target.name.is_some() || self.all || target.selector.is_some(),
                    "name an object, or say --all, or give a selector with -l"
                );
                for object in target.objects(&cluster, Some(&cluster.namespace)).await? {
                    let name = object["metadata"]["name"].as_str().context("an object has a name")?;
                    let path = target.resource.path(Some(&cluster.namespace), Some(name));
                    let title = format!("{}/{name}", target.resource.qualified());
                    match self.mark(&cluster, field, &path, &object, &changes).await {
                        Ok(did) => output::line(format!("{title} {did}"))?,
                        Err(error) => {
                            eprintln!("error: {title}: {error:#}");
                            code = ExitCode::FAILURE;
                        }
                    }
                }
            }
            Ok(code)
        })
    }

    async fn mark(
        &self,
        cluster: &Cluster,
        field: Field,
        path: &str,
        object: &Value,
        changes: &[Change],
    ) -> Result<&'static str> {
        let (name, did, undid, nothing) = match field {
            Field::Labels => ("labels", "labeled", "unlabeled", "not labeled"),
            Field::Annotations => ("annotations", "annotated", "annotated", "not annotated"),
        };
        let present = &object["metadata"][name];
        let mut patch = Map::new();
        for (key, value) in changes {
            match (present[key].as_str(), value) {
                (Some(old), Some(new)) if old == new => {}
                (Some(old), Some(_)) if !self.overwrite => {
                    bail!("{key:?} already has a value ({old}), and --overwrite is false")
                }
                (None, None) => eprintln!(
                    "{} {key:?} not found.",
                    if field == Field::Labels { "label" } else { "annotation" }
                ),
                (_, value) => {
                    patch.insert(key.clone(), value.clone().into());
                }
            }
        }
        if patch.is_empty() {
            return Ok(nothing);
        }
        let only_removed = patch.values().all(Value::is_null);
        cluster
            .patch(
                path,
                "application/merge-patch+json",
                &json!({"metadata": {name: patch}}),
            )
            .await?;
        Ok(if only_removed { undid } else { did })
    }
}

/// Tells the words that name objects from those that change something.
fn split(words: &[String]) -> Result<(Vec<String>, Vec<Change>)> {
    let (mut targets, mut changes) = (Vec::new(), Vec::new());
    for word in words {
        if let Some((key, value)) = word.split_once('=') {
            ensure!(!key.is_empty(), "{word:?} has no key");
            changes.push((key.to_owned(), Some(value.to_owned())));
        } else if let Some(key) = word.strip_suffix('-').filter(|key| !key.is_empty()) {
            changes.push((key.to_owned(), None));
        } else {
            ensure!(
                changes.is_empty(),
                "{word:?} stands after the changes; objects come first"
            );
            targets.push(word.clone());
        }
    }
    Ok((targets, changes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_and_changes_are_told_apart() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (targets, changes) = split(&words("pod a x/y=1 z- e=")).expect("good words");
        assert_eq!(targets, ["pod", "a"]);
        let change = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
        assert_eq!(
            changes,
            [change("x/y", Some("1")), change("z", None), change("e", Some(""))]
        );
        assert!(split(&words("pod a=1 b")).is_err());
        assert!(split(&words("pod a =1")).is_err());
    }
}
