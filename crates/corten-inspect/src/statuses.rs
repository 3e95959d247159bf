//! How far each proxy is with what its control plane sent it, as a table or in the form in which istiod says it.

use std::collections::{BTreeMap, BTreeSet};

use corten_envoy::in_order;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::envoy::text;
use crate::table::{columns, row};

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
pub struct Said {
    /// Its pod.
    pub istiod: String,
    /// Its version; may be unknown.
    pub version: String,
    /// The proxies that it serves, by name.
    pub proxies: Vec<Proxy>,
}

/// A proxy and its types.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// `POD.NAMESPACE`.
    pub name: String,
    /// Its cluster.
    pub cluster: String,
    /// What it says of its own version.
    pub version: String,
    /// What it asks for, by type URL.
    pub types: BTreeMap<String, State>,
}

/// The state of a type.
#[derive(Clone, Debug)]
pub struct State {
    /// `SYNCED`, `STALE`, `ERROR` or `NOT_SENT`.
    pub status: &'static str,
    /// When something was sent last.
    pub sent_at: Option<Timestamp>,
    /// What the proxy said when it refused something.
    pub error: Option<String>,
    /// The resources that it refused, with what it said of each.
    pub rejected: BTreeMap<String, String>,
}

impl Said {
    /// From the answer of `/debug/syncz`.
    pub fn read(istiod: &str, version: String, answer: &Value) -> Said {
        let text = |value: &Value| text(value).to_owned();
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
    pub fn read(value: &Value) -> State {
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
            rejected: value["rejected"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, why)| (name.clone(), text_of(why)))
                .collect(),
        }
    }

    /// The state by its name alone, as istiod's discovery answers have it; `None` for one that is not known.
    pub fn named(status: &str) -> Option<State> {
        let status = ["SYNCED", "STALE", "ERROR", "NOT_SENT"]
            .into_iter()
            .find(|it| *it == status)?;
        Some(State {
            status,
            sent_at: None,
            error: None,
            rejected: BTreeMap::new(),
        })
    }

    fn cell(&self, age: &dyn Fn(Timestamp) -> String) -> String {
        match (self.status, self.sent_at) {
            ("NOT_SENT", _) => "NOT SENT".to_owned(),
            (status, None) => status.to_owned(),
            (status, Some(at)) => format!("{status} ({})", age(at)),
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

/// The table of proxies and what they subscribe to.
pub fn table(said: &[Said]) -> String {
    let seen = seen(said);
    let mut lines = vec![row(["NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED TYPES"])];
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
    columns(&lines, 5)
}

/// The table of proxies and the state of each type; `age` tells how long ago something was.
pub fn verbose(said: &[Said], age: &dyn Fn(Timestamp) -> String) -> String {
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
                .map_or_else(|| "IGNORED".to_owned(), |it| it.cell(age))
        }));
        line.extend([it.istiod.clone(), proxy.version.clone()]);
        line
    }));
    columns(&lines, 5)
}

/// What proxies refused: a line for each resource, or for the type where the proxy named none.
pub fn refusals(said: &[Said]) -> String {
    let mut lines = String::new();
    for (_, proxy) in rows(said) {
        for (kind, state) in &proxy.types {
            let mut line = |what: &str, why: &str| {
                let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
                lines.push_str(&format!("{} refused {}{what}: {why}\n", proxy.name, short(kind)));
            };
            for (name, why) in &state.rejected {
                line(&format!(" {name:?}"), why);
            }
            if let Some(why) = state.error.as_deref().filter(|_| state.rejected.is_empty()) {
                line("", why);
            }
        }
    }
    lines
}

/// What a control plane says, in the form of the discovery response that istioctl prints.
pub fn response(said: &Said) -> Value {
    let resources = said.proxies.iter().map(|proxy| {
        // Istio's order, which is not that of the names.
        let order = [CLUSTERS, LISTENERS, ROUTES, ENDPOINTS];
        let place = |kind: &str| {
            order
                .iter()
                .position(|it| *it == qualified(kind))
                .unwrap_or(order.len())
        };
        let mut types: Vec<(&String, &State)> = proxy.types.iter().collect();
        types.sort_by_key(|(kind, _)| place(kind));
        let configs = types.into_iter().map(|(kind, state)| {
            let mut config = json!({"typeUrl": qualified(kind), "configStatus": state.status});
            if let Some(at) = state.sent_at {
                config["lastUpdated"] = json!(at.to_string());
            }
            if let Some(error) = &state.error {
                config["errorState"] = json!({"details": error});
            }
            config
        });
        let mut metadata = json!({"CLUSTER_ID": proxy.cluster, "ISTIO_VERSION": proxy.version});
        if let Some((_, namespace)) = proxy.name.rsplit_once('.') {
            metadata["NAMESPACE"] = json!(namespace);
        }
        json!({
            "@type": CLIENT_CONFIG,
            "node": {"id": proxy.name, "metadata": metadata},
            "genericXdsConfigs": configs.collect::<Vec<_>>(),
        })
    });
    let identifier = Identifier {
        component: "istiod",
        id: &said.istiod,
        info: Info {
            version: &said.version,
            revision: "",
            golang_version: "",
            status: "",
            tag: "",
        },
    };
    json!({
        "versionInfo": said.version,
        "resources": resources.collect::<Vec<_>>(),
        "typeUrl": CLIENT_CONFIG,
        // Texts always serialize.
        "controlPlane": {"identifier": serde_json::to_string(&identifier).unwrap_or_default()},
    })
}

/// [`response`], to be written with its fields in their order.
pub fn in_form(response: &Value) -> impl Serialize + use<'_> {
    in_order("envoy.service.discovery.v3.DiscoveryResponse", response)
}

/// Who answered, in istiod's words.
#[derive(Serialize)]
struct Identifier<'a> {
    #[serde(rename = "Component")]
    component: &'a str,
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "Info")]
    info: Info<'a>,
}

/// Which build of it.
#[derive(Serialize)]
struct Info<'a> {
    version: &'a str,
    revision: &'a str,
    golang_version: &'a str,
    status: &'a str,
    tag: &'a str,
}

/// A text as it is, anything else as JSON.
fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
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
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().expect("a time");
        let age = |at: Timestamp| format!("{}s", now.as_second() - at.as_second());
        expect![[r#"
            NAME                       CLUSTER        CDS         ECDS         EDS         LDS         RDS          WADS             WDS                ISTIOD       VERSION
            web.shop                   east           SYNCED      NOT SENT     STALE       STALE       NOT SENT     IGNORED          IGNORED            istiod-2     1.20
            ztunnel-a.istio-system     Kubernetes     IGNORED     IGNORED      IGNORED     IGNORED     IGNORED      NOT SENT         ERROR              istiod-1     1.32.0
            ztunnel-b.istio-system     Kubernetes     IGNORED     IGNORED      IGNORED     IGNORED     IGNORED      SYNCED (60s)     STALE (10800s)     istiod-1     1.32.0
        "#]].assert_eq(&verbose(&said(), &age));
    }

    #[test]
    fn json_has_the_form_of_a_discovery_response() {
        let first = &said()[0];
        let mut one = first.clone();
        one.proxies.truncate(1);
        expect![[r#"
            {
                "versionInfo": "1.32",
                "resources": [
                    {
                        "@type": "type.googleapis.com/envoy.service.status.v3.ClientConfig",
                        "node": {
                            "id": "ztunnel-a.istio-system",
                            "metadata": {
                                "CLUSTER_ID": "Kubernetes",
                                "ISTIO_VERSION": "1.32.0",
                                "NAMESPACE": "istio-system"
                            }
                        },
                        "genericXdsConfigs": [
                            {
                                "typeUrl": "type.googleapis.com/istio.security.Authorization",
                                "configStatus": "NOT_SENT"
                            },
                            {
                                "typeUrl": "type.googleapis.com/istio.workload.Address",
                                "configStatus": "ERROR",
                                "errorState": {
                                    "details": "no such enum"
                                }
                            }
                        ]
                    }
                ],
                "typeUrl": "type.googleapis.com/envoy.service.status.v3.ClientConfig",
                "controlPlane": {
                    "identifier": "{\"Component\":\"istiod\",\"ID\":\"istiod-1\",\"Info\":{\"version\":\"1.32\",\"revision\":\"\",\"golang_version\":\"\",\"status\":\"\",\"tag\":\"\"}}"
                }
            }
        "#]]
        .assert_eq(&crate::table::json(&in_form(&response(&one))).expect("JSON"));
    }
}
