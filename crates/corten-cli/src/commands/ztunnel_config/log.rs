//! `corten ztunnel-config log`.

use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use http::Method;

use super::Place;
use super::find::{is_ztunnel, named, pod_named, ztunnels};
use crate::cluster::{Connection, query, split_name};
use crate::output;

/// Show or change what node proxies log
#[derive(Debug, clap::Args)]
pub(crate) struct Log {
    #[command(flatten)]
    connection: Connection,
    /// A ztunnel pod; all of them when left out
    #[arg(value_name = "[TYPE/]NAME[.NAMESPACE]")]
    pod: Option<String>,
    /// LEVEL for all loggers, or LOGGER:LEVEL,...; levels are trace, debug, info, warning, error, critical, off
    #[arg(long, value_name = "LEVELS", conflicts_with = "reset", value_parser = levels)]
    level: Option<String>,
    /// Back to the default, info
    #[arg(short, long)]
    reset: bool,
    #[command(flatten)]
    place: Place,
}

impl Log {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let path = "/logging".to_owned();
        let path = match (&self.level, self.reset) {
            (_, true) => path + "?level=info&reset",
            (Some(level), false) => path + &query(&[("level", Some(level.clone()))]),
            (None, false) => path,
        };
        if self.reset {
            eprintln!("the log level becomes ztunnel's default, info");
        }
        self.connection.run(async |cluster| {
            let system = self.place.system(&cluster);
            let pods = match &self.pod {
                None => ztunnels(&system).await?,
                Some(word) => {
                    let given = self.connection.named_namespace().is_some() || split_name(word).1.is_some();
                    let pod = pod_named(if given { &cluster } else { &system }, word).await?;
                    ensure!(is_ztunnel(&pod), "{word} is no ztunnel");
                    vec![pod]
                }
            };
            let mut code = ExitCode::SUCCESS;
            for pod in &pods {
                let pod = named(pod);
                let answer = cluster
                    .ask_pod(&pod.namespace, &pod.name, self.place.port(), Method::POST, &path)
                    .await;
                let title = format!("{}.{}", pod.name, pod.namespace);
                match answer {
                    Ok(answer) if answer.status.is_success() => {
                        output::line(format!("{title}:\n{}", String::from_utf8_lossy(&answer.body)))?;
                    }
                    Ok(answer) => {
                        let reason = String::from_utf8_lossy(&answer.body).trim().to_owned();
                        eprintln!("error: {title} answers {}: {reason}", answer.status);
                        code = ExitCode::FAILURE;
                    }
                    Err(error) => {
                        eprintln!("error: {title}: {error:#}");
                        code = ExitCode::FAILURE;
                    }
                }
            }
            if pods.is_empty() {
                bail!("ztunnel has no pods");
            }
            Ok(code)
        })
    }
}

/// Levels in ztunnel's words, from istioctl's.
fn levels(text: &str) -> Result<String, String> {
    let level = |word: &str| {
        Ok(match word {
            "trace" | "debug" | "info" | "warn" | "error" | "off" => word.to_owned(),
            "warning" => "warn".to_owned(),
            "critical" => "error".to_owned(),
            _ => return Err(format!("unrecognized logging level: {word:?}")),
        })
    };
    let clauses = text.split(',').map(|clause| match clause.rsplit_once(['=', ':']) {
        Some((logger, word)) => Ok(format!("{logger}={}", level(word)?)),
        None => level(clause),
    });
    Ok(clauses.collect::<Result<Vec<_>, String>>()?.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_said_in_ztunnels_words() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let levels = levels(text);
            let levels = levels.as_deref().map_err(String::as_str);
            assert_eq!(levels, expected, "{text}");
        };
        check("debug", Ok("debug"));
        check("warning", Ok("warn"));
        check("access:debug,info", Ok("access=debug,info"));
        check("corten_node::inpod:critical", Ok("corten_node::inpod=error"));
        check("access=trace", Ok("access=trace"));
        check("loud", Err("unrecognized logging level: \"loud\""));
        check("access:", Err("unrecognized logging level: \"\""));
    }
}
