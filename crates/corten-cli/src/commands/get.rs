//! `corten get`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use http::{Method, Request};
use kube::api::WatchEvent;
use serde_json::Value;

use crate::cluster::{Cluster, Connection, Resources, TABLE, Target, Targets, query};
use crate::output;
use crate::show::table::{self, Options};
use crate::show::{self, Format};

/// Show objects
#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    targets: Targets,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only objects with these field values, for example metadata.name=a
    #[arg(long, value_name = "SELECTOR")]
    field_selector: Option<String>,
    /// wide, json, yaml, name, jsonpath=TEMPLATE, custom-columns=HEADING:PATH,...
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
    /// Go on showing what changes
    #[arg(short, long)]
    watch: bool,
    /// A column with the labels
    #[arg(long)]
    show_labels: bool,
    /// No headings
    #[arg(long)]
    no_headers: bool,
    /// Keep metadata.managedFields in YAML and JSON
    #[arg(long)]
    show_managed_fields: bool,
    /// Nothing to say about an object that is not there
    #[arg(long)]
    ignore_not_found: bool,
}

impl Get {
    pub(crate) fn run(self) -> Result<ExitCode> {
        self.connection.clone().run(async |cluster| {
            let resources = Resources::of(&cluster).await?;
            let targets = self.targets.resolve(&resources)?;
            match self.output.clone().unwrap_or(Format::Table { wide: false }) {
                Format::Table { wide } => self.tables(&cluster, &targets, wide).await,
                format => self.objects(&cluster, &resources, &targets, &format).await,
            }
        })
    }

    fn scope<'a>(&self, cluster: &'a Cluster) -> Option<&'a str> {
        (!self.all_namespaces).then_some(cluster.namespace.as_str())
    }

    /// The path of a target with the selectors, and whether to watch.
    fn path(&self, cluster: &Cluster, target: &Target, watch_from: Option<String>) -> String {
        let name = target.name.as_deref();
        let mut fields = self.field_selector.clone();
        if let (Some(name), Some(_)) = (name, &watch_from) {
            fields = Some(format!("metadata.name={name}"));
        }
        let path = target
            .resource
            .path(self.scope(cluster), if watch_from.is_some() { None } else { name });
        let pairs = [
            ("labelSelector", target.selector.clone()),
            ("fieldSelector", fields),
            ("watch", watch_from.is_some().then(|| "1".to_owned())),
            ("resourceVersion", watch_from),
        ];
        path + &query(&pairs)
    }

    async fn tables(&self, cluster: &Cluster, targets: &[Target], wide: bool) -> Result<ExitCode> {
        let several = targets.iter().any(|target| target.resource != targets[0].resource);
        let mut code = ExitCode::SUCCESS;
        let mut shown = Vec::<(String, Vec<Vec<String>>)>::new();
        let mut last = None;
        for target in targets {
            let table = match cluster
                .request(Method::GET, &self.path(cluster, target, None), TABLE, None)
                .await
            {
                Ok(table) => table,
                Err(refusal) if refusal.is_not_found() && self.ignore_not_found => continue,
                Err(refusal) => {
                    eprintln!("error: {:#}", anyhow::Error::from(refusal));
                    code = ExitCode::FAILURE;
                    continue;
                }
            };
            let qualified = target.resource.qualified();
            let options = self.options(target, wide, several.then_some(qualified.as_str()));
            let same = shown.last().is_some_and(|(kind, _)| *kind == qualified);
            let mut rows = table::rows(
                &table,
                &Options {
                    headers: options.headers && !same,
                    ..options
                },
            );
            let empty = rows.len() <= usize::from(options.headers && !same);
            match shown.last_mut() {
                Some((_, before)) if same => before.append(&mut rows),
                _ if empty => {}
                _ => shown.push((qualified, rows)),
            }
            last = Some((target, table));
        }
        let blocks: Vec<String> = shown.iter().map(|(_, rows)| table::lines(rows)).collect();
        output::text(blocks.join("\n"))?;
        if blocks.is_empty() && code == ExitCode::SUCCESS && !self.watch && !self.ignore_not_found {
            match self
                .scope(cluster)
                .filter(|_| targets.iter().any(|target| target.resource.namespaced))
            {
                Some(namespace) => eprintln!("No resources found in {namespace} namespace."),
                None => eprintln!("No resources found"),
            }
        }
        if let (true, Some((target, table))) = (self.watch, last) {
            self.follow_table(cluster, target, &table, wide).await?;
        }
        Ok(code)
    }

    fn options<'a>(&self, target: &Target, wide: bool, prefix: Option<&'a str>) -> Options<'a> {
        Options {
            wide,
            namespaces: self.all_namespaces && target.resource.namespaced,
            labels: self.show_labels,
            headers: !self.no_headers,
            prefix,
        }
    }

    /// Prints a row for each change, in the columns of the first table.
    async fn follow_table(&self, cluster: &Cluster, target: &Target, first: &Value, wide: bool) -> Result<()> {
        let version = first["metadata"]["resourceVersion"].as_str().unwrap_or("").to_owned();
        let columns = first["columnDefinitions"].clone();
        let options = Options {
            headers: false,
            ..self.options(target, wide, None)
        };
        let widths = table::widths(&table::rows(
            first,
            &Options {
                headers: true,
                ..options
            },
        ));
        self.follow(cluster, target, version, TABLE, |mut object| {
            // Only the first event of a watch carries the columns.
            object["columnDefinitions"] = columns.clone();
            output::text(table::lines_within(&table::rows(&object, &options), &widths))
        })
        .await
    }

    async fn follow(
        &self,
        cluster: &Cluster,
        target: &Target,
        version: String,
        accept: &str,
        mut show: impl FnMut(Value) -> std::io::Result<()>,
    ) -> Result<()> {
        let path = self.path(cluster, target, Some(version));
        let request = Request::get(path).header("accept", accept).body(Vec::new())?;
        let events = cluster
            .client()
            .request_events::<Value>(request)
            .await
            .map_err(|error| cluster.refusal(error))?;
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.try_next().await.map_err(|error| cluster.refusal(error))? {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => show(object)?,
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => anyhow::bail!("the watch ended: {}", status.message),
            }
        }
        Ok(())
    }

    async fn objects(
        &self,
        cluster: &Cluster,
        resources: &Resources,
        targets: &[Target],
        format: &Format,
    ) -> Result<ExitCode> {
        let single = targets.len() == 1 && targets[0].name.is_some();
        let mut all = Vec::new();
        for target in targets {
            if target.name.is_some() {
                match target.objects(cluster, self.scope(cluster)).await {
                    Ok(found) => all.extend(found),
                    Err(_) if self.ignore_not_found => {}
                    Err(error) => return Err(error),
                }
            } else {
                let list = cluster.get(&self.path(cluster, target, None)).await?;
                let api_version = list["apiVersion"].clone();
                for mut item in list["items"].as_array().cloned().unwrap_or_default() {
                    item["apiVersion"] = api_version.clone();
                    item["kind"] = target.resource.kind.as_str().into();
                    all.push(item);
                }
            }
        }
        if single && all.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        let names = |object: &Value| {
            let kind = object["kind"].as_str().unwrap_or("");
            let resource = resources.of_kind(object["apiVersion"].as_str().unwrap_or(""), kind);
            let name = object["metadata"]["name"].as_str().unwrap_or("");
            format!(
                "{}/{name}",
                resource.map_or_else(|| kind.to_lowercase(), crate::cluster::Resource::qualified)
            )
        };
        if !self.show_managed_fields {
            all.iter_mut().for_each(without_managed_fields);
        }
        output::text(show::objects(format, &all, single, names)?)?;
        if self.watch {
            let target = targets.first().context("there is a target")?;
            let version =
                cluster.get(&target.resource.path(self.scope(cluster), None)).await?["metadata"]["resourceVersion"]
                    .clone();
            self.follow(
                cluster,
                target,
                version.as_str().unwrap_or("").to_owned(),
                "application/json",
                |mut object| {
                    without_managed_fields(&mut object);
                    let shown = show::objects(format, &[object], true, names).map_err(std::io::Error::other)?;
                    output::text(shown)
                },
            )
            .await?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn without_managed_fields(object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
}
