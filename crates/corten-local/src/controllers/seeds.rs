//! What has to be there without anybody asking: the first namespaces, each namespace's default service account and root certificate, and the
//! service through which pods reach the API.

use std::net::{IpAddr, SocketAddr};

use corten_apiserver::ResourceId;
use corten_apiserver::resources::{CONFIG_MAPS, ENDPOINT_SLICES, ENDPOINTS, NAMESPACES, SERVICE_ACCOUNTS, SERVICES};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::action::{Action, Controller};
use super::cache::{Change, Objects};
use super::object::{self, Key};

const INITIAL: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const ROOT_CA: &str = "kube-root-ca.crt";

/// The loop over namespaces: the first ones exist, and each has its service account and root certificate.
pub(crate) struct NamespaceContents {
    /// The certificate authority of the API, as PEM.
    pub(crate) ca: String,
}

impl Controller for NamespaceContents {
    fn name(&self) -> &'static str {
        "namespace-contents"
    }

    fn start(&self) -> Vec<Key> {
        INITIAL.iter().map(|name| Key::new("", name)).collect()
    }

    fn keys(&self, change: &Change, _objects: &Objects) -> Vec<Key> {
        let object = change.object();
        if change.is(&NAMESPACES) {
            vec![Key::of(object)]
        } else if (change.is(&SERVICE_ACCOUNTS) && object::name(object) == "default")
            || (change.is(&CONFIG_MAPS) && object::name(object) == ROOT_CA)
        {
            vec![Key::new("", object::namespace(object))]
        } else {
            Vec::new()
        }
    }

    fn reconcile(&self, key: &Key, objects: &Objects, _now: Timestamp) -> Vec<Action> {
        let Some(namespace) = objects.get(&NAMESPACES, key) else {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": &*key.name}});
            let is_initial = INITIAL.contains(&&*key.name);
            return is_initial.then(|| create(&NAMESPACES, namespace)).into_iter().collect();
        };
        if object::is_deleting(namespace) {
            return Vec::new();
        }
        let account = objects.get(&SERVICE_ACCOUNTS, &Key::new(&key.name, "default"));
        let root = objects.get(&CONFIG_MAPS, &Key::new(&key.name, ROOT_CA));
        let mut actions = Vec::new();
        if account.is_none() {
            let account = json!({
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"namespace": &*key.name, "name": "default"},
            });
            actions.push(create(&SERVICE_ACCOUNTS, account));
        }
        actions.extend(self.root_certificate(&key.name, root.map(|root| &**root)));
        actions
    }
}

impl NamespaceContents {
    fn root_certificate(&self, namespace: &str, current: Option<&Value>) -> Option<Action> {
        let data = json!({"ca.crt": self.ca});
        let Some(current) = current else {
            let root = json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "namespace": namespace,
                    "name": ROOT_CA,
                    "annotations": {"kubernetes.io/description": "Contains a CA bundle that can be used to verify \
                        the kube-apiserver when using internal endpoints such as the internal service IP or \
                        kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes \
                        clusters."},
                },
                "data": data,
            });
            return Some(create(&CONFIG_MAPS, root));
        };
        if current.get("data") == Some(&data) {
            return None;
        }
        let mut root = current.clone();
        root["data"] = data;
        Some(Action::Update {
            resource: CONFIG_MAPS,
            object: root,
        })
    }
}

/// The loop over the service `kubernetes`, which stands for the API itself.
pub(crate) struct ApiService {
    pub(crate) address: IpAddr,
    pub(crate) endpoint: SocketAddr,
}

impl Controller for ApiService {
    fn name(&self) -> &'static str {
        "kubernetes-service"
    }

    fn start(&self) -> Vec<Key> {
        vec![Key::new("default", "kubernetes")]
    }

    fn keys(&self, change: &Change, _objects: &Objects) -> Vec<Key> {
        let is_part = change.is(&SERVICES) || change.is(&ENDPOINTS) || change.is(&ENDPOINT_SLICES);
        let key = Key::of(change.object());
        let is_namespace = change.is(&NAMESPACES) && &*key.name == "default";
        if is_namespace || (is_part && key == Key::new("default", "kubernetes")) {
            self.start()
        } else {
            Vec::new()
        }
    }

    fn reconcile(&self, key: &Key, objects: &Objects, _now: Timestamp) -> Vec<Action> {
        if objects.get(&NAMESPACES, &Key::new("", "default")).is_none() {
            // It is being made, which brings the key back.
            return Vec::new();
        }
        let parts = [
            (&SERVICES, self.service()),
            (&ENDPOINTS, self.endpoints()),
            (&ENDPOINT_SLICES, self.slice()),
        ];
        parts
            .into_iter()
            .filter_map(|(resource, wanted)| ensure(resource, wanted, objects.get(resource, key).map(|o| &**o)))
            .collect()
    }
}

impl ApiService {
    fn family(address: IpAddr) -> &'static str {
        if address.is_ipv4() { "IPv4" } else { "IPv6" }
    }

    fn service(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "namespace": "default",
                "name": "kubernetes",
                "labels": {"component": "apiserver", "provider": "kubernetes"},
            },
            "spec": {
                "type": "ClusterIP",
                "clusterIP": self.address,
                "clusterIPs": [self.address],
                "ipFamilies": [Self::family(self.address)],
                "ipFamilyPolicy": "SingleStack",
                "sessionAffinity": "None",
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": self.endpoint.port()}],
            },
        })
    }

    fn endpoints(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {
                "namespace": "default",
                "name": "kubernetes",
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
            },
            "subsets": [{
                "addresses": [{"ip": self.endpoint.ip()}],
                "ports": [{"name": "https", "port": self.endpoint.port(), "protocol": "TCP"}],
            }],
        })
    }

    fn slice(&self) -> Value {
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "namespace": "default",
                "name": "kubernetes",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "addressType": Self::family(self.endpoint.ip()),
            "endpoints": [{"addresses": [self.endpoint.ip()], "conditions": {"ready": true}}],
            "ports": [{"name": "https", "port": self.endpoint.port(), "protocol": "TCP"}],
        })
    }
}

fn create(resource: &ResourceId, object: Value) -> Action {
    Action::Create {
        resource: resource.clone(),
        object,
        announce: None,
    }
}

/// Makes an object be there with these contents: all but the metadata and what the API adds by itself counts.
fn ensure(resource: &ResourceId, wanted: Value, current: Option<&Value>) -> Option<Action> {
    let Some(current) = current else {
        return Some(create(resource, wanted));
    };
    let mut updated = current.clone();
    for (field, value) in wanted.as_object().into_iter().flatten() {
        if !matches!(field.as_str(), "apiVersion" | "kind" | "metadata" | "spec") {
            updated[field] = value.clone();
        }
    }
    if let Some(port) = wanted.pointer("/spec/ports/0/targetPort") {
        object::put(&mut updated, &["spec", "ports"], wanted["spec"]["ports"].clone());
        if current.pointer("/spec/ports/0/targetPort") == Some(port) {
            return None;
        }
    }
    (updated != *current).then_some(Action::Update {
        resource: resource.clone(),
        object: updated,
    })
}
