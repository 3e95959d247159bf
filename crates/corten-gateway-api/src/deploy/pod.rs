//! The pod of a gateway: a proxy that is given everything by its environment and mounts.

use corten_api::codec::Json;
use serde_json::json;

use super::{DATAPLANE_MODE, MANAGED, Made, NETWORK};
use crate::class::Role;

/// Annotations of a Gateway about its proxy.
const IMAGE: &str = "sidecar.istio.io/proxyImage";
const PROXY_LOG: &str = "sidecar.istio.io/logLevel";
const COMPONENT_LOG: &str = "sidecar.istio.io/componentLogLevel";
const AGENT_LOG: &str = "sidecar.istio.io/agentLogLevel";

/// The ports of every proxy.
const METRICS: u16 = 15020;
const STATUS: u16 = 15021;
const PROXY_METRICS: u16 = 15090;

impl Made<'_> {
    /// The template of the pods.
    pub(super) fn pod(&self) -> Json {
        let tunnels = self.tunnels();
        let mut annotations = json!(self.annotations);
        let revision = Some(self.settings.revision.as_str()).filter(|revision| !revision.is_empty());
        annotations["istio.io/rev"] = json!(revision.unwrap_or("default"));
        annotations["prometheus.io/path"] = json!("/stats/prometheus");
        annotations["prometheus.io/port"] = json!(METRICS.to_string());
        annotations["prometheus.io/scrape"] = json!("true");
        let mut labels = json!({
            "sidecar.istio.io/inject": "false",
            "service.istio.io/canonical-name": self.name,
            "service.istio.io/canonical-revision": "latest",
        });
        if tunnels {
            labels[DATAPLANE_MODE] = json!("none");
        }
        for (key, value) in self.labels() {
            labels[key] = json!(value);
        }
        labels[MANAGED] = json!(super::controller(self.role).replace('/', "-"));

        let mut spec = json!({
            "serviceAccountName": self.account,
            "containers": [self.container()],
            "volumes": self.volumes(),
        });
        if tunnels {
            for (key, value) in self.settings.waypoint_placement.as_object().into_iter().flatten() {
                spec[key] = value.clone();
            }
        } else {
            // Listeners have the ports that users name, which are mostly below 1024.
            let sysctl = json!({ "name": "net.ipv4.ip_unprivileged_port_start", "value": "0" });
            spec["securityContext"] = json!({ "sysctls": [sysctl] });
        }
        if !self.settings.pull_secrets.is_empty() {
            let secrets = self.settings.pull_secrets.iter().map(|name| json!({ "name": name }));
            spec["imagePullSecrets"] = secrets.collect();
        }
        json!({ "metadata": { "annotations": annotations, "labels": labels }, "spec": spec })
    }

    fn tunnels(&self) -> bool {
        matches!(self.role, Role::Waypoint | Role::EastWest)
    }

    /// What the gateway says itself, or what holds for all.
    fn said<'a>(&'a self, annotation: &str, default: &'a str) -> &'a str {
        self.gateway()
            .metadata
            .annotations
            .get(annotation)
            .map_or(default, String::as_str)
    }

    fn container(&self) -> Json {
        let settings = self.settings;
        let image = Some(self.said(IMAGE, "")).filter(|image| image.contains('/'));
        let (user, group) = settings.user;
        let port = |name: &str, port: u16| json!({ "containerPort": port, "name": name, "protocol": "TCP" });
        let mut container = json!({
            "name": "istio-proxy",
            "image": image.unwrap_or(&settings.image),
            "args": self.arguments(),
            "env": self.environment(),
            "ports": [port("metrics", METRICS), port("status-port", STATUS), port("http-envoy-prom", PROXY_METRICS)],
            "securityContext": {
                "capabilities": { "drop": ["ALL"] },
                "allowPrivilegeEscalation": false,
                "privileged": false,
                "readOnlyRootFilesystem": true,
                "runAsUser": user,
                "runAsGroup": group,
                "runAsNonRoot": true,
            },
            "startupProbe": probe(1, 1, 30),
            "readinessProbe": probe(0, 15, 4),
            "volumeMounts": self.mounts(),
        });
        let resources = without_nulls(if self.tunnels() {
            &settings.waypoint_resources
        } else {
            &settings.resources
        });
        if resources.is_object() {
            container["resources"] = resources;
        }
        if !settings.pull_policy.is_empty() {
            container["imagePullPolicy"] = json!(settings.pull_policy);
        }
        container
    }

    fn arguments(&self) -> Vec<String> {
        let settings = self.settings;
        let role = if self.tunnels() { "waypoint" } else { "router" };
        let domain = format!("$(POD_NAMESPACE).svc.{}", settings.domain);
        let mut arguments = vec!["proxy".to_owned(), role.to_owned(), "--domain".to_owned(), domain];
        if self.tunnels() {
            arguments.extend([
                "--serviceCluster".to_owned(),
                format!("{}.$(POD_NAMESPACE)", self.account),
            ]);
        }
        let logs = [
            ("--proxyLogLevel", self.said(PROXY_LOG, &settings.proxy_log)),
            (
                "--proxyComponentLogLevel",
                self.said(COMPONENT_LOG, &settings.component_log),
            ),
            ("--log_output_level", self.said(AGENT_LOG, &settings.agent_log)),
        ];
        arguments.extend(
            logs.into_iter()
                .flat_map(|(flag, level)| [flag.to_owned(), level.to_owned()]),
        );
        if settings.log_json {
            arguments.push("--log_as_json".to_owned());
        }
        arguments
    }

    fn environment(&self) -> Vec<Json> {
        let (settings, own) = (self.settings, &self.gateway().metadata);
        let value = |name: &str, value: &str| json!({ "name": name, "value": value });
        let field =
            |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
        let limit = |name: &str, of: &str| json!({ "name": name, "valueFrom": { "resourceFieldRef": { "resource": of, "divisor": "1" } } });
        let network = self.labels.get(NETWORK).map_or("", String::as_str);
        let known_network = Some(network)
            .filter(|network| !network.is_empty())
            .unwrap_or(&settings.network);
        let mut env = vec![
            value("PILOT_CERT_PROVIDER", &settings.certificate_provider),
            value("CA_ADDR", &settings.authority),
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
            field("INSTANCE_IP", "status.podIP"),
            field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
            field("HOST_IP", "status.hostIP"),
            limit("ISTIO_CPU_LIMIT", "limits.cpu"),
            value("PROXY_CONFIG", &format!("{}\n", settings.proxy_config)),
            limit("GOMEMLIMIT", "limits.memory"),
            value("ISTIO_META_CLUSTER_ID", &settings.cluster),
            field("ISTIO_META_NODE_NAME", "spec.nodeName"),
            value("ISTIO_META_INTERCEPTION_MODE", "REDIRECT"),
            value("ISTIO_META_WORKLOAD_NAME", &self.name),
            value(
                "ISTIO_META_OWNER",
                &format!(
                    "kubernetes://apis/apps/v1/namespaces/{}/deployments/{}",
                    own.namespace, self.name
                ),
            ),
        ];
        if self.tunnels() {
            env.push(field("ISTIO_META_SERVICE_ACCOUNT", "spec.serviceAccountName"));
        } else {
            env.push(value("ISTIO_META_POD_PORTS", "[]"));
            env.push(value("ISTIO_META_APP_CONTAINERS", ""));
        }
        if !known_network.is_empty() {
            env.push(value("ISTIO_META_NETWORK", known_network));
        }
        // A gateway of a network shows only what is in it.
        let shows = match self.role {
            Role::EastWest => known_network,
            Role::Gateway => network,
            Role::Waypoint | Role::Remote => "",
        };
        if !shows.is_empty() {
            env.push(value("ISTIO_META_REQUESTED_NETWORK_VIEW", shows));
        }
        let mesh = Some(&settings.mesh)
            .filter(|mesh| !mesh.is_empty())
            .unwrap_or(&settings.trust_domain);
        let told = [("ISTIO_META_MESH_ID", mesh), ("TRUST_DOMAIN", &settings.trust_domain)];
        env.extend(
            told.iter()
                .filter(|(_, text)| !text.is_empty())
                .map(|(name, text)| value(name, text)),
        );
        env.extend(settings.proxy_metadata.iter().map(|(name, text)| value(name, text)));
        env
    }

    /// Whether the root of the authority is mounted.
    fn has_root(&self) -> bool {
        self.tunnels() || self.settings.certificate_provider == "istiod"
    }

    fn mounts(&self) -> Vec<Json> {
        let mount = |name: &str, path: &str| json!({ "name": name, "mountPath": path });
        let mut mounts = vec![
            mount("workload-socket", "/var/run/secrets/workload-spiffe-uds"),
            mount("istio-data", "/var/lib/istio/data"),
            mount("istio-envoy", "/etc/istio/proxy"),
            mount("istio-token", "/var/run/secrets/tokens"),
            mount("istio-podinfo", "/etc/istio/pod"),
        ];
        if self.has_root() {
            mounts.push(mount("istiod-ca-cert", "/var/run/secrets/istio"));
        }
        if !self.tunnels() {
            mounts.push(mount("credential-socket", "/var/run/secrets/credential-uds"));
            mounts.push(mount("workload-certs", "/var/run/secrets/workload-spiffe-credentials"));
        }
        mounts
    }

    fn volumes(&self) -> Vec<Json> {
        let empty = |name: &str| json!({ "name": name, "emptyDir": {} });
        let about = |path: &str| json!({ "path": path, "fieldRef": { "fieldPath": format!("metadata.{path}") } });
        let audience = if self.tunnels() {
            "istio-ca"
        } else {
            &self.settings.audience
        };
        let token = json!({ "audience": audience, "expirationSeconds": 43200, "path": "istio-token" });
        let mut volumes = vec![
            empty("workload-socket"),
            json!({ "name": "istio-envoy", "emptyDir": { "medium": "Memory" } }),
            empty("istio-data"),
            json!({ "name": "istio-podinfo", "downwardAPI": { "items": [about("labels"), about("annotations")] } }),
            json!({ "name": "istio-token", "projected": { "sources": [{ "serviceAccountToken": token }] } }),
        ];
        if self.has_root() {
            volumes.push(json!({ "name": "istiod-ca-cert", "configMap": { "name": "istio-ca-root-cert" } }));
        }
        if !self.tunnels() {
            volumes.extend([empty("credential-socket"), empty("workload-certs")]);
        }
        volumes
    }
}

fn probe(delay_seconds: u32, period_seconds: u32, failures_max: u32) -> Json {
    json!({
        "failureThreshold": failures_max,
        "httpGet": { "path": "/healthz/ready", "port": STATUS, "scheme": "HTTP" },
        "initialDelaySeconds": delay_seconds,
        "periodSeconds": period_seconds,
        "successThreshold": 1,
        "timeoutSeconds": 1,
    })
}

/// A value without members that are null, which values of charts are where a default is taken away.
fn without_nulls(value: &Json) -> Json {
    match value {
        Json::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect()
        }
        other => other.clone(),
    }
}
