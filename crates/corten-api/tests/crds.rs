//! The generated CustomResourceDefinitions beside the published ones.
//!
//! Descriptions are in our own words and not compared. Differences that are meant are listed in
//! `crds-accepted-differences.txt` with their reasons; a listed one that is gone fails as well, so the list only shrinks.

use std::{collections::BTreeSet, path::Path};

use corten_api::{
    crds::{Channel, definitions, differences as compare},
    decode::objects,
};
use serde_json::Value;

#[test]
fn generated_definitions_equal_the_published_ones() {
    let Some(crds) = corten_testdata("crds") else { return };
    let mut differences = BTreeSet::new();
    for (directory, channel) in [
        ("istio", Channel::Experimental),
        ("gateway-api/standard", Channel::Standard),
        ("gateway-api/experimental", Channel::Experimental),
        ("other", Channel::Experimental),
    ] {
        let ours = definitions(channel);
        let published = published(&crds.join(directory));
        assert!(!published.is_empty(), "no definitions in {directory}");
        for theirs in &published {
            let name = theirs
                .pointer("/metadata/name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let Some(ours) = ours
                .iter()
                .find(|d| d.pointer("/metadata/name").and_then(Value::as_str) == Some(name))
            else {
                differences.insert(format!("{directory} {name}: not generated"));
                continue;
            };
            differences.extend(
                compare(ours, theirs)
                    .into_iter()
                    .map(|d| format!("{directory} {name}{d}")),
            );
        }
        let names: BTreeSet<&str> = published
            .iter()
            .filter_map(|d| d.pointer("/metadata/name")?.as_str())
            .collect();
        if directory == "gateway-api/standard" {
            let group = |d: &&Value| {
                d.pointer("/spec/group")
                    .and_then(Value::as_str)
                    .is_some_and(|g| g.starts_with("gateway.networking"))
            };
            for ours in ours
                .iter()
                .filter(group)
                .filter_map(|d| d.pointer("/metadata/name")?.as_str())
            {
                if !names.contains(ours) {
                    differences.insert(format!("{directory} {ours}: generated, but not published"));
                }
            }
        }
    }
    let accepted: BTreeSet<String> = include_str!("crds-accepted-differences.txt")
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let unexpected: Vec<&String> = differences.difference(&accepted).collect();
    let gone: Vec<&String> = accepted.difference(&differences).collect();
    assert!(
        unexpected.is_empty() && gone.is_empty(),
        "{} differences that are not accepted:\n{}\n\n{} accepted ones that are gone (remove their lines):\n{}",
        unexpected.len(),
        unexpected
            .iter()
            .take(200)
            .map(|d| d.as_str())
            .collect::<Vec<_>>()
            .join("\n"),
        gone.len(),
        gone.iter().map(|d| d.as_str()).collect::<Vec<_>>().join("\n"),
    );
}

fn published(directory: &Path) -> Vec<Value> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    files
        .iter()
        .filter_map(|file| Some((file.display().to_string(), std::fs::read_to_string(file).ok()?)))
        .flat_map(|(file, text)| objects(&file, &text).0)
        .filter(|o| o.reference.kind == "CustomResourceDefinition")
        .map(|o| o.to_value())
        .collect()
}

fn corten_testdata(area: &str) -> Option<std::path::PathBuf> {
    let shared = std::env::var_os("CORTEN_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        std::path::PathBuf::from,
    );
    let directory = shared.join("testdata").join(area);
    if directory.is_dir() {
        return Some(directory);
    }
    corten_rt::skip_reason(&format!("no test data at {}", directory.display()));
    None
}
