//! Objects that lead to the state a row describes. Some rows begin in the middle: with services, waypoints or policies
//! that were derived already. For those, objects are made from which they are derived, and where the derivation cannot
//! give them the row's names, what is expected is renamed.

use serde_json::{Map, Value, json};

use super::{text, text_or};

/// The objects of a row, and what is to be replaced in what it expects.
#[derive(Default)]
pub(super) struct Made {
    pub(super) objects: Vec<Value>,
    /// Keys of services: as the row has them, as they are.
    services: Vec<(String, String)>,
    /// Host names of waypoints, and the namespace they are seen from.
    waypoints: Vec<(String, String)>,
    /// Settings of the mesh.
    pub(super) mesh_config: Value,
}

/// The objects of a row.
pub(super) fn made(case: &Value, context: &Value) -> Made {
    let mut made = Made::default();
    let object = &case["object"];
    let inputs = || case["inputs"].as_array().into_iter().flatten();
    for input in inputs() {
        match text(&input["type"]) {
            "model.ServiceInfo" => made.service(&input["value"], object, context),
            "Waypoint" => made.waypoint(&input["value"]),
            "Node" => made.node(&input["value"]),
            "model.WorkloadAuthorization" => made.policy(&input["value"]),
            "meshwatcher.MeshConfigResource" => made.mesh_config = input["value"]["meshConfig"].clone(),
            _ => made.objects.push(input.clone()),
        }
    }
    if text(&object["kind"]) == "ServiceEntry" && text(&case["of"]) == "workloads" {
        made.shadow(object, inputs());
    }
    made.objects.push(object.clone());
    made
}

impl Made {
    fn service(&mut self, info: &Value, object: &Value, context: &Value) {
        let service = &info["service"];
        let (namespace, hostname) = (text(&service["namespace"]), text(&service["hostname"]));
        let source = &info["source"];
        let named = &source["namespacedName"];
        let of_object = text(&source["kind"]) == "ServiceEntry"
            && named["name"] == object["metadata"]["name"]
            && named["namespace"] == object["metadata"]["namespace"];
        if of_object {
            return;
        }
        let name_of = |port: &Value, key: &str| {
            let number = port["servicePort"].as_u64().unwrap_or_default().to_string();
            text(&info["portNames"][number][key]).to_owned()
        };
        let listed = || service["ports"].as_array().into_iter().flatten();
        let labels = &info["labelSelector"];
        if text(&source["kind"]) == "ServiceEntry" {
            let ports: Vec<Value> = listed()
                .map(|port| {
                    let mut made = json!({ "number": port["servicePort"], "name": name_of(port, "portName") });
                    if port["targetPort"].as_u64().is_some_and(|target| target != 0) {
                        made["targetPort"] = port["targetPort"].clone();
                    }
                    made
                })
                .collect();
            let mut spec = json!({ "hosts": [hostname], "ports": ports, "resolution": "STATIC" });
            if !selector(labels).is_empty() {
                spec["workloadSelector"] = json!({ "labels": selector(labels) });
            }
            let metadata = json!({ "name": text_or(&service["name"], "se"), "namespace": namespace });
            self.objects.push(json!({
                "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": metadata, "spec": spec,
            }));
            return;
        }
        let domain = format!(".{namespace}.svc.{}", text(&context["domainSuffix"]));
        let name = hostname.strip_suffix(&domain).unwrap_or_else(|| text(&service["name"]));
        self.services
            .push((format!("{namespace}/{hostname}"), format!("{namespace}/{name}{domain}")));
        let ports: Vec<Value> = listed()
            .map(|port| {
                let target = name_of(port, "targetPortName");
                let target = if target.is_empty() { port["targetPort"].clone() } else { json!(target) };
                json!({ "port": port["servicePort"], "name": name_of(port, "portName"), "targetPort": target, "protocol": "TCP" })
            })
            .collect();
        self.objects.push(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": namespace },
            "spec": { "selector": selector(labels), "ports": ports },
        }));
    }

    /// Hosts of the entry that another, older entry has won: those that the row's services do not have.
    fn shadow<'a>(&mut self, object: &Value, inputs: impl Iterator<Item = &'a Value>) {
        let won: Vec<&str> = inputs
            .filter(|input| text(&input["type"]) == "model.ServiceInfo")
            .map(|input| text(&input["value"]["service"]["hostname"]))
            .collect();
        let hosts = object["spec"]["hosts"].as_array().into_iter().flatten();
        let lost: Vec<&str> = hosts.map(text).filter(|host| !won.contains(host)).collect();
        if !lost.is_empty() {
            self.objects.push(json!({
                "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
                "metadata": {
                    "name": "older", "namespace": object["metadata"]["namespace"],
                    "creationTimestamp": "1970-01-01T00:00:01Z",
                },
                "spec": { "hosts": lost, "resolution": "STATIC" },
            }));
        }
    }

    fn waypoint(&mut self, waypoint: &Value) {
        let namespace = text(&waypoint["named"]["namespace"]);
        let address = &waypoint["address"];
        let addresses = if let Some(hostname) = address["hostname"]["hostname"].as_str() {
            self.waypoints.push((hostname.to_owned(), namespace.to_owned()));
            json!([{ "type": "Hostname", "value": hostname }])
        } else {
            json!([{ "type": "IPAddress", "value": address["address"]["address"] }])
        };
        let mut listener = json!({ "name": "mesh", "port": 15008, "protocol": "HBONE" });
        let allowed = &waypoint["allowedRoutes"];
        if let Some(from) = allowed["fromNamespaces"].as_str() {
            let mut namespaces = json!({ "from": from });
            if from == "Selector" {
                namespaces["selector"] = json!({ "matchLabels": allowed["selector"] });
            }
            listener["allowedRoutes"] = json!({ "namespaces": namespaces });
        }
        let mut metadata = json!({
            "name": waypoint["named"]["name"], "namespace": namespace,
            "labels": { "istio.io/waypoint-for": text_or(&waypoint["trafficType"], "") },
        });
        let binding = &waypoint["defaultBinding"];
        if binding.is_object() {
            let port = binding["port"].as_u64().unwrap_or_default();
            let written = format!("{}/{port}", text_or(&binding["protocol"], "NONE"));
            metadata["annotations"] = json!({ "ambient.istio.io/waypoint-inbound-binding": written });
        }
        self.objects.push(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": metadata,
            "spec": { "gatewayClassName": "istio-waypoint", "listeners": [listener] },
            "status": { "addresses": addresses },
        }));
    }

    fn node(&mut self, node: &Value) {
        let mut labels = Map::new();
        for (part, key) in [
            ("region", "topology.kubernetes.io/region"),
            ("zone", "topology.kubernetes.io/zone"),
            ("subzone", "topology.istio.io/subzone"),
        ] {
            if let Some(value) = node["locality"][part].as_str() {
                labels.insert(key.to_owned(), json!(value));
            }
        }
        self.objects.push(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": node["name"], "labels": labels },
        }));
    }

    fn policy(&mut self, policy: &Value) {
        let named = &policy["authorization"];
        let mut spec = json!({ "rules": [] });
        if !selector(&policy["labelSelector"]).is_empty() {
            spec["selector"] = json!({ "matchLabels": selector(&policy["labelSelector"]) });
        }
        self.objects.push(json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "name": named["name"], "namespace": named["namespace"] }, "spec": spec,
        }));
    }

    /// What is expected, in the names that the derivation gives.
    pub(super) fn renamed(&self, expected: &Value) -> Value {
        match expected {
            Value::Array(items) => Value::Array(items.iter().map(|item| self.renamed(item)).collect()),
            Value::Object(members) => {
                let mut out = Map::new();
                for (key, value) in members {
                    let service = self.services.iter().find(|(theirs, _)| theirs == key);
                    let key = service.map_or(key, |(_, ours)| ours);
                    let mut value = self.renamed(value);
                    if matches!(key.as_str(), "waypoint" | "destination") {
                        self.gateway(&mut value);
                    }
                    out.insert(key.clone(), value);
                }
                Value::Object(out)
            }
            other => other.clone(),
        }
    }

    /// A waypoint is seen from its gateway's namespace, and always has the port for tunnels.
    fn gateway(&self, gateway: &mut Value) {
        if !gateway.is_object() {
            return;
        }
        let hostname = text(&gateway["hostname"]["hostname"]).to_owned();
        if let Some((_, namespace)) = self.waypoints.iter().find(|(theirs, _)| *theirs == hostname) {
            gateway["hostname"]["namespace"] = json!(namespace);
        }
        if gateway.get("hboneMtlsPort").is_none() {
            gateway["hboneMtlsPort"] = json!(15008);
        }
    }
}

/// The labels of a selector, which some rows have one level deeper.
fn selector(value: &Value) -> Map<String, Value> {
    let labels = value.get("labels").filter(|labels| labels.is_object()).unwrap_or(value);
    labels.as_object().cloned().unwrap_or_default()
}

/// The ways into other networks that every row may refer to.
pub(super) fn network_gateways() -> Vec<Value> {
    let gateway = |name: &str, network: &str, kind: &str, value: &str| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": { "name": name, "namespace": "ns-gtw", "labels": { "topology.istio.io/network": network } },
            "spec": {
                "gatewayClassName": "istio-remote",
                "listeners": [{ "name": "cross-network", "port": 15008, "protocol": "HBONE" }],
            },
            "status": { "addresses": [{ "type": kind, "value": value }] },
        })
    };
    vec![
        gateway("by-address", "remote-network", "IPAddress", "9.9.9.9"),
        gateway(
            "by-name",
            "remote-network-hostname",
            "Hostname",
            "networkgateway.example.com",
        ),
    ]
}
