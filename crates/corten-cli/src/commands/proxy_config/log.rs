//! `corten proxy-config log`.

use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use http::Method;

use crate::cluster::{Cluster, Connection, Envoy, query, ready_first};
use crate::output;

/// Show or change what Envoys log
#[derive(Debug, clap::Args)]
pub(crate) struct Log {
    #[command(flatten)]
    connection: Connection,
    /// The pod, or TYPE/NAME for a pod of a workload
    #[arg(
        value_name = "[TYPE/]NAME[.NAMESPACE]",
        required_unless_present = "selector",
        conflicts_with = "selector"
    )]
    pod: Option<String>,
    /// All pods of the namespace with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// LEVEL for all loggers, or LOGGER:LEVEL,...; levels are trace, debug, info, warning, error, critical, off
    #[arg(long, value_name = "LEVELS", conflicts_with = "reset", value_parser = changes)]
    level: Option<Changes>,
    /// Back to the default, warning
    #[arg(short, long)]
    reset: bool,
    /// The port of Envoy's administration
    #[arg(long, value_name = "PORT", default_value_t = 15000, value_parser = clap::value_parser!(u16).range(1..))]
    proxy_admin_port: u16,
}

/// What to ask `/logging` for, in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Changes(Vec<(String, String)>);

impl Log {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let changes = match (&self.level, self.reset) {
            (_, true) => vec![("level".to_owned(), "warning".to_owned())],
            (Some(changes), false) => changes.0.clone(),
            (None, false) => Vec::new(),
        };
        self.connection.run(async |cluster| {
            let mut code = ExitCode::SUCCESS;
            for envoy in self.envoys(&cluster).await? {
                match ask(&cluster, &envoy, &changes).await {
                    Ok(text) => output::line(format!("{}.{}:\n{text}", envoy.name, envoy.namespace))?,
                    Err(error) => {
                        eprintln!("error: {error:#}");
                        code = ExitCode::FAILURE;
                    }
                }
            }
            Ok(code)
        })
    }

    async fn envoys(&self, cluster: &Cluster) -> Result<Vec<Envoy>> {
        let port = self.proxy_admin_port;
        if let Some(pod) = &self.pod {
            return Ok(vec![Envoy::find(cluster, pod, port).await?]);
        }
        let namespace = &cluster.namespace;
        let selector = query(&[("labelSelector", self.selector.clone())]);
        let mut list = cluster
            .get(&format!("/api/v1/namespaces/{namespace}/pods{selector}"))
            .await?;
        let pods = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        ensure!(
            !pods.is_empty(),
            "no pod of namespace {namespace} has the labels {}",
            self.selector.as_deref().unwrap_or_default()
        );
        ready_first(pods).iter().map(|pod| Envoy::of(pod, port)).collect()
    }
}

/// Makes the changes, and tells the state after them.
async fn ask(cluster: &Cluster, envoy: &Envoy, changes: &[(String, String)]) -> Result<String> {
    let mut said = None;
    for (logger, level) in changes {
        let path = format!("/logging{}", query(&[(logger, Some(level.clone()))]));
        said = Some(envoy.ask(cluster, Method::POST, &path).await?);
    }
    let said = match said {
        Some(said) => said,
        None => envoy.ask(cluster, Method::POST, "/logging").await?,
    };
    let text = String::from_utf8_lossy(&said).into_owned();
    // Envoys answer with success to a logger that they do not know, and explain themselves in the text.
    if text.starts_with("usage:") || text.contains("error: ") {
        bail!(
            "the Envoy of pod {}/{} says: {}",
            envoy.namespace,
            envoy.name,
            text.trim()
        );
    }
    Ok(text)
}

/// The changes that a text asks for.
fn changes(text: &str) -> Result<Changes, String> {
    let level = |word: &str| {
        let level = if word == "warn" { "warning" } else { word };
        let known = ["trace", "debug", "info", "warning", "error", "critical", "off"];
        if known.contains(&level) {
            return Ok(level.to_owned());
        }
        Err(format!("{word:?} is no level; levels are {}", known.join(", ")))
    };
    let clauses = text.split(',').map(|clause| match clause.rsplit_once([':', '=']) {
        Some((logger, word)) if !logger.is_empty() => Ok((logger.to_owned(), level(word)?)),
        Some(_) => Err(format!("{clause:?} names no logger before its level")),
        None => Ok(("level".to_owned(), level(clause)?)),
    });
    let mut clauses: Vec<(String, String)> = clauses.collect::<Result<_, String>>()?;
    // All loggers first, so that those with a name keep what is said of them.
    clauses.sort_by_key(|(logger, _)| logger != "level");
    Ok(Changes(clauses))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_envoy() {
        let check = |text: &str, expected: Result<&[(&str, &str)], &str>| {
            let found = changes(text);
            let found: Result<Vec<(&str, &str)>, &str> = match &found {
                Ok(changes) => Ok(changes.0.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect()),
                Err(why) => Err(why),
            };
            assert_eq!(found, expected.map(<[_]>::to_vec), "{text}");
        };
        check("debug", Ok(&[("level", "debug")]));
        check("http:warn,info", Ok(&[("level", "info"), ("http", "warning")]));
        check(
            "rbac=loud",
            Err("\"loud\" is no level; levels are trace, debug, info, warning, error, critical, off"),
        );
        check(":debug", Err("\":debug\" names no logger before its level"));
    }
}
