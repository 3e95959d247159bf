//! `corten kube-inject`: the proxies of pods put into manifests, where no webhook is to do it.
//!
//! What is put in is decided by the code that the webhook runs. Settings come from a cluster, as the webhook has them, or from files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use corten_api::{decode, yaml};
use corten_inject::{Config, Decision, Injector, Outcome, Subject, objects, openshift_ids};
use corten_install::cluster::Cluster as Place;
use corten_install::operator::{self, Request};
use corten_install::render;
use serde_json::{Value, json};

use super::read_file;
use crate::installation::Target;
use crate::output;

/// What keeps the settings of injection, and the mesh's.
const INJECTION: &str = "istio-sidecar-injector";
const MESH: &str = "istio";

/// Put the proxies of pods into manifests
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Settings are those of the cluster, or of files: an IstioOperator (--operatorFileName), or the two entries of the ConfigMap
istio-sidecar-injector (--valuesFile, --injectConfigFile) and the mesh's configuration (--meshConfigFile).
Whether a proxy is an init container that goes on running, files cannot say: there it is a container, unless the pod has the
annotation sidecar.istio.io/nativeSidecar. ProxyConfigs are not looked at; the webhook does. Example:
  corten kube-inject -f shop.yaml | kubectl apply -f -"
)]
pub(crate) struct KubeInject {
    #[command(flatten)]
    target: Target,
    /// The manifest; - for standard input
    #[arg(short, long, value_name = "FILE")]
    filename: PathBuf,
    /// Where to write it [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The mesh's configuration, instead of the cluster's
    #[arg(long = "meshConfigFile", value_name = "FILE")]
    mesh_config_file: Option<PathBuf>,
    /// Which pods get a proxy and by which templates, instead of the cluster's
    #[arg(long = "injectConfigFile", value_name = "FILE", conflicts_with = "inject_config_map")]
    inject_config_file: Option<PathBuf>,
    /// Values of the installation, instead of the cluster's
    #[arg(long = "valuesFile", value_name = "FILE")]
    values_file: Option<PathBuf>,
    /// An IstioOperator that says all of these
    #[arg(long = "operatorFileName", value_name = "FILE")]
    operator_file: Option<PathBuf>,
    /// The ConfigMap of the mesh's configuration (entry `mesh`) [default: istio, with the revision]
    #[arg(long = "meshConfigMapName", value_name = "NAME")]
    mesh_config_map: Option<String>,
    /// The ConfigMap of injection (entries `values` and `config`) [default: istio-sidecar-injector, with the revision]
    #[arg(long = "injectConfigMapName", value_name = "NAME")]
    inject_config_map: Option<String>,
    /// The control plane's namespace
    #[arg(
        short = 'i',
        long = "istioNamespace",
        value_name = "NAMESPACE",
        default_value = "istio-system"
    )]
    istio_namespace: String,
    /// The control plane's revision
    #[arg(short, long, value_name = "REVISION", default_value = "")]
    revision: String,
}

/// What the settings are, as texts.
#[derive(Debug, Default)]
struct Texts {
    values: String,
    config: String,
    mesh: String,
}

/// What is known of the cluster that the pods are for.
#[derive(Debug, Default)]
struct Known {
    native: bool,
    /// Annotations of namespaces.
    namespaces: BTreeMap<String, Value>,
}

impl KubeInject {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let name = self.filename.display().to_string();
        let text = String::from_utf8(read_file(&self.filename)?).with_context(|| format!("{name} is no text"))?;
        let (texts, known) = self.settings()?;
        let injector = self.injector(&texts)?;
        let (made, notes) = injected(&injector, &known, &name, &text)?;
        for note in notes {
            eprintln!("{note}");
        }
        match &self.output {
            Some(path) => std::fs::write(path, made).with_context(|| format!("writing {}", path.display()))?,
            None => output::text(made)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn suffix(&self) -> String {
        match self.revision.as_str() {
            "" | "default" => String::new(),
            revision => format!("-{revision}"),
        }
    }

    /// Files go before the cluster, which is only asked for what they do not say.
    fn settings(&self) -> Result<(Texts, Known)> {
        let file = |path: &Option<PathBuf>| match path {
            Some(path) => {
                let text = read_file(path)?;
                let text = String::from_utf8(text).with_context(|| format!("{} is no text", path.display()));
                text.map(Some)
            }
            None => Ok(None),
        };
        if let Some(operator) = file(&self.operator_file)? {
            return Ok((self.of_operator(operator)?, Known::default()));
        }
        let (values, config, mesh) = (
            file(&self.values_file)?,
            file(&self.inject_config_file)?,
            file(&self.mesh_config_file)?,
        );
        let (mut texts, mut known) = (Texts::default(), Known::default());
        if values.is_none() || config.is_none() || mesh.is_none() {
            (texts, known) = self
                .target
                .run(async |cluster| self.of_cluster(&cluster.place(true)).await)?;
        }
        texts.values = values.unwrap_or(texts.values);
        texts.config = config.unwrap_or(texts.config);
        texts.mesh = mesh.unwrap_or(texts.mesh);
        Ok((texts, known))
    }

    /// As an installation of this IstioOperator would have it.
    fn of_operator(&self, text: String) -> Result<Texts> {
        let name = self
            .operator_file
            .as_deref()
            .unwrap_or_else(|| "-".as_ref())
            .display()
            .to_string();
        let plan = operator::plan(&Request {
            files: vec![(name, text)],
            revision: (!self.revision.is_empty()).then(|| self.revision.clone()),
            ..Request::default()
        })?;
        for warning in &plan.warnings {
            eprintln!("warning: {warning}");
        }
        let rendered = render::objects(&plan, render::Options::default())?;
        let suffix = if plan.revision.is_empty() {
            String::new()
        } else {
            format!("-{}", plan.revision)
        };
        let entry = |map: &str, entry: &str| {
            let name = format!("{map}{suffix}");
            let mut maps = rendered.iter().map(|rendered| &rendered.object);
            let map = maps.find(|it| it["kind"] == "ConfigMap" && it["metadata"]["name"] == name.as_str());
            map.and_then(|map| map["data"][entry].as_str()).map(str::to_owned)
        };
        let Some(values) = entry(INJECTION, "values") else {
            bail!(
                "an installation of this IstioOperator has no settings of injection: components.pilot is not enabled"
            );
        };
        Ok(Texts {
            values,
            config: entry(INJECTION, "config").unwrap_or_default(),
            mesh: entry(MESH, "mesh").unwrap_or_default(),
        })
    }

    async fn of_cluster(&self, place: &Place) -> Result<(Texts, Known)> {
        let named = |given: &Option<String>, usual: &str| match given {
            Some(name) => name.clone(),
            None => format!("{usual}{}", self.suffix()),
        };
        let read = async |name: String| {
            let map = json!({"kind": "ConfigMap", "metadata": {"name": name, "namespace": self.istio_namespace}});
            let live = place.live(&map).await?;
            live.with_context(|| {
                format!(
                    "there is no ConfigMap {name} in namespace {}: is a mesh installed there, and is --revision right?",
                    self.istio_namespace
                )
            })
        };
        let mut texts = Texts::default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if self.values_file.is_none() || self.inject_config_file.is_none() {
            let map = read(named(&self.inject_config_map, INJECTION)).await?;
            texts.values = text(&map["data"]["values"]);
            texts.config = text(&map["data"]["config"]);
        }
        if self.mesh_config_file.is_none() {
            texts.mesh = text(&read(named(&self.mesh_config_map, MESH)).await?["data"]["mesh"]);
        }
        let nodes = place.list("Node", None, "").await?;
        let versions = nodes.iter().map(|node| &node["status"]["nodeInfo"]["kubeletVersion"]);
        let versions: Vec<&str> = versions.filter_map(Value::as_str).collect();
        let namespaces = place.list("Namespace", None, "").await?.into_iter().map(|namespace| {
            let name = namespace["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            (name, namespace["metadata"]["annotations"].clone())
        });
        let known = Known {
            native: !versions.is_empty()
                && versions
                    .iter()
                    .all(|version| corten_inject::runs_native_sidecars(version)),
            namespaces: namespaces.collect(),
        };
        Ok((texts, known))
    }

    fn injector(&self, texts: &Texts) -> Result<Injector> {
        let read = |what: &str, text: &str| {
            let (root, problems) = decode::document(what, text);
            if let Some(problem) = problems.iter().find(|problem| problem.is_error()) {
                bail!("{problem}");
            }
            Ok(root.map_or_else(|| json!({}), |root| root.to_value()))
        };
        let mut values = read("values", &texts.values)?;
        let revision = self.suffix().trim_start_matches('-').to_owned();
        if values["global"]["istioNamespace"].is_null() {
            values["global"]["istioNamespace"] = json!(self.istio_namespace);
        }
        let revision = match values["revision"].as_str() {
            Some(own) if revision.is_empty() => own.to_owned(),
            _ => revision,
        };
        values["revision"] = json!(revision);
        Ok(Injector {
            config: Config::new(&values, &read("config", &texts.config)?),
            mesh: read("mesh", &texts.mesh)?,
            revision,
            compliance_policy: None,
        })
    }
}

/// A manifest with proxies, and what is to be said about it.
fn injected(injector: &Injector, known: &Known, name: &str, text: &str) -> Result<(String, Vec<String>)> {
    let (documents, problems) = decode::documents(name, text);
    if let Some(problem) = problems.iter().find(|problem| problem.is_error()) {
        bail!("{problem}");
    }
    let prepare = |subject: &mut Subject<'_>| {
        subject.native_sidecars = known.native;
        let annotations = known.namespaces.get(subject.namespace).unwrap_or(&Value::Null);
        (subject.proxy_user, subject.proxy_group) = openshift_ids(annotations);
    };
    let (mut made, mut notes) = (Vec::new(), Vec::new());
    for document in &documents {
        let object = document.to_value();
        if object.is_null() {
            continue;
        }
        ensure!(object.is_object(), "{name} holds something that is no object: {object}");
        let title = format!(
            "{} {}",
            object["kind"].as_str().unwrap_or("object"),
            object["metadata"]["name"].as_str().unwrap_or_default()
        );
        match objects(injector, &object, &prepare).with_context(|| title.clone())? {
            Outcome::Injected(injected) => made.push(yaml::document(&injected)),
            Outcome::Unchanged(why) => {
                if let Some(why) = why.and_then(reason) {
                    notes.push(format!("{title} stays as it is: {why}"));
                }
                made.push(yaml::document(&object));
            }
        }
    }
    Ok((made.join("---\n"), notes))
}

/// Why pods get no proxy.
fn reason(decision: Decision) -> Option<&'static str> {
    Some(match decision {
        Decision::Inject => return None,
        Decision::HostNetwork => "it uses its node's network, where redirection would be everybody's",
        Decision::Namespace => "its namespace is Kubernetes' own",
        Decision::Disabled => {
            "it refuses, by the label or annotation sidecar.istio.io/inject or by the mesh's neverInjectSelector"
        }
        Decision::NotAsked => {
            "it does not ask, and the mesh's policy is that pods have to (sidecar.istio.io/inject: \"true\")"
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        command: KubeInject,
    }

    const MANIFEST: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: app, image: shop/web}]}
---
apiVersion: v1
kind: Pod
metadata: {name: quiet, labels: {sidecar.istio.io/inject: 'false'}}
spec: {containers: [{name: app, image: shop/quiet}]}
";

    fn run(words: &[&str], files: &[(&str, &str)]) -> Result<(Vec<Value>, Vec<String>)> {
        let dir = tempfile::tempdir()?;
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text)?;
        }
        let words: Vec<String> = words
            .iter()
            .map(|word| match word.strip_prefix('@') {
                Some(file) => dir.path().join(file).display().to_string(),
                None => (*word).to_owned(),
            })
            .collect();
        let words = ["kube-inject".to_owned(), "-f".to_owned(), "-".to_owned()]
            .into_iter()
            .chain(words);
        let line = Line::try_parse_from(words)?;
        let (texts, known) = line.command.settings()?;
        let (text, notes) = injected(&line.command.injector(&texts)?, &known, "-", MANIFEST)?;
        let (documents, _) = decode::documents("", &text);
        Ok((documents.iter().map(decode::Node::to_value).collect(), notes))
    }

    fn image(objects: &[Value]) -> &Value {
        let containers = objects[1]["spec"]["template"]["spec"]["containers"].as_array();
        let mut containers = containers.into_iter().flatten();
        let proxy = containers.find(|container| container["name"] == "istio-proxy");
        proxy.map_or(&Value::Null, |proxy| &proxy["image"])
    }

    #[test]
    fn an_operator_says_everything() {
        let operator = "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: {hub: r.example, tag: '1', meshConfig: {defaultConfig: {proxyMetadata: {A: b}}}}\n";
        let (objects, notes) = run(&["--operatorFileName", "@op"], &[("op", operator)]).unwrap();
        assert_eq!(objects.len(), 3);
        assert_eq!(image(&objects), "r.example/proxyv2:1");
        assert!(
            objects[1].to_string().contains(r#"{"name":"A","value":"b"}"#),
            "{}",
            objects[1]
        );
        assert_eq!(objects[2]["spec"]["containers"].as_array().map(Vec::len), Some(1));
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(
            notes[0].starts_with("Pod quiet stays as it is: it refuses"),
            "{notes:?}"
        );
    }

    #[test]
    fn files_stand_for_the_cluster() {
        let files = [
            ("values", "global: {hub: other.example, tag: v2}"),
            ("config", "policy: disabled"),
            ("mesh", "{}"),
        ];
        let flags = [
            "--valuesFile",
            "@values",
            "--injectConfigFile",
            "@config",
            "--meshConfigFile",
            "@mesh",
        ];
        let (objects, notes) = run(&flags, &files).unwrap();
        assert_eq!(*image(&objects), Value::Null);
        assert_eq!(notes.len(), 2, "{notes:?}");
        let open = [files[0], ("config", "policy: enabled"), files[2]];
        let (objects, _) = run(&flags, &open).unwrap();
        assert_eq!(image(&objects), "other.example/proxyv2:v2");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let wrong = [("values", "global: [unclosed"), ("config", ""), ("mesh", "")];
        let flags = [
            "--valuesFile",
            "@values",
            "--injectConfigFile",
            "@config",
            "--meshConfigFile",
            "@mesh",
        ];
        let error = run(&flags, &wrong).unwrap_err().to_string();
        assert!(error.starts_with("values:") && error.contains("not YAML"), "{error}");
        let operator = [(
            "op",
            "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: {profile: empty}\n",
        )];
        let error = run(&["--operatorFileName", "@op"], &operator).unwrap_err().to_string();
        assert!(error.contains("components.pilot"), "{error}");
    }
}
