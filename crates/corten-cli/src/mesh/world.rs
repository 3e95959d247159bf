//! Everything that L7 proxies are configured from, from objects of files or of a cluster.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use corten_api::diagnostic::Diagnostic;
use corten_api::istio::mesh_config::MeshConfig;
use corten_gateway_api::{ingress, offline as gateways, reference::GATEWAY_GROUP, store::Store};
use corten_model::{ObjectKind, Settings};
use corten_routing::{ConfigKind, Proxy, Snapshot, World, offline};
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Connection};
use crate::commands::Files;

/// Where the objects come from.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Objects {
    #[command(flatten)]
    connection: Connection,
    /// Objects of files and directories instead of a cluster's. What a cluster would add is added: addresses of services, a pod for
    /// each Deployment, the workload of a Gateway
    #[arg(short, long, value_name = "FILE")]
    filename: Vec<std::path::PathBuf>,
    /// Directories with everything below them
    #[arg(short = 'R', long)]
    recursive: bool,
    /// The namespace of the mesh's parts
    #[arg(
        short = 'i',
        long = "istioNamespace",
        value_name = "NAMESPACE",
        default_value = "istio-system"
    )]
    istio_namespace: String,
    /// The mesh's configuration, instead of the ConfigMap istio among the objects
    #[arg(long = "meshConfigFile", value_name = "FILE")]
    mesh_config: Option<std::path::PathBuf>,
}

/// Objects, and where they come from.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) objects: Vec<Value>,
    /// The namespace that names without one are of.
    pub(crate) namespace: String,
    /// Whether what a cluster would add is to be added.
    pub(crate) of_files: bool,
}

/// What was read.
pub(crate) struct Known {
    pub(crate) snapshot: Snapshot,
    pub(crate) objects: Vec<Value>,
    /// The namespace that names without one are of.
    pub(crate) namespace: String,
    /// What is wrong with the objects.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// What a proxy is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Kind {
    Sidecar,
    #[value(alias = "router")]
    Gateway,
    Waypoint,
}

impl Objects {
    /// Reads everything.
    pub(crate) fn read(&self) -> Result<Known> {
        let given = match &self.filename[..] {
            [] => self.of_cluster()?,
            files => self.of_files(files)?,
        };
        self.world(given)
    }

    /// The files and directories that were named.
    pub(crate) fn files(&self) -> &[std::path::PathBuf] {
        &self.filename
    }

    /// The objects of the cluster.
    pub(crate) fn of_cluster(&self) -> Result<Given> {
        self.connection.run(async |cluster| {
            Ok(Given {
                objects: of_cluster(&cluster, &self.istio_namespace).await?,
                namespace: cluster.namespace,
                of_files: false,
            })
        })
    }

    /// The objects of files, as they are written.
    pub(crate) fn of_files(&self, files: &[std::path::PathBuf]) -> Result<Given> {
        let read = Files::of_all(files.to_vec(), self.recursive).read()?;
        ensure!(!read.failed, "what is wrong with the files stands above");
        Ok(Given {
            objects: read.objects,
            namespace: self.connection.named_namespace().unwrap_or("default").to_owned(),
            of_files: true,
        })
    }

    /// The world that objects make.
    pub(crate) fn world(&self, given: Given) -> Result<Known> {
        let Given {
            mut objects,
            namespace,
            of_files,
        } = given;
        if of_files {
            offline::complete(&mut objects, &namespace);
            // Gateways of files get the workloads that a controller would make, and those get pods.
            let workloads = gateways::workloads(&objects, &self.gateway_settings(), &self.istio_namespace);
            objects.extend(workloads);
            offline::complete(&mut objects, &namespace);
        }
        let config = self.mesh_config(&objects)?;
        let system: corten_model::Name = self.istio_namespace.as_str().into();
        let base = Settings {
            system_namespace: system.clone(),
            root_namespace: system,
            ..Settings::default()
        };
        let ingress = ingress::Settings::of_mesh(&config, &base.domain, &self.istio_namespace);
        let mut world = World::new(base, config);
        let mut diagnostics = world.put(&objects);
        // What a cluster's control plane makes of them is nowhere to be read.
        let (generated, unheard) = gateways::generated(&objects, &self.gateway_settings());
        diagnostics.extend(unheard);
        // What is wrong with them was told about what they were made from.
        world.put(&generated);
        let (generated, unheard) = gateways::of_ingresses(&objects, ingress);
        diagnostics.extend(unheard);
        world.put(&generated);
        objects.retain(|object| object["kind"] != "Secret");
        Ok(Known {
            snapshot: world.snapshot(),
            objects,
            namespace,
            diagnostics,
        })
    }

    fn gateway_settings(&self) -> corten_gateway_api::Settings {
        corten_gateway_api::Settings {
            domain: Settings::default().domain.to_string(),
            ..corten_gateway_api::Settings::default()
        }
    }

    fn mesh_config(&self, objects: &[Value]) -> Result<MeshConfig> {
        let (place, text) = match &self.mesh_config {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
                (path.display().to_string(), text)
            }
            None => {
                let is_it = |object: &&Value| {
                    object["kind"] == "ConfigMap"
                        && object["metadata"]["name"] == "istio"
                        && object["metadata"]["namespace"] == self.istio_namespace.as_str()
                };
                let text = objects.iter().find(is_it).and_then(|map| map["data"]["mesh"].as_str());
                (
                    "ConfigMap istio, entry mesh".to_owned(),
                    text.unwrap_or("{}").to_owned(),
                )
            }
        };
        let (root, found) = corten_api::decode::document(&place, &text);
        let root = root
            .or_else(|| corten_api::decode::document(&place, "{}").0)
            .context("the mesh's configuration")?;
        let (config, wrong) = corten_api::validate::mesh_config_over_defaults(&root);
        for problem in found {
            eprintln!("warning: {problem}");
        }
        for problem in wrong {
            eprintln!("warning: {place}: {}: {}", problem.path, problem.message);
        }
        Ok(config)
    }
}

/// All objects of a cluster that count.
async fn of_cluster(cluster: &Cluster, system: &str) -> Result<Vec<Value>> {
    let model = ObjectKind::ALL.map(|kind| (kind.group(), vec![kind.version()], kind.kind(), kind.plural()));
    let routing = ConfigKind::defined().filter(|(_, kind)| ObjectKind::of(kind.group, kind.kind).is_none());
    let routing = routing.filter_map(|(_, kind)| {
        let version = kind.versions.iter().find(|version| version.storage)?;
        Some((kind.group, vec![version.name], kind.kind, kind.plural))
    });
    // What becomes Istio's kinds: whichever version there is, they differ in name only.
    let converted = corten_api::kinds().map(|registered| registered.kind);
    let converted =
        converted.filter(|kind| kind.group == GATEWAY_GROUP && ObjectKind::of(kind.group, kind.kind).is_none());
    let converted = converted.map(|kind| {
        let versions = kind.versions.iter().map(|version| version.name).collect();
        (kind.group, versions, kind.kind, kind.plural)
    });
    let ingresses = [("Ingress", "ingresses"), ("IngressClass", "ingressclasses")];
    let ingresses = ingresses.map(|(kind, plural)| ("networking.k8s.io", vec!["v1"], kind, plural));
    let lists = model.into_iter().chain(routing).chain(converted).chain(ingresses).map(
        |(group, versions, kind, plural)| async move {
            for version in versions {
                let path = match group {
                    "" => format!("/api/{version}/{plural}"),
                    group => format!("/apis/{group}/{version}/{plural}"),
                };
                let mut list = match cluster.get(&path).await {
                    Ok(list) => list,
                    Err(refusal) if refusal.is_not_found() => continue,
                    Err(refusal) => return Err(anyhow::Error::from(refusal)),
                };
                let mut items = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
                for item in &mut items {
                    // Items of a list do not say what they are.
                    item["apiVersion"] = json!(if group.is_empty() {
                        version.to_owned()
                    } else {
                        format!("{group}/{version}")
                    });
                    item["kind"] = json!(kind);
                }
                return Ok(items);
            }
            Ok(Vec::new())
        },
    );
    let mut objects: Vec<Value> = try_join_all(lists).await?.into_iter().flatten().collect();
    let referred = referred(cluster, &objects).await;
    objects.extend(referred);
    match cluster
        .get(&format!("/api/v1/namespaces/{system}/configmaps/istio"))
        .await
    {
        Ok(mut config) => {
            config["apiVersion"] = json!("v1");
            config["kind"] = json!("ConfigMap");
            objects.push(config);
        }
        Err(refusal) if refusal.is_not_found() => {}
        Err(refusal) => return Err(refusal.into()),
    }
    Ok(objects)
}

/// The Secrets and ConfigMaps that gateways and policies refer to; those that may not be read are told.
async fn referred(cluster: &Cluster, objects: &[Value]) -> Vec<Value> {
    let mut store = Store::new("default");
    for object in objects {
        let api_version = object["apiVersion"].as_str().unwrap_or_default();
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        // What is wrong with an object is told by whoever reads all of them.
        let _told_elsewhere = store.put(group, object["kind"].as_str().unwrap_or_default(), object);
    }
    let mut found = Vec::new();
    for one in store.references() {
        let (kind, key) = (one.kind.kind, &one.key);
        let plural = format!("{}s", kind.to_ascii_lowercase());
        let path = format!("/api/v1/namespaces/{}/{plural}/{}", key.namespace, key.name);
        match cluster.get(&path).await {
            Ok(mut object) => {
                object["apiVersion"] = json!("v1");
                object["kind"] = json!(kind);
                found.push(object);
            }
            Err(refusal) if refusal.is_not_found() => {}
            Err(refusal) => {
                let why = anyhow::Error::from(refusal);
                eprintln!("warning: {kind} {key} cannot be read and is taken for missing: {why:#}");
            }
        }
    }
    found
}

/// A pod that calls or is called.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) address: String,
    pub(crate) service_account: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// Whether it has a proxy of its own: given by an injector, or written by hand.
    pub(crate) has_sidecar: bool,
}

impl Pod {
    fn of(pod: &Value) -> Pod {
        let text = |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let labels = pod["metadata"]["labels"].as_object().into_iter().flatten();
        let labels: BTreeMap<String, String> = labels
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        let account = text("/spec/serviceAccountName");
        Pod {
            name: text("/metadata/name"),
            namespace: text("/metadata/namespace"),
            address: text("/status/podIP"),
            service_account: if account.is_empty() {
                "default".to_owned()
            } else {
                account
            },
            has_sidecar: labels.get(offline::TLS_MODE).is_some_and(|mode| mode == "istio") || has_proxy(pod),
            labels,
        }
    }

    /// `POD.NAMESPACE`.
    pub(crate) fn place(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }

    /// What it has in common with pods of which configuration thinks the same.
    pub(crate) fn kind(&self) -> (String, String, Vec<(String, String)>) {
        let own = [
            "pod-template-hash",
            "controller-revision-hash",
            "statefulset.kubernetes.io/pod-name",
            "apps.kubernetes.io/pod-index",
        ];
        let labels = self.labels.iter().filter(|(key, _)| !own.contains(&key.as_str()));
        let labels = labels.map(|(key, value)| (key.clone(), value.clone()));
        (self.namespace.clone(), self.service_account.clone(), labels.collect())
    }
}

/// Whether a pod's manifest has a proxy's container.
fn has_proxy(pod: &Value) -> bool {
    let containers = ["containers", "initContainers"].map(|key| pod["spec"][key].as_array());
    containers
        .into_iter()
        .flatten()
        .flatten()
        .any(|it| it["name"] == "istio-proxy")
}

impl Known {
    /// A pod by its name, as [`proxy`](Self::proxy) finds it.
    pub(crate) fn pod(&self, asked: &str) -> Result<Pod> {
        self.object(asked).map(Pod::of)
    }

    /// All pods that have an address.
    pub(crate) fn pods(&self) -> impl Iterator<Item = Pod> {
        let pods = self
            .objects
            .iter()
            .filter(|it| it["kind"] == "Pod" && it["apiVersion"] == "v1");
        pods.map(Pod::of).filter(|pod| !pod.address.is_empty())
    }

    /// The pod with an address.
    pub(crate) fn pod_at(&self, address: &str) -> Option<Pod> {
        let has = |pod: &&Value| {
            pod["kind"] == "Pod"
                && (pod["status"]["podIP"] == address
                    || pod["status"]["podIPs"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .any(|ip| ip["ip"] == address))
        };
        self.objects.iter().find(has).map(Pod::of)
    }

    /// The name in a pod's certificate.
    pub(crate) fn identity(&self, pod: &Pod) -> String {
        let trust_domain = &self.snapshot.catalog.settings.trust_domain;
        format!(
            "spiffe://{trust_domain}/ns/{}/sa/{}",
            pod.namespace, pod.service_account
        )
    }

    /// The proxy of a pod, `POD.NAMESPACE`, `POD`, or a part of its name that only one has.
    pub(crate) fn proxy(&self, name: &str, kind: Kind) -> Result<Proxy> {
        let pod = self.object(name)?;
        let text = |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (name, namespace) = (text("/metadata/name"), text("/metadata/namespace"));
        let address = text("/status/podIP");
        ensure!(
            !address.is_empty(),
            "pod {name}.{namespace} has no address yet: wait until it runs"
        );
        let ips = pod["status"]["podIPs"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|ip| ip["ip"].as_str());
        let ips: Vec<&str> = ips.collect();
        let kind = match kind {
            Kind::Sidecar => "sidecar",
            Kind::Gateway => "router",
            Kind::Waypoint => "waypoint",
        };
        let settings = &self.snapshot.catalog.settings;
        let id = format!(
            "{kind}~{address}~{name}.{namespace}~{namespace}.svc.{}",
            settings.domain
        );
        let metadata = json!({
            "NAMESPACE": namespace,
            "INSTANCE_IPS": ips.join(","),
            "LABELS": pod["metadata"]["labels"],
            "ANNOTATIONS": pod["metadata"]["annotations"],
            "SERVICE_ACCOUNT": text("/spec/serviceAccountName"),
            "NODE_NAME": text("/spec/nodeName"),
            "CLUSTER_ID": &*settings.cluster,
            "NETWORK": &**self.snapshot.model.network(),
            "ENABLE_HBONE": knows_tunnels(pod),
        });
        Ok(Proxy::of_node(&id, &metadata)?)
    }

    fn object(&self, asked: &str) -> Result<&Value> {
        let pods = || {
            self.objects
                .iter()
                .filter(|object| object["kind"] == "Pod" && object["apiVersion"] == "v1")
        };
        let place = |pod: &&Value| {
            let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
            (text("name"), text("namespace"))
        };
        let (name, namespace) = match asked.rsplit_once('.') {
            Some((name, namespace)) => (name, namespace),
            None => (asked, self.namespace.as_str()),
        };
        let exact = pods().find(|pod| place(pod) == (name.to_owned(), namespace.to_owned()));
        if let Some(pod) = exact {
            return Ok(pod);
        }
        let begins = |pod: &&Value| {
            let (of, in_) = place(pod);
            in_ == namespace && of.starts_with(&format!("{name}-"))
        };
        if let Some(pod) = pods().filter(begins).min_by_key(place) {
            return Ok(pod);
        }
        let known: Vec<String> = pods()
            .map(|pod| place(&pod))
            .map(|(name, namespace)| format!("{name}.{namespace}"))
            .take(20)
            .collect();
        if known.is_empty() {
            bail!("there is no pod {name} in namespace {namespace}, and none at all: files need a Pod or a Deployment");
        }
        bail!(
            "there is no pod {name} in namespace {namespace}; there are: {}",
            known.join(", ")
        );
    }
}

/// Whether a pod's proxy knows tunnels: its injection has left the label, or its environment says so.
fn knows_tunnels(pod: &Value) -> bool {
    let lists = ["containers", "initContainers"].map(|list| pod["spec"][list].as_array());
    let containers = lists.into_iter().flatten().flatten();
    let mut variables = containers.flat_map(|container| container["env"].as_array().into_iter().flatten());
    pod["metadata"]["labels"]["networking.istio.io/tunnel"] == "http"
        || variables.any(|variable| variable["name"] == "ISTIO_META_ENABLE_HBONE" && variable["value"] == "true")
}
