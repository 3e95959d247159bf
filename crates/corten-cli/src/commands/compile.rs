//! `corten compile`: what a proxy would be sent, by the control plane's own code.

use std::process::ExitCode;

use anyhow::Result;
use corten_envoy::message_to_json;
use corten_envoy_gen::Resources;
use serde_json::{Value, json};

use crate::commands::Form;
use crate::mesh::world::{Kind, Objects};
use crate::output;

/// Show what a proxy would be sent
#[derive(Debug, clap::Args)]
#[command(after_help = "The pod may be one of a Deployment of the files. Examples:
  corten compile -f shop/ --proxy web.shop
  corten compile -f shop/ --proxy web.shop -o yaml
  corten compile --proxy web-5d9c7-x2x4z.shop -o json")]
pub(crate) struct Compile {
    #[command(flatten)]
    objects: Objects,
    /// The proxy's pod: POD.NAMESPACE, or the name of a Deployment in place of the pod's
    #[arg(long, value_name = "POD.NAMESPACE")]
    proxy: String,
    /// What the proxy is
    #[arg(long = "type", value_name = "TYPE", default_value = "sidecar")]
    kind: Kind,
    /// The form
    #[arg(short, long, value_name = "FORM", default_value = "short")]
    output: Form,
}

impl Compile {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let known = self.objects.read()?;
        let without_effect = corten_envoy_gen::diagnostics(&known.snapshot.catalog);
        for diagnostic in known.diagnostics.iter().chain(&without_effect) {
            eprintln!("{diagnostic}");
        }
        let proxy = known.proxy(&self.proxy, self.kind)?;
        let made = corten_envoy_gen::generate(&known.snapshot, &proxy);
        for diagnostic in &made.notices {
            eprintln!("{diagnostic}");
        }
        match self.output {
            Form::Short => output::text(short(&made))?,
            Form::Json => output::line(output::json(&shown(&made)?)?)?,
            Form::Yaml => output::text(corten_api::yaml::document(&shown(&made)?))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// All resources, as protobuf's JSON.
fn shown(made: &Resources) -> Result<Value> {
    let clusters: Result<Vec<Value>, _> = made.clusters.iter().map(message_to_json).collect();
    let endpoints: Result<Vec<Value>, _> = made.endpoints.values().map(message_to_json).collect();
    let listeners: Result<Vec<Value>, _> = made.listeners.iter().map(message_to_json).collect();
    let routes: Result<Vec<Value>, _> = made.routes.values().map(message_to_json).collect();
    let extensions: Result<Vec<Value>, _> = made.extensions.values().map(message_to_json).collect();
    Ok(json!({
        "clusters": clusters?, "endpoints": endpoints?, "listeners": listeners?, "routes": routes?, "extensions": extensions?,
    }))
}

/// A table: one line for each resource, with what tells it from others.
fn short(made: &Resources) -> String {
    let mut rows = vec![["TYPE", "NAME", "WHAT"].map(str::to_owned).to_vec()];
    let mut row = |kind: &str, name: &str, what: String| rows.push(vec![kind.to_owned(), name.to_owned(), what]);
    for listener in &made.listeners {
        let chains = listener.filter_chains.len() + usize::from(listener.default_filter_chain.is_some());
        row("listener", &listener.name, format!("{chains} filter chains"));
    }
    for (name, route) in &made.routes {
        let hosts: Vec<&str> = route.virtual_hosts.iter().map(|host| host.name.as_str()).collect();
        row("route", name, hosts.join(", "));
    }
    for name in made.extensions.keys() {
        row("extension", name, String::new());
    }
    for cluster in &made.clusters {
        let endpoints = made.endpoints.get(&cluster.name).map(|assignment| {
            let count: usize = assignment
                .endpoints
                .iter()
                .map(|locality| locality.lb_endpoints.len())
                .sum();
            format!("{count} endpoints")
        });
        row("cluster", &cluster.name, endpoints.unwrap_or_default());
    }
    output::columns(&rows, 3)
}
