//! The mesh as its own code sees it, from objects of an API server or of files: the same model, messages and tables that the control plane and
//! the node proxies use, put together in this process.

pub(crate) mod ambient;
pub(crate) mod called;
pub(crate) mod explain;
pub(crate) mod following;
pub(crate) mod membership;
pub(crate) mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use corten_model::input::PeerAuthentication;
use corten_model::{Change, Object, ObjectKey, ObjectKind, Reader, Settings, Snapshot};
use corten_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use corten_traffic::{Tables, TablesWriter, Workload};
use futures_util::future::try_join_all;
use serde_json::Value;

use crate::cluster::{Cluster, Connection};
use crate::commands::Files;

/// Where the objects come from.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Source {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Objects of files instead of a cluster's: namespaces, pods, services, endpoint slices and policies as `get -o yaml` prints them
    #[arg(short, long, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// The namespace of the mesh's parts
    #[arg(
        short = 'i',
        long = "istioNamespace",
        value_name = "NAMESPACE",
        default_value = "istio-system"
    )]
    istio_namespace: String,
}

/// A mesh.
pub(crate) struct Mesh {
    /// What the control plane makes of the objects.
    pub(crate) snapshot: Snapshot,
    /// What the node proxies make of that.
    pub(crate) tables: Arc<Tables>,
    /// How the node proxies are set.
    pub(crate) settings: corten_traffic::Settings,
    pub(crate) peers: Vec<Arc<PeerAuthentication>>,
    /// What could not be read or used.
    pub(crate) problems: Vec<String>,
    objects: BTreeMap<(ObjectKind, String, String), Value>,
}

impl Source {
    /// The mesh, and the namespace that names without one are of.
    pub(crate) fn open(&self) -> Result<(Mesh, String)> {
        if self.filename.is_empty() {
            return self.connection.run(async |cluster| {
                let mesh = Mesh::read(&cluster, &self.istio_namespace).await?;
                Ok((mesh, cluster.namespace))
            });
        }
        let read = Files::of(self.filename.clone()).read()?;
        ensure!(!read.failed, "what is wrong with the files stands above");
        let namespace = self.connection.named_namespace().unwrap_or("default").to_owned();
        Ok((Mesh::of_objects(read.objects, &self.istio_namespace), namespace))
    }
}

impl Mesh {
    /// From the objects of a cluster.
    async fn read(cluster: &Cluster, system: &str) -> Result<Mesh> {
        let lists = ObjectKind::ALL.map(|kind| async move {
            let path = match kind.group() {
                "" => format!("/api/{}/{}", kind.version(), kind.plural()),
                group => format!("/apis/{group}/{}/{}", kind.version(), kind.plural()),
            };
            match cluster.get(&path).await {
                Ok(mut list) => {
                    let items = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
                    Ok(items.into_iter().map(move |item| (kind, item)).collect::<Vec<_>>())
                }
                // A cluster that does not know a kind has none of it.
                Err(refusal) if refusal.is_not_found() => Ok(Vec::new()),
                Err(refusal) => Err(anyhow::Error::from(refusal)),
            }
        });
        let config = async {
            match cluster
                .get(&format!("/api/v1/namespaces/{system}/configmaps/istio"))
                .await
            {
                Ok(config) => Ok(config["data"]["mesh"].as_str().unwrap_or_default().to_owned()),
                Err(refusal) if refusal.is_not_found() => Ok(String::new()),
                Err(refusal) => Err(anyhow::Error::from(refusal)),
            }
        };
        let (objects, config) = futures_util::try_join!(try_join_all(lists), config)?;
        Ok(Mesh::of(objects.into_iter().flatten().collect(), &config, system))
    }

    /// From objects with their types.
    pub(crate) fn of_objects(objects: Vec<Value>, system: &str) -> Mesh {
        let mut config = String::new();
        let mut known = Vec::new();
        for object in objects {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
            let group = api_version.split_once('/').map_or("", |(group, _)| group);
            let metadata = &object["metadata"];
            if kind == "ConfigMap" && metadata["name"] == "istio" && metadata["namespace"] == system {
                config = text(&object["data"]["mesh"]);
            } else if let Some(kind) = ObjectKind::of(group, &kind) {
                known.push((kind, object));
            }
        }
        Mesh::of(known, &config, system)
    }

    fn of(objects: Vec<(ObjectKind, Value)>, config: &str, system: &str) -> Mesh {
        let mut problems = Vec::new();
        let system = Arc::<str>::from(system);
        let base = Settings {
            system_namespace: Arc::clone(&system),
            root_namespace: system,
            ..Settings::default()
        };
        let (root, found) = corten_api::decode::document("the mesh's configuration", config);
        problems.extend(found.iter().map(ToString::to_string));
        let base = match root {
            Some(root) => {
                let (config, wrong) = corten_api::validate::mesh_config_over_defaults(&root);
                let said = wrong
                    .into_iter()
                    .map(|it| format!("mesh configuration: {}: {}", it.path, it.message));
                problems.extend(said);
                base.with_mesh_config(&config)
            }
            None => base,
        };
        let mut reader = Reader::default();
        let mut peers = Vec::new();
        let mut kept = BTreeMap::new();
        let mut changes = Vec::new();
        for (kind, value) in objects {
            let read = reader.read_kind(kind, &value);
            problems.extend(read.diagnostics.iter().map(ToString::to_string));
            let Some(object) = read.object else { continue };
            if let Object::PeerAuthentication(peer) = &object {
                peers.push(Arc::clone(peer));
            }
            let name = |key: &str| value["metadata"][key].as_str().unwrap_or_default().to_owned();
            kept.insert((kind, name("namespace"), name("name")), value);
            changes.push(Change::Put(object));
        }
        let mut mesh = corten_model::Mesh::new(base);
        mesh.apply(changes);
        let snapshot = mesh.snapshot();
        let (tables, rejected) = tables(&snapshot);
        problems.extend(rejected);
        Mesh {
            settings: corten_traffic::Settings {
                network: corten_traffic::Name::from(&**snapshot.network()),
                cluster_domain: corten_traffic::Name::from(&*snapshot.settings().domain),
                ..corten_traffic::Settings::default()
            },
            snapshot,
            tables,
            peers,
            problems,
            objects: kept,
        }
    }

    /// An object as it is.
    pub(crate) fn object(&self, kind: ObjectKind, namespace: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(kind, namespace.to_owned(), name.to_owned()))
    }

    /// The objects of a kind and namespace.
    pub(crate) fn objects_of<'a>(&'a self, kind: ObjectKind, namespace: &str) -> impl Iterator<Item = &'a Value> {
        let first = (kind, namespace.to_owned(), String::new());
        let namespace = namespace.to_owned();
        let found = self.objects.range(first..);
        let found = found.take_while(move |((of, space, _), _)| *of == kind && *space == namespace);
        found.map(|(_, value)| value)
    }

    /// What the model has to say about an object.
    pub(crate) fn said_of(&self, kind: ObjectKind, namespace: &str, name: &str) -> impl Iterator<Item = String> {
        let key = ObjectKey::new(kind, namespace, name);
        let said = self.snapshot.diagnostics_of(&key);
        said.iter().map(ToString::to_string).collect::<Vec<_>>().into_iter()
    }

    /// A pod as the tables know it.
    pub(crate) fn workload(&self, namespace: &str, name: &str) -> Result<&Arc<Workload>> {
        let cluster = &self.snapshot.settings().cluster;
        if let Some(workload) = self.tables.workload(&format!("{cluster}//Pod/{namespace}/{name}")) {
            return Ok(workload);
        }
        let pod = self.object(ObjectKind::Pod, namespace, name);
        let pod = pod.with_context(|| format!("there is no pod {name} in namespace {namespace}"))?;
        match pod["status"]["phase"].as_str().unwrap_or("Pending") {
            phase @ ("Succeeded" | "Failed") => {
                bail!("pod {namespace}/{name} has ended ({phase}), so nobody calls it and it calls nobody")
            }
            phase => bail!("pod {namespace}/{name} has no address yet (its phase is {phase})"),
        }
    }

    /// The pod that `[pod/]NAME[.NAMESPACE]` or `TYPE/NAME[.NAMESPACE]` means, as namespace and name; of several the first that is ready.
    pub(crate) fn pod_named(&self, word: &str, namespace: &str) -> Result<(String, String)> {
        let (word, given) = crate::cluster::split_name(word);
        // A dot may be part of the pod's name.
        if let Some(given) = given.filter(|_| !word.contains('/'))
            && self.object(ObjectKind::Pod, given, word).is_none()
            && self
                .object(ObjectKind::Pod, namespace, &format!("{word}.{given}"))
                .is_some()
        {
            return Ok((namespace.to_owned(), format!("{word}.{given}")));
        }
        let namespace = given.unwrap_or(namespace);
        let Some((kind, name)) = word
            .split_once('/')
            .filter(|(kind, _)| !["pod", "pods", "po"].contains(kind))
        else {
            let name = word.rsplit('/').next().unwrap_or(word);
            ensure!(
                self.object(ObjectKind::Pod, namespace, name).is_some(),
                "there is no pod {name} in namespace {namespace}; pods of other namespaces are written NAME.NAMESPACE, those of a workload deploy/NAME"
            );
            return Ok((namespace.to_owned(), name.to_owned()));
        };
        let is_service = ["service", "services", "svc"].contains(&kind);
        let pods = self.objects_of(ObjectKind::Pod, namespace);
        let belongs = |pod: &&Value| {
            let found = pod["metadata"]["name"]
                .as_str()
                .and_then(|name| self.workload(namespace, name).ok());
            found.is_some_and(|workload| {
                if is_service {
                    workload.services.iter().any(|it| {
                        let host = it.hostname.split('.').next();
                        *it.namespace == *namespace && host == Some(name)
                    })
                } else {
                    *workload.workload_name == *name
                }
            })
        };
        let found = crate::cluster::ready_first(pods.filter(belongs).cloned().collect());
        let name = found.first().and_then(|pod| pod["metadata"]["name"].as_str());
        let name = name.with_context(|| format!("{word} has no running pods in namespace {namespace}"))?;
        Ok((namespace.to_owned(), name.to_owned()))
    }
}

/// The tables of a node proxy that was sent everything, and what it refused.
fn tables(snapshot: &Snapshot) -> (Arc<Tables>, Vec<String>) {
    let addresses = snapshot
        .address_keys()
        .filter_map(|key| corten_xds_gen::address(snapshot, &key));
    let addresses = addresses.map(|resource| (ADDRESS_TYPE, resource));
    let policies = snapshot
        .policies()
        .filter_map(|it| corten_xds_gen::authorization(snapshot, &it.key));
    let policies = policies.map(|resource| (AUTHORIZATION_TYPE, resource));
    let resources = policies.chain(addresses);
    let changes = resources.filter_map(|(kind, it)| corten_traffic::Change::upsert(kind, &it.name, &it.body));
    let mut writer = TablesWriter::new();
    let rejected = writer.apply(changes).err().unwrap_or_default();
    let rejected = rejected
        .into_iter()
        .map(|it| format!("node proxies refuse {}: {}", it.name, it.reason));
    (writer.snapshot(), rejected.collect())
}
