//! `corten proxy-status`: which proxies each control plane serves, and whether they have taken what it sent; istioctl's words and tables.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use corten_apiserver::human_span;
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Connection, query, ready_first, split_name};
use crate::output;
use corten_api::yaml;

/// Show which proxies the control plane serves, and whether they have taken what it sent
#[derive(Debug, clap::Args)]
pub(crate) struct ProxyStatus {
    #[command(flatten)]
    connection: Connection,
    /// Only this proxy
    #[arg(value_name = "NAME[.NAMESPACE]")]
    proxy: Option<String>,
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
    /// 1 shows the state of each type
    #[arg(short, long, value_name = "LEVEL", default_value_t = 0)]
    verbosity: u8,
    /// The namespace of the mesh's parts
    #[arg(
        short = 'i',
        long = "istioNamespace",
        value_name = "NAMESPACE",
        default_value = "istio-system"
    )]
    istio_namespace: String,
    /// Only control planes of this revision
    #[arg(short, long)]
    revision: Option<String>,
    /// The port of the control plane's debug endpoints
    #[arg(long, value_name = "PORT", default_value_t = 15014)]
    monitoring_port: u16,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    #[value(alias = "short")]
    Table,
    Json,
    Yaml,
}

const PREFIX: &str = "type.googleapis.com/";
const CLIENT_CONFIG: &str = "type.googleapis.com/envoy.service.status.v3.ClientConfig";
const CLUSTERS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const LISTENERS: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
const EXTENSIONS: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";

/// The types that come first, in this order; they have columns even if nobody wants them.
const CORE: [&str; 4] = [CLUSTERS, LISTENERS, ENDPOINTS, ROUTES];

/// What one control plane says.
#[derive(Clone, Debug)]
struct Said {
    istiod: String,
    version: String,
    proxies: Vec<Proxy>,
}

/// A proxy and its types.
#[derive(Clone, Debug)]
struct Proxy {
    name: String,
    cluster: String,
    version: String,
    types: BTreeMap<String, State>,
}

/// The state of a type.
#[derive(Clone, Debug)]
struct State {
    status: &'static str,
    sent_at: Option<Timestamp>,
    error: Option<String>,
}

impl ProxyStatus {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut said = self.connection.run(async |cluster| self.ask(&cluster).await)?;
        let namespace = self.connection.named_namespace();
        for it in &mut said {
            it.proxies.retain(|proxy| self.is_meant(proxy, namespace));
        }
        if let Some(proxy) = &self.proxy
            && said.iter().all(|it| it.proxies.is_empty())
        {
            bail!("no control plane serves a proxy {proxy}; `corten proxy-status` shows those that are served");
        }
        output::text(match self.output {
            Form::Table if self.verbosity == 0 => table(&said),
            Form::Table => verbose(&said, Timestamp::now()),
            Form::Json => said
                .iter()
                .map(|it| output::json(&response(it)))
                .collect::<Result<String, _>>()?,
            Form::Yaml => said.iter().map(|it| yaml::document(&response(it))).collect(),
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn is_meant(&self, proxy: &Proxy, namespace: Option<&str>) -> bool {
        let (own, of) = split_name(&proxy.name);
        let (wanted, given) = self.proxy.as_deref().map_or((None, None), |word| {
            let (name, namespace) = split_name(word);
            (Some(name), namespace)
        });
        wanted.is_none_or(|wanted| wanted == own) && given.or(namespace).is_none_or(|it| Some(it) == of)
    }

    async fn ask(&self, cluster: &Cluster) -> Result<Vec<Said>> {
        let system = &self.istio_namespace;
        let revision = self
            .revision
            .as_ref()
            .map(|it| format!(",istio.io/rev={it}"))
            .unwrap_or_default();
        let selector = query(&[("labelSelector", Some(format!("app=istiod{revision}")))]);
        let pods = cluster
            .get(&format!("/api/v1/namespaces/{system}/pods{selector}"))
            .await?;
        let running =
            |pod: &&Value| pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null();
        let pods = pods["items"].as_array().into_iter().flatten();
        let pods = ready_first(pods.filter(running).cloned().collect());
        ensure!(
            !pods.is_empty(),
            "no control plane runs in namespace {system}: is the mesh in another one (-i), or not installed?"
        );
        let mut said = Vec::new();
        for pod in pods {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let ask = async |path: &str| {
                cluster
                    .ask_pod(system, name, self.monitoring_port, Method::GET, path)
                    .await
            };
            let answer = ask("/debug/syncz").await?;
            ensure!(
                answer.status.is_success(),
                "control plane {name} answers {} when asked for its proxies",
                answer.status
            );
            let answer: Value = serde_json::from_slice(&answer.body)
                .with_context(|| format!("control plane {name} does not answer with JSON"))?;
            // Only for the JSON form; an older one may not know it.
            let version = ask("/version").await.ok().filter(|it| it.status.is_success());
            let version = version.map(|it| String::from_utf8_lossy(&it.body).trim().to_owned());
            said.push(Said::read(name, version.unwrap_or_default(), &answer));
        }
        Ok(said)
    }
}

impl Said {
    fn read(istiod: &str, version: String, answer: &Value) -> Said {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let proxies = answer.as_array().into_iter().flatten().map(|it| Proxy {
            name: text(&it["proxy"]),
            cluster: text(&it["cluster_id"]),
            version: text(&it["istio_version"]),
            types: types(it),
        });
        let mut proxies: Vec<Proxy> = proxies.collect();
        proxies.sort_by(|a, b| a.name.cmp(&b.name));
        Said {
            istiod: istiod.to_owned(),
            version,
            proxies,
        }
    }
}

/// The types of a proxy: those listed, else those that have keys of their own.
fn types(proxy: &Value) -> BTreeMap<String, State> {
    if let Some(listed) = proxy["resources"].as_object() {
        return listed
            .iter()
            .map(|(kind, it)| (kind.clone(), State::read(it)))
            .collect();
    }
    let keyed = [
        ("cluster", CLUSTERS),
        ("listener", LISTENERS),
        ("endpoint", ENDPOINTS),
        ("route", ROUTES),
        ("extensionconfig", EXTENSIONS),
    ];
    let state = |(key, kind): (&str, &str)| {
        let (sent, acked) = (&proxy[format!("{key}_sent")], &proxy[format!("{key}_acked")]);
        (kind.to_owned(), State::read(&json!({"sent": sent, "acked": acked})))
    };
    keyed.into_iter().map(state).collect()
}

impl State {
    /// By istiod's rules: a refusal counts most, then whether what was sent last has been taken.
    fn read(value: &Value) -> State {
        let text = |key: &str| value[key].as_str().filter(|it| !it.is_empty());
        let error = text("lastError");
        let status = match (text("sent"), text("acked")) {
            _ if error.is_some() => "ERROR",
            (None, _) => "NOT_SENT",
            (sent, acked) if sent == acked => "SYNCED",
            _ => "STALE",
        };
        State {
            status,
            sent_at: text("sentTime").and_then(|it| it.parse().ok()),
            error: error.map(str::to_owned),
        }
    }

    fn cell(&self, now: Timestamp) -> String {
        match (self.status, self.sent_at) {
            ("NOT_SENT", _) => "NOT SENT".to_owned(),
            (status, None) => status.to_owned(),
            (status, Some(at)) => format!("{status} ({})", human_span(now.as_second() - at.as_second())),
        }
    }
}

/// All types that occur, the core ones first.
fn seen(said: &[Said]) -> Vec<String> {
    let proxies = said.iter().flat_map(|it| &it.proxies);
    let all: BTreeSet<&String> = proxies.flat_map(|it| it.types.keys()).collect();
    let core = CORE
        .iter()
        .filter(|it| all.contains(&(**it).to_owned()))
        .map(|it| (*it).to_owned());
    let rest = all
        .iter()
        .filter(|it| !CORE.contains(&it.as_str()))
        .map(|it| (*it).clone());
    core.chain(rest).collect()
}

/// Proxies with the control plane that serves them, by name.
fn rows(said: &[Said]) -> Vec<(&Said, &Proxy)> {
    let mut rows: Vec<_> = said
        .iter()
        .flat_map(|it| it.proxies.iter().map(move |proxy| (it, proxy)))
        .collect();
    rows.sort_by(|a, b| a.1.name.cmp(&b.1.name));
    rows
}

fn table(said: &[Said]) -> String {
    let seen = seen(said);
    let mut lines = vec![
        ["NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED TYPES"]
            .map(str::to_owned)
            .to_vec(),
    ];
    lines.extend(rows(said).into_iter().map(|(it, proxy)| {
        let types: Vec<&str> = seen
            .iter()
            .filter(|kind| proxy.types.contains_key(*kind))
            .map(|it| short(it))
            .collect();
        let types = match types.len() {
            0 => "0".to_owned(),
            count => format!("{count} ({})", types.join(",")),
        };
        vec![
            proxy.name.clone(),
            proxy.cluster.clone(),
            it.istiod.clone(),
            proxy.version.clone(),
            types,
        ]
    }));
    output::columns(&lines, 5)
}

fn verbose(said: &[Said], now: Timestamp) -> String {
    let known = CORE.into_iter().chain([EXTENSIONS]).map(str::to_owned);
    let all: BTreeSet<String> = seen(said).into_iter().chain(known).collect();
    let middle = all.iter().map(|it| short(it));
    let heading = ["NAME", "CLUSTER"]
        .into_iter()
        .chain(middle)
        .chain(["ISTIOD", "VERSION"]);
    let mut lines = vec![heading.map(str::to_owned).collect::<Vec<_>>()];
    lines.extend(rows(said).into_iter().map(|(it, proxy)| {
        let mut line = vec![proxy.name.clone(), proxy.cluster.clone()];
        line.extend(all.iter().map(|kind| {
            proxy
                .types
                .get(kind)
                .map_or_else(|| "IGNORED".to_owned(), |it| it.cell(now))
        }));
        line.extend([it.istiod.clone(), proxy.version.clone()]);
        line
    }));
    output::columns(&lines, 5)
}

/// What a control plane says, in the form of the discovery response that istioctl prints.
fn response(said: &Said) -> Value {
    let resources = said.proxies.iter().map(|proxy| {
        let configs = proxy.types.iter().map(|(kind, state)| {
            let mut config = json!({"typeUrl": qualified(kind), "configStatus": state.status});
            if let Some(at) = state.sent_at {
                config["lastUpdated"] = json!(at.to_string());
            }
            if let Some(error) = &state.error {
                config["errorState"] = json!({"details": error});
            }
            config
        });
        let metadata = json!({
            "CLUSTER_ID": proxy.cluster,
            "ISTIO_VERSION": proxy.version,
            "NAMESPACE": split_name(&proxy.name).1,
        });
        json!({
            "@type": CLIENT_CONFIG,
            "node": {"id": proxy.name, "metadata": metadata},
            "genericXdsConfigs": configs.collect::<Vec<_>>(),
        })
    });
    let identifier = json!({"Component": "istiod", "ID": said.istiod, "Info": {"version": said.version}});
    json!({
        "versionInfo": said.version,
        "resources": resources.collect::<Vec<_>>(),
        "typeUrl": CLIENT_CONFIG,
        "controlPlane": {"identifier": identifier.to_string()},
    })
}

fn qualified(kind: &str) -> String {
    if kind.contains('/') {
        kind.to_owned()
    } else {
        format!("{PREFIX}{kind}")
    }
}

/// A type in a few letters.
fn short(kind: &str) -> &str {
    match kind.strip_prefix(PREFIX).unwrap_or(kind) {
        "envoy.config.cluster.v3.Cluster" => "CDS",
        "envoy.config.listener.v3.Listener" => "LDS",
        "envoy.config.route.v3.RouteConfiguration" => "RDS",
        "envoy.config.endpoint.v3.ClusterLoadAssignment" => "EDS",
        "envoy.extensions.transport_sockets.tls.v3.Secret" => "SDS",
        "envoy.config.core.v3.TypedExtensionConfig" => "ECDS",
        "istio.networking.nds.v1.NameTable" => "NDS",
        "istio.mesh.v1alpha1.ProxyConfig" => "PCDS",
        "istio.workload.Address" | "istio.workload.Workload" => "WDS",
        "istio.security.Authorization" => "WADS",
        _ => kind,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn said() -> Vec<Said> {
        let ours = json!([
            {"proxy": "ztunnel-b.istio-system", "cluster_id": "Kubernetes", "istio_version": "1.32.0", "resources": {
                "type.googleapis.com/istio.security.Authorization": {"sent": "n2", "acked": "n2", "sentTime": "2026-11-20T11:59:00Z", "lastError": null},
                "type.googleapis.com/istio.workload.Address": {"sent": "n4", "acked": "n3", "sentTime": "2026-11-20T09:00:00Z"},
            }},
            {"proxy": "ztunnel-a.istio-system", "cluster_id": "Kubernetes", "istio_version": "1.32.0", "resources": {
                "type.googleapis.com/istio.workload.Address": {"sent": "n4", "acked": "n3", "lastError": "no such enum"},
                "type.googleapis.com/istio.security.Authorization": {"sent": null},
            }},
        ]);
        let older = json!([{"proxy": "web.shop", "cluster_id": "east", "istio_version": "1.20",
            "cluster_sent": "a", "cluster_acked": "a", "listener_sent": "b", "endpoint_sent": "c", "endpoint_acked": "x"}]);
        vec![
            Said::read("istiod-1", "1.32".to_owned(), &ours),
            Said::read("istiod-2", "1.20".to_owned(), &older),
        ]
    }

    #[test]
    fn proxies_with_what_they_subscribe_to() {
        expect![[r#"
            NAME                       CLUSTER        ISTIOD       VERSION     SUBSCRIBED TYPES
            web.shop                   east           istiod-2     1.20        5 (CDS,LDS,EDS,RDS,ECDS)
            ztunnel-a.istio-system     Kubernetes     istiod-1     1.32.0      2 (WADS,WDS)
            ztunnel-b.istio-system     Kubernetes     istiod-1     1.32.0      2 (WADS,WDS)
        "#]]
        .assert_eq(&table(&said()));
    }

    #[test]
    fn proxies_with_the_state_of_each_type() {
        let now = "2026-11-20T12:00:00Z".parse().expect("a time");
        expect![[r#"
            NAME                       CLUSTER        CDS         ECDS         EDS         LDS         RDS          WADS             WDS            ISTIOD       VERSION
            web.shop                   east           SYNCED      NOT SENT     STALE       STALE       NOT SENT     IGNORED          IGNORED        istiod-2     1.20
            ztunnel-a.istio-system     Kubernetes     IGNORED     IGNORED      IGNORED     IGNORED     IGNORED      NOT SENT         ERROR          istiod-1     1.32.0
            ztunnel-b.istio-system     Kubernetes     IGNORED     IGNORED      IGNORED     IGNORED     IGNORED      SYNCED (60s)     STALE (3h)     istiod-1     1.32.0
        "#]].assert_eq(&verbose(&said(), now));
    }

    #[test]
    fn json_has_the_form_of_a_discovery_response() {
        let first = &said()[0];
        let mut one = first.clone();
        one.proxies.truncate(1);
        expect![[r#"
            {
                "controlPlane": {
                    "identifier": "{\"Component\":\"istiod\",\"ID\":\"istiod-1\",\"Info\":{\"version\":\"1.32\"}}"
                },
                "resources": [
                    {
                        "@type": "type.googleapis.com/envoy.service.status.v3.ClientConfig",
                        "genericXdsConfigs": [
                            {
                                "configStatus": "NOT_SENT",
                                "typeUrl": "type.googleapis.com/istio.security.Authorization"
                            },
                            {
                                "configStatus": "ERROR",
                                "errorState": {
                                    "details": "no such enum"
                                },
                                "typeUrl": "type.googleapis.com/istio.workload.Address"
                            }
                        ],
                        "node": {
                            "id": "ztunnel-a.istio-system",
                            "metadata": {
                                "CLUSTER_ID": "Kubernetes",
                                "ISTIO_VERSION": "1.32.0",
                                "NAMESPACE": "istio-system"
                            }
                        }
                    }
                ],
                "typeUrl": "type.googleapis.com/envoy.service.status.v3.ClientConfig",
                "versionInfo": "1.32"
            }
        "#]]
        .assert_eq(&output::json(&response(&one)).expect("JSON"));
    }
}
