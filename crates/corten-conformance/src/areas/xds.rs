//! Area `istio-xds`: what a proxy is sent of configurations of all kinds, those of upstream's benchmarks.
//!
//! A row wants at least one resource of each type it names (its large configuration is for measuring). Beside that, what is made must hold together: every name that one
//! resource calls another by is the name of one that is there.

use anyhow::{Context, Result, bail};
use corten_api::{decode::document, validate::mesh_config::over_defaults};
use corten_envoy_gen::{Resources, dangling};
use corten_model::Settings;
use corten_routing::{Proxy, World};
use serde_json::{Value, json};

use crate::accepted;
use crate::data::{self, Area};
use crate::outcome::{Case, Outcome};

/// Runs every row, each a case.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    data::judged(area, |index, row| {
        let file = row["config"].as_str().context("a row names its configuration")?;
        let made = compile(area, index, row, file).with_context(|| file.to_owned())?;
        Ok(judge(&made, &row["expect"])?.map_or(Outcome::Passed, Outcome::Failed))
    })
}

fn compile(area: &Area, index: &Value, row: &Value, file: &str) -> Result<Resources> {
    let (root, _) = document("mesh", &index["meshConfig"].to_string());
    let mesh = root.map_or_else(Default::default, |root| over_defaults(&root).0);
    let mut world = World::new(Settings::default(), mesh);
    let proxy = &row["proxy"];
    let namespace = proxy["namespace"].as_str().unwrap_or_default();
    let mut objects = data::documents(&area.dir.join(file))?;
    for object in &mut objects {
        if object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = namespace.into();
        }
    }
    world.put(&objects);
    let id = format!(
        "{}~{}~app.{namespace}~{namespace}.svc.cluster.local",
        proxy["type"].as_str().unwrap_or_default(),
        proxy["ip"].as_str().unwrap_or_default(),
    );
    let metadata = json!({ "NAMESPACE": namespace, "LABELS": proxy["labels"] });
    let proxy = Proxy::of_node(&id, &metadata).with_context(|| format!("the proxy {id}"))?;
    Ok(accepted::generate(&world.snapshot(), &proxy))
}

/// What is missing of what is expected; none: nothing.
fn judge(made: &Resources, expected: &Value) -> Result<Option<String>> {
    for (kind, wanted) in expected.as_object().into_iter().flatten() {
        let count = match kind.as_str() {
            "clusters" => made.clusters.len(),
            "endpoints" => made.endpoints.len(),
            "listeners" => made.listeners.len(),
            "routes" => made.routes.len(),
            other => bail!("resources of kind {other:?} are not known"),
        };
        match wanted.as_str() {
            Some("at least one resource") if count > 0 => {}
            Some("at least one resource") => return Ok(Some(format!("there are no {kind}"))),
            _ => bail!("{wanted} is not known"),
        }
    }
    let dangling = dangling(made);
    Ok((!dangling.is_empty()).then(|| dangling.join("; ")))
}
