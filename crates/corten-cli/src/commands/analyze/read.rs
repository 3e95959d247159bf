//! The objects that are analyzed, from files and from clusters.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use corten_analysis::analyzers::{Analyzer, Input};
use corten_api::decode::{self, SpannedObject};
use corten_api::diagnostic::Diagnostic;
use http::Method;
use serde_json::Value;

use crate::cluster::{Cluster, Refusal, Resources};

const EXTENSIONS: [&str; 3] = ["json", "yaml", "yml"];

/// The texts of files, and of all in directories and below them, with their names; `-` is standard input.
pub(crate) fn texts(paths: &[PathBuf]) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("reading standard input")?;
            found.push(("-".to_owned(), text));
            continue;
        }
        for file in files(path)? {
            let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            found.push((file.display().to_string(), text));
        }
    }
    Ok(found)
}

fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let metadata = std::fs::metadata(path).with_context(|| format!("reading {}", path.display()))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut entries: Vec<PathBuf> = std::fs::read_dir(path)
        .with_context(|| format!("reading {}", path.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    entries.sort();
    let mut found = Vec::new();
    for entry in entries {
        let known = |extension: &std::ffi::OsStr| EXTENSIONS.iter().any(|known| extension == *known);
        if entry.is_dir() {
            found.extend(files(&entry)?);
        } else if entry.extension().is_some_and(known) {
            found.push(entry);
        }
    }
    Ok(found)
}

/// The objects of texts, and what could not be read.
pub(super) fn objects(texts: &[(String, String)]) -> (Vec<SpannedObject>, Vec<Diagnostic>) {
    let mut objects = Vec::new();
    let mut problems = Vec::new();
    for (name, text) in texts {
        let (found, wrong) = decode::objects(name, text);
        objects.extend(found);
        problems.extend(wrong);
    }
    (objects, problems)
}

/// What a cluster has of the kinds that analyzers look at.
pub(super) struct Live {
    pub(super) objects: Vec<SpannedObject>,
    /// Kinds that the user may not see.
    pub(super) hidden: Vec<Input>,
}

/// Secrets that are no certificates: the states of Helm's releases, and tokens.
const OTHER_SECRETS: [&str; 2] = ["helm.sh/release.v1", "kubernetes.io/service-account-token"];

/// Asks a cluster for all objects of the kinds that analyzers look at. Of configuration that belongs to a revision, only this one's is taken.
pub(super) async fn cluster(cluster: &Cluster, analyzers: &[&Analyzer], system: &str, revision: &str) -> Result<Live> {
    let mut inputs: Vec<Input> = analyzers.iter().flat_map(|analyzer| analyzer.inputs).copied().collect();
    inputs.push(Input {
        group: "",
        kind: "ConfigMap",
    });
    inputs.sort_unstable();
    inputs.dedup();
    let served = Resources::of(cluster).await?;
    let mut live = Live {
        objects: Vec::new(),
        hidden: Vec::new(),
    };
    for input in inputs {
        let Some(resource) = served.of_group(input.group, input.kind) else {
            continue;
        };
        // ConfigMaps are those of the control plane.
        let namespace = (input.kind == "ConfigMap").then_some(system);
        let path = resource.path(namespace, None);
        let list = match cluster.request(Method::GET, &path, "application/json", None).await {
            Ok(list) => list,
            Err(Refusal::Status { code: 403, .. }) => {
                live.hidden.push(input);
                continue;
            }
            Err(refusal) if refusal.is_not_found() => continue,
            Err(refusal) => return Err(refusal.into()),
        };
        let version = match resource.group.as_str() {
            "" => resource.version.clone(),
            group => format!("{group}/{}", resource.version),
        };
        for item in list["items"].as_array().into_iter().flatten() {
            if is_meant(item, input, revision) {
                // Items of a list do not carry their type.
                let mut item = item.clone();
                item["apiVersion"] = version.as_str().into();
                item["kind"] = input.kind.into();
                live.objects.push(SpannedObject::from_value(&item));
            }
        }
    }
    Ok(live)
}

fn is_meant(item: &Value, input: Input, revision: &str) -> bool {
    if input.kind == "Secret" && OTHER_SECRETS.iter().any(|kind| item["type"] == *kind) {
        return false;
    }
    // What runs is of no revision, and Gateways are read by all.
    let of_any = input.is_of_running_cluster() || (input.group, input.kind) == ("gateway.networking.k8s.io", "Gateway");
    let label = item["metadata"]["labels"]["istio.io/rev"].as_str();
    of_any || label.is_none_or(|label| label == revision)
}
