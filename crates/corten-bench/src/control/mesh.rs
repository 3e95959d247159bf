//! The mesh of the benchmark: an API server in this process, filled with pods as clusters have them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use corten_api::crds::{Channel, definitions};
use corten_apiserver::{Api, Client, Patch, ResourceId, ServerConfig, pki::Pki, resources, serve};
use corten_rt::TaskGroup;
use serde_json::{Value, json};

pub(super) const PODS_PER_SERVICE: usize = 10;
const NODES: usize = 100;
pub(super) const NAMESPACES: usize = 50;

const SIDECARS: ResourceId = ResourceId::fixed("networking.istio.io", "v1", "sidecars");
const VIRTUAL_SERVICES: ResourceId = ResourceId::fixed("networking.istio.io", "v1", "virtualservices");

/// The filled API server. It ends with this value.
pub(crate) struct Mesh {
    api: Arc<Api>,
    client: Client,
    pods: usize,
    dir: tempfile::TempDir,
    _tasks: TaskGroup,
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.api.close();
    }
}

impl Mesh {
    /// Nodes, namespaces, services with their endpoints, and pods on the mesh.
    pub(crate) async fn fill(pods: usize) -> Result<Mesh> {
        let dir = tempfile::tempdir()?;
        let api = Api::in_memory();
        let pki = Pki::open(dir.path()).map_err(|error| anyhow!("keys of the API server: {error}"))?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address: SocketAddr = listener.local_addr()?;
        let tasks = TaskGroup::new("api server");
        let config = ServerConfig {
            listeners: vec![listener],
            pki: pki.clone(),
            api: api.clone(),
        };
        serve(config, &tasks).map_err(|error| anyhow!("serving the API: {error}"))?;
        std::fs::write(
            dir.path().join("kubeconfig"),
            pki.kubeconfig("bench", &format!("https://{address}")),
        )?;
        let mesh = Mesh {
            client: Client::new(api.clone(), "bench"),
            api,
            pods,
            dir,
            _tasks: tasks,
        };
        mesh.create_all().await?;
        Ok(mesh)
    }

    async fn create(&self, resource: &ResourceId, object: Value) -> Result<()> {
        let created = self.client.create(resource, object).await;
        created.map_err(|status| anyhow!("creating an object: {status:?}"))?;
        Ok(())
    }

    async fn create_all(&self) -> Result<()> {
        for definition in definitions(Channel::Standard) {
            self.create(&resources::CUSTOM_RESOURCE_DEFINITIONS, definition).await?;
        }
        self.create(&resources::NAMESPACES, json!({"metadata": {"name": "istio-system"}}))
            .await?;
        let account = json!({"metadata": {"name": "ztunnel", "namespace": "istio-system"}});
        self.create(&resources::SERVICE_ACCOUNTS, account).await?;
        for index in 0..NAMESPACES {
            let labels = json!({"istio.io/dataplane-mode": "ambient"});
            let object = json!({"metadata": {"name": format!("ns-{index}"), "labels": labels}});
            self.create(&resources::NAMESPACES, object).await?;
            let account = json!({"metadata": {"name": "default", "namespace": format!("ns-{index}")}});
            self.create(&resources::SERVICE_ACCOUNTS, account).await?;
        }
        for index in 0..NODES {
            let labels = json!({
                "topology.kubernetes.io/region": "region", "topology.kubernetes.io/zone": format!("zone-{}", index % 3),
            });
            self.create(
                &resources::NODES,
                json!({"metadata": {"name": format!("node-{index}"), "labels": labels}}),
            )
            .await?;
        }
        for service in 0..self.pods / PODS_PER_SERVICE {
            let (namespace, name) = (format!("ns-{}", service % NAMESPACES), format!("service-{service}"));
            let object = json!({
                "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
                "spec": {
                    "clusterIP": address(96, service), "selector": {"app": name},
                    "ports": [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "grpc", "port": 9000, "targetPort": "grpc"}],
                },
            });
            self.create(&resources::SERVICES, object).await?;
            let mut endpoints = Vec::new();
            for index in 0..PODS_PER_SERVICE {
                let number = service * PODS_PER_SERVICE + index;
                let pod = pod(number, &namespace, &name);
                let status = pod["status"].clone();
                let pod_name = pod["metadata"]["name"].clone();
                self.create(&resources::PODS, pod).await?;
                self.set_status(&namespace, pod_name.as_str().context("a name")?, status)
                    .await?;
                endpoints.push(json!({
                    "addresses": [address(10, number)], "conditions": {"ready": true, "serving": true, "terminating": false},
                    "nodeName": format!("node-{}", number % NODES),
                    "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod_name},
                }));
            }
            let labels = json!({"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"});
            let slice = json!({
                "metadata": {"name": format!("{name}-abcde"), "namespace": namespace, "labels": labels},
                "addressType": "IPv4", "endpoints": endpoints,
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "grpc", "port": 9090, "protocol": "TCP"}],
            });
            self.create(&resources::ENDPOINT_SLICES, slice).await?;
        }
        Ok(())
    }

    async fn set_status(&self, namespace: &str, name: &str, status: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"status": status}));
        let patched = self
            .client
            .patch(&resources::PODS, namespace, name, Some("status"), patch)
            .await;
        patched.map_err(|status| anyhow!("patching pod {name}: {status:?}"))?;
        Ok(())
    }

    /// Makes a pod ready, or not.
    async fn set_ready(&self, number: usize, ready: bool) -> Result<()> {
        let (namespace, name) = place(number);
        self.set_status(&namespace, &name, json!({"conditions": conditions(ready)}))
            .await
    }

    /// Changes pods, one after the other: as many as given, or at a rate (changes a second) for a time. Returns how many.
    pub(crate) async fn change(&self, count: usize, pace: Option<(Duration, usize)>) -> Result<usize> {
        let began = Instant::now();
        for changed in 0..count {
            if let Some((time, rate)) = pace {
                if began.elapsed() > time {
                    return Ok(changed);
                }
                let due = began + Duration::from_secs_f64(changed as f64 / rate as f64);
                if changed % 20 == 0 && due > Instant::now() {
                    tokio::time::sleep_until(due.into()).await;
                }
            }
            // Each pod in turn; every second round back.
            self.set_ready(changed % self.pods, (changed / self.pods) % 2 == 1)
                .await?;
        }
        Ok(count)
    }

    /// Changes one pod, another in each round, from what it is: how far the changes before went depends on the machine's speed.
    pub(crate) async fn change_one(&self, round: usize) -> Result<()> {
        let number = self.changed(round);
        let (namespace, name) = place(number);
        let pod = self.client.get(&resources::PODS, &namespace, &name).await;
        let pod = pod.map_err(|status| anyhow!("reading pod {name}: {status:?}"))?;
        let is_ready = pod["status"]["conditions"] == conditions(true);
        self.set_ready(number, !is_ready).await?;
        // Whoever reads endpoints rather than pods learns it there.
        let slice = format!("service-{}-abcde", number / PODS_PER_SERVICE);
        let held = self.client.get(&resources::ENDPOINT_SLICES, &namespace, &slice).await;
        let held = held.map_err(|status| anyhow!("reading {slice}: {status:?}"))?;
        let mut endpoints = held["endpoints"].clone();
        endpoints[number % PODS_PER_SERVICE]["conditions"] =
            json!({"ready": !is_ready, "serving": !is_ready, "terminating": false});
        let patch = Patch::Merge(json!({ "endpoints": endpoints }));
        let slices = &resources::ENDPOINT_SLICES;
        let patched = self.client.patch(slices, &namespace, &slice, None, patch).await;
        patched.map_err(|status| anyhow!("patching {slice}: {status:?}"))?;
        Ok(())
    }

    /// The pod that [`change_one`](Self::change_one) changes.
    fn changed(&self, round: usize) -> usize {
        self.pods - 1 - round
    }

    /// The number of the namespace of that pod.
    pub(crate) fn namespace_of_change(&self, round: usize) -> usize {
        self.changed(round) / PODS_PER_SERVICE % NAMESPACES
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Lets sidecars see the services of their own namespace alone.
    pub(crate) async fn isolate(&self) -> Result<()> {
        let sidecar = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
            "metadata": {"name": "default", "namespace": "istio-system"}, "spec": {"egress": [{"hosts": ["./*", "istio-system/*"]}]},
        });
        self.create(&SIDECARS, sidecar).await
    }

    /// Makes or changes a route of a namespace.
    pub(crate) async fn route(&self, round: usize) -> Result<()> {
        let spec = json!({
            "hosts": ["service-0"],
            "http": [{"timeout": format!("{}s", round + 1), "route": [{"destination": {"host": "service-0"}}]}],
        });
        if round == 0 {
            let route = json!({
                "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
                "metadata": {"name": "route", "namespace": "ns-0"}, "spec": spec,
            });
            return self.create(&VIRTUAL_SERVICES, route).await;
        }
        let patch = Patch::Merge(json!({"spec": spec}));
        let patched = self.client.patch(&VIRTUAL_SERVICES, "ns-0", "route", None, patch).await;
        patched.map_err(|status| anyhow!("patching the route: {status:?}"))?;
        Ok(())
    }

    /// The node id of the sidecar of a pod.
    pub(crate) fn sidecar(&self, number: usize) -> String {
        let (namespace, name) = place(number);
        format!(
            "sidecar~{}~{name}.{namespace}~{namespace}.svc.cluster.local",
            address(10, number)
        )
    }

    /// A node proxy's token.
    pub(crate) async fn token(&self) -> Result<String> {
        self.token_of("istio-system", "ztunnel").await
    }

    /// A token of a service account.
    pub(crate) async fn token_of(&self, namespace: &str, account: &str) -> Result<String> {
        let request = json!({"spec": {"audiences": ["istio-ca"], "expirationSeconds": 36000}});
        let answer = self.client.create_token(namespace, account, &request).await;
        let answer = answer.map_err(|status| anyhow!("making a token: {status:?}"))?;
        Ok(answer["status"]["token"].as_str().context("a token")?.to_owned())
    }

    /// The roots that the control plane published.
    pub(crate) async fn roots(&self) -> Result<String> {
        loop {
            if let Ok(map) = self
                .client
                .get(&resources::CONFIG_MAPS, "istio-system", "istio-ca-root-cert")
                .await
                && let Some(roots) = map["data"]["root-cert.pem"].as_str()
            {
                return Ok(roots.to_owned());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn address(first: u8, number: usize) -> String {
    let place = if first == 96 { "10.96" } else { "10.1" };
    // 250 in a block of 256, so that no address ends in 0 or 255.
    let (block, last) = (number / 250, number % 250 + 1);
    format!("{place}.{block}.{last}")
}

/// A pod's namespace and name.
fn place(number: usize) -> (String, String) {
    let service = number / PODS_PER_SERVICE;
    (format!("ns-{}", service % NAMESPACES), pod_name(number))
}

fn pod_name(number: usize) -> String {
    format!("service-{}-7d9c8b6f5d-{number:05}", number / PODS_PER_SERVICE)
}

fn conditions(ready: bool) -> Value {
    let types = [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ];
    let condition = |type_: &str| {
        let holds = ready || !matches!(type_, "Ready" | "ContainersReady");
        json!({"type": type_, "status": if holds { "True" } else { "False" }, "lastTransitionTime": "2026-01-01T00:00:00Z", "lastProbeTime": null})
    };
    types.map(condition).into_iter().collect()
}

/// A pod as a cluster shows it, with all that the mesh does not read: about 3 KB.
fn pod(number: usize, namespace: &str, service: &str) -> Value {
    let uid = format!("01234567-89ab-cdef-0000-{number:012x}");
    let env = |name: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}});
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 5, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3});
    json!({
        "metadata": {
            "name": pod_name(number), "generateName": format!("{service}-7d9c8b6f5d-"), "namespace": namespace, "uid": uid,
            "labels": {"app": service, "version": "v1", "pod-template-hash": "7d9c8b6f5d", "app.kubernetes.io/part-of": "bench"},
            "annotations": {"ambient.istio.io/redirection": "enabled", "kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{service}-7d9c8b6f5d"), "uid": uid, "controller": true}],
        },
        "spec": {
            "nodeName": format!("node-{}", number % NODES), "serviceAccountName": "default", "restartPolicy": "Always",
            "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30,
            "containers": [{
                "name": "app", "image": "registry.example.org/team/application:1.2.3", "imagePullPolicy": "IfNotPresent",
                "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}, {"name": "grpc", "containerPort": 9090, "protocol": "TCP"}],
                "env": [env("POD_NAME"), env("POD_NAMESPACE"), {"name": "LOG_LEVEL", "value": "info"}, {"name": "JAVA_OPTS", "value": "-Xmx512m -XX:+UseG1GC"}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "256Mi"}},
                "livenessProbe": probe, "readinessProbe": probe,
                "volumeMounts": [{"name": "kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true}],
            }],
            "volumes": [{"name": "kube-api-access", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            ]}}],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
        },
        "status": {
            "phase": "Running", "hostIP": "172.18.0.2", "podIP": address(10, number), "podIPs": [{"ip": address(10, number)}],
            "qosClass": "Burstable", "startTime": "2026-01-01T00:00:00Z", "conditions": conditions(true),
            "containerStatuses": [{
                "name": "app", "ready": true, "started": true, "restartCount": 0, "image": "registry.example.org/team/application:1.2.3",
                "imageID": "registry.example.org/team/application@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                "containerID": "containerd://0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            }],
        },
    })
}
