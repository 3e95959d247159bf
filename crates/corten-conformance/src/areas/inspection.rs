//! Area `istio-istioctl`: commands that look into proxies, and what they print.
//!
//! Each row's command is taken apart, and its output made by the code behind the command of the same name.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use corten_admin::config_dump;
use corten_analysis::analyzers::{self, Analyzer};
use corten_analysis::{Sources, analyze};
use corten_api::diagnostic::Severity;
use corten_envoy::in_order;
use corten_inspect::envoy::{
    self, ClusterFilter, Dump, EndpointFilter, Endpoints, ListenerFilter, RouteFilter, secret_table, secrets,
};
use corten_inspect::statuses::{Proxy, Said, State, in_form, response, table as statuses, verbose};
use corten_inspect::table::json;
use corten_inspect::ztunnel::{self, Connections, Workloads};
use corten_inspect::{authz, injection, waypoints};
use jiff::Timestamp;
use serde_json::Value;

use crate::data::{self, Area};
use crate::outcome::{Case, Outcome};

/// One case for each row.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    data::judged(area, |_, row| judge(row, &area.dir))
}

/// A command line: words, and flags with their values.
struct Line {
    words: Vec<String>,
    flags: Vec<(String, String)>,
}

/// Flags without a value.
const SWITCHES: [&str; 3] = ["-A", "--all-namespaces", "--with-headers"];

impl Line {
    fn of(text: &str) -> Line {
        // What stands in parentheses is said of the command.
        let headers = text.contains("(with section headers)");
        let text = text.replace("(with section headers)", "");
        let mut line = Line {
            words: Vec::new(),
            flags: Vec::new(),
        };
        let mut words = text.split_whitespace().peekable();
        while let Some(word) = words.next() {
            if !word.starts_with('-') {
                line.words.push(word.to_owned());
            } else if let Some((flag, value)) = word.split_once('=') {
                line.flags.push((flag.to_owned(), value.to_owned()));
            } else if SWITCHES.contains(&word) {
                line.flags.push((word.to_owned(), String::new()));
            } else {
                let value = words.next().unwrap_or_default();
                line.flags.push((word.to_owned(), value.to_owned()));
            }
        }
        if headers {
            line.flags.push(("--with-headers".to_owned(), String::new()));
        }
        line
    }

    fn flag(&self, name: &str) -> Option<String> {
        let found = self.flags.iter().find(|(flag, _)| flag == name);
        found.map(|(_, value)| value.clone())
    }

    fn has(&self, name: &str) -> bool {
        self.flag(name).is_some()
    }

    fn port(&self) -> Result<Option<u16>> {
        Ok(self.flag("--port").map(|port| port.parse()).transpose()?)
    }

    fn output(&self) -> String {
        self.flag("-o").unwrap_or_else(|| "short".to_owned())
    }
}

fn judge(row: &Value, dir: &Path) -> Result<Outcome> {
    let line = Line::of(row["command"].as_str().context("a row has a command")?);
    let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
    let shown = match words[..] {
        ["istioctl", "proxy-config" | "pc", kind, ..] => proxy_config(&line, kind, &input(row, dir)?)?,
        ["istioctl", "ztunnel-config" | "zc", kind, ..] => ztunnel_config(&line, kind, &input(row, dir)?)?,
        ["istioctl", "x", "authz", "check", ..] => authz::policies(&Dump::parse(&input(row, dir)?)?),
        ["istioctl", "proxy-status" | "ps"] => proxy_status(&line, &row["xdsStatusByIstiod"])?,
        ["istioctl", "waypoint", kind] => waypoint(&line, kind, row)?,
        ["istioctl", "x", "check-inject"] => return check_inject(row, dir),
        ["istioctl", "analyze", ..] => return analysis(&line, row, dir),
        ["(library)", "virtual", "service", "path", ..] => return behind(&words, row, dir),
        ["istioctl", "x", "workload", ..] => {
            return Ok(Outcome::Skipped(
                "machines outside of Kubernetes are not in the mesh".to_owned(),
            ));
        }
        _ => bail!("the command is none that is known: {}", words.join(" ")),
    };
    compared(&line, row, dir, &shown)
}

/// The output and what it should be: JSON and YAML by what they say, tables by their text.
fn compared(line: &Line, row: &Value, dir: &Path, shown: &str) -> Result<Outcome> {
    let expected = match (
        row["expected"]["stdoutText"].as_str(),
        row["expected"]["stdout"].as_str(),
    ) {
        (Some(text), _) => text.to_owned(),
        (None, Some(file)) => read(&dir.join(file))?,
        _ => bail!("the row expects nothing that a command prints"),
    };
    let same = match line.output().as_str() {
        "json" => serde_json::from_str::<Value>(&expected)? == serde_json::from_str::<Value>(shown)?,
        "yaml" => serde_saphyr::from_str::<Value>(&expected)? == serde_saphyr::from_str::<Value>(shown)?,
        _ => lines(&expected) == lines(shown),
    };
    Ok(if same {
        Outcome::Passed
    } else {
        let (expected, shown) = (lines(&expected), lines(shown));
        let at = expected.iter().zip(&shown).position(|(a, b)| a != b);
        let at = at.unwrap_or_else(|| expected.len().min(shown.len()));
        let line = |text: &[String]| text.get(at).cloned().unwrap_or_else(|| "its end".to_owned());
        Outcome::Failed(format!(
            "line {}: {:?} instead of {:?}",
            at + 1,
            line(&shown),
            line(&expected)
        ))
    })
}

fn lines(text: &str) -> Vec<String> {
    text.trim_end().lines().map(|line| line.trim_end().to_owned()).collect()
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// The one file that a row's command reads.
fn input(row: &Value, dir: &Path) -> Result<Vec<u8>> {
    let inputs = row["inputs"].as_object().context("the row has inputs")?;
    ensure!(inputs.len() == 1, "the row has one input");
    let file = inputs
        .values()
        .next()
        .and_then(Value::as_str)
        .context("an input is a file")?;
    Ok(read(&dir.join(file))?.into_bytes())
}

/// A message, or a list of them, in the form that a command asks for.
fn formed(line: &Line, kind: &str, message: &Value, table: impl FnOnce() -> String) -> Result<String> {
    Ok(match line.output().as_str() {
        "json" => json(&in_order(kind, message))?,
        "yaml" => corten_api::yaml::document(message),
        _ => table(),
    })
}

fn proxy_config(line: &Line, kind: &str, text: &[u8]) -> Result<String> {
    let named = |list: Vec<&Value>| Value::Array(list.into_iter().cloned().collect());
    let verbose = line.flag("--verbose").is_none_or(|it| it != "false");
    match kind {
        "endpoint" | "endpoints" | "ep" | "eds" => {
            let filter = EndpointFilter {
                address: line.flag("--address"),
                port: line.port()?,
                cluster: line.flag("--cluster"),
                status: line.flag("--status"),
            };
            let found = Endpoints::parse(text, &filter)?;
            let (kind, list) = found.resources();
            formed(line, kind, &Value::Array(list.to_vec()), || found.table(&filter, false))
        }
        "ecds" | "ec" => {
            let (section, table) = envoy::extensions(&Dump::parse(text)?);
            formed(line, "envoy.admin.v3.EcdsConfigDump", &section, || table)
        }
        "secret" | "secrets" | "s" => {
            let dump = Dump::parse(text)?;
            let section = dump.section("SecretsConfigDump").unwrap_or_default();
            formed(line, "envoy.admin.v3.SecretsConfigDump", &section, || {
                secret_table(&secrets(&dump, Timestamp::now()), false)
            })
        }
        "bootstrap" | "b" => {
            let (section, versions) = envoy::bootstrap(&Dump::parse(text)?)?;
            formed(line, "envoy.admin.v3.BootstrapConfigDump", &section, || versions)
        }
        "cluster" | "clusters" | "c" => {
            let filter = ClusterFilter {
                fqdn: line.flag("--fqdn"),
                direction: line.flag("--direction"),
                port: line.port()?,
                subset: line.flag("--subset"),
            };
            let dump = Dump::parse(text)?;
            let list = named(envoy::select_clusters(&dump, &filter)?);
            let table = envoy::clusters(&dump, &filter, false)?;
            formed(line, "envoy.config.cluster.v3.Cluster", &list, || table)
        }
        "listener" | "listeners" | "l" => {
            let filter = ListenerFilter {
                address: line.flag("--address"),
                port: line.port()?,
                kind: line.flag("--type"),
            };
            let dump = Dump::parse(text)?;
            let list = named(envoy::select_listeners(&dump, &filter)?);
            let table = envoy::listeners(&dump, &filter, verbose, false)?;
            formed(line, "envoy.config.listener.v3.Listener", &list, || table)
        }
        "route" | "routes" | "r" => {
            let filter = RouteFilter {
                name: line.flag("--name"),
            };
            let dump = Dump::parse(text)?;
            let list = named(envoy::select_routes(&dump, &filter)?);
            let table = envoy::routes(&dump, &filter, verbose, false)?;
            formed(line, "envoy.config.route.v3.RouteConfiguration", &list, || table)
        }
        other => bail!("proxy-config has no {other}"),
    }
}

fn ztunnel_config(line: &Line, kind: &str, text: &[u8]) -> Result<String> {
    let dump = config_dump::Dump::parse(text)?;
    let now = Timestamp::now();
    let name = line.flag("--workload-name");
    let namespace = line.flag("--workload-namespace");
    Ok(match kind {
        "workload" => {
            let filter = Workloads {
                name: name.as_deref(),
                namespace: namespace.as_deref(),
                ..Workloads::default()
            };
            ztunnel::workloads(&dump, &filter)
        }
        "service" => ztunnel::services(&dump, line.flag("--service-namespace").as_deref()),
        "policy" => ztunnel::policies(&dump, line.flag("--policy-namespace").as_deref()),
        "certificate" => ztunnel::certificates(&dump, now),
        "connections" => {
            let pod = line.flag("--workload");
            let pod = pod.as_deref().map(|pod| pod.split_once('.').unwrap_or((pod, "")));
            let filter = Connections {
                name: pod.map(|(name, _)| name).or(name.as_deref()),
                namespace: pod.map(|(_, namespace)| namespace).or(namespace.as_deref()),
                ..Connections::default()
            };
            if line.output() == "json" {
                json(&ztunnel::select_pods(&dump, &filter))?
            } else {
                ztunnel::connections(&dump, &filter)
            }
        }
        "all" => ztunnel::all(&dump, line.has("--with-headers"), now),
        other => bail!("ztunnel-config has no {other}"),
    })
}

fn proxy_status(line: &Line, istiods: &Value) -> Result<String> {
    let kinds = [
        ("cds", "envoy.config.cluster.v3.Cluster"),
        ("lds", "envoy.config.listener.v3.Listener"),
        ("rds", "envoy.config.route.v3.RouteConfiguration"),
        ("eds", "envoy.config.endpoint.v3.ClusterLoadAssignment"),
        ("ecds", "envoy.config.core.v3.TypedExtensionConfig"),
    ];
    let proxy = |row: &Value| {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let state = |(key, kind): &(&str, &str)| {
            let state = State::named(&text(&format!("{key}SyncStatus")))?;
            Some((format!("type.googleapis.com/{kind}"), state))
        };
        Proxy {
            name: text("proxyID"),
            cluster: text("clusterID"),
            version: text("version"),
            types: kinds.iter().filter_map(state).collect(),
        }
    };
    let said: Vec<Said> = istiods
        .as_object()
        .context("the row has control planes")?
        .iter()
        .map(|(istiod, proxies)| Said {
            istiod: istiod.clone(),
            version: "1.1".to_owned(),
            proxies: proxies.as_array().into_iter().flatten().map(proxy).collect(),
        })
        .collect();
    Ok(match (line.output().as_str(), line.flag("-v").as_deref()) {
        ("json", _) => {
            let texts = said.iter().map(|it| json(&in_form(&response(it))));
            texts.collect::<Result<String, _>>()?
        }
        (_, Some("1")) => verbose(&said, &|_| String::new()),
        _ => statuses(&said),
    })
}

fn waypoint(line: &Line, kind: &str, row: &Value) -> Result<String> {
    let all = line.has("-A") || line.has("--all-namespaces");
    let objects = row["clusterObjects"].as_array().context("the row has objects")?;
    let mut found = waypoints::select(objects);
    found.retain(|it| all || it["metadata"]["namespace"] == row["namespace"]);
    match kind {
        "list" => Ok(waypoints::list(&found, all)),
        "status" => Ok(waypoints::status(&found, all)),
        other => bail!("waypoint has no {other}"),
    }
}

fn check_inject(row: &Value, dir: &Path) -> Result<Outcome> {
    let files = row["inputs"].as_object().context("the row has inputs")?.values();
    let webhooks: Vec<Value> = files
        .filter_map(Value::as_str)
        .map(|file| data::document(&dir.join(file)))
        .collect::<Result<_>>()?;
    let objects = row["clusterObjects"].as_array().context("the row has objects")?;
    let labels_of = |kind: &str| {
        let found = objects.iter().find(|object| object["kind"] == kind);
        found
            .map(injection::labels)
            .with_context(|| format!("the row has a {kind}"))
    };
    let judged = injection::judge(&webhooks, &labels_of("Pod")?, &labels_of("Namespace")?);
    let (found, expected) = (serde_json::to_value(&judged)?, &row["expected"]["analysis"]);
    Ok(if found == *expected {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("{found} instead of {expected}"))
    })
}

/// Whether a command that judges files fails, as its exit code says.
fn analysis(line: &Line, row: &Value, dir: &Path) -> Result<Outcome> {
    let inputs = row["inputs"].as_object().context("the row has inputs")?;
    let mut sources = Sources::new("istio-system", Timestamp::now().as_second());
    for (name, file) in inputs {
        let file = dir.join(file.as_str().context("an input is a file")?);
        sources.add_files(corten_api::decode::objects(name, &read(&file)?).0);
    }
    let world = sources.world();
    let chosen: Vec<&Analyzer> = match line.flag("--analyzer") {
        None => analyzers::default_set().collect(),
        Some(name) => analyzers::named(&[name]),
    };
    let chosen = chosen.into_iter().filter(|analyzer| analyzer.can_judge_files(&world));
    let found = analyze(&world, chosen);
    let fails = found.iter().any(|message| message.level == Severity::Error);
    let expected = row["expected"]["fails"]
        .as_bool()
        .context("the row says whether it fails")?;
    Ok(if fails == expected {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("it finds {} mistakes", found.len()))
    })
}

/// The VirtualService behind a route: `... for service NAME.NAMESPACE port PORT`.
fn behind(words: &[&str], row: &Value, dir: &Path) -> Result<Outcome> {
    let after = |word: &str| {
        let at = words.iter().rposition(|it| *it == word);
        at.and_then(|at| words.get(at + 1))
            .with_context(|| format!("the row names a {word}"))
    };
    let (service, namespace) = after("service")?.split_once('.').context("a service has a namespace")?;
    let dump = Dump::parse(&input(row, dir)?)?;
    let found = envoy::behind(&dump, service, namespace, after("port")?.parse()?);
    let expected = row["expected"]["value"].as_str();
    Ok(if found == expected {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("{found:?} instead of {expected:?}"))
    })
}
