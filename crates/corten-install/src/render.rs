//! A plan to objects, in the order in which they are to be made.

use corten_api::decode;
use serde_json::{Value, json};

use crate::charts::{Component, Release};
use crate::operator::{Part, Plan};
use crate::values::merge;
use corten_template::TemplateError;

mod k8s;

/// An object, and the component it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// Which.
    pub component: Component,
    /// The object.
    pub object: Value,
}

/// A plan makes no objects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A template.
    #[error("the chart cannot be rendered with these values: {0}")]
    Template(#[from] TemplateError),
    /// What a template makes is no YAML.
    #[error("{file} is not well formed with these values: {problem}")]
    Yaml {
        /// The template.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// A patch of `k8s.overlays` does not fit.
    #[error("components.{component}.k8s: {problem}")]
    Patch {
        /// The component.
        component: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// How an installation is rendered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// It is there already.
    pub is_upgrade: bool,
}

/// The objects of a plan.
pub fn objects(plan: &Plan, options: Options) -> Result<Vec<Rendered>, RenderError> {
    let mut all = Vec::new();
    let mut namespaces: Vec<&str> = Vec::new();
    for part in &plan.parts {
        if !namespaces.contains(&part.namespace.as_str()) {
            namespaces.push(&part.namespace);
        }
        all.extend(component(plan, part, options)?);
    }
    // The charts leave namespaces to `helm --create-namespace`. The cluster's own are there.
    for namespace in namespaces.into_iter().filter(|name| !name.starts_with("kube-")) {
        all.push(Rendered {
            component: Component::Base,
            object: json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        });
    }
    all.sort_by_key(|rendered| rank(rendered.object["kind"].as_str().unwrap_or_default()));
    Ok(all)
}

/// The objects of one component.
pub fn component(plan: &Plan, part: &Part, options: Options) -> Result<Vec<Rendered>, RenderError> {
    let release = Release {
        name: part.component.release(),
        namespace: &part.namespace,
        is_upgrade: options.is_upgrade,
    };
    let mut values = plan.values.clone();
    if part.own.is_object() {
        merge(&mut values, &part.own);
    }
    let mut objects = documents(part.component.render(&values, &release)?)?;
    k8s::apply(part, &mut objects).map_err(|problem| RenderError::Patch {
        component: part.component.key(),
        problem,
    })?;
    let rendered = objects.into_iter().map(|object| Rendered {
        component: part.component,
        object,
    });
    Ok(rendered.collect())
}

/// The objects in rendered files.
fn documents(files: Vec<(String, String)>) -> Result<Vec<Value>, RenderError> {
    let mut objects = Vec::new();
    for (file, text) in files {
        let (documents, problems) = decode::documents(&file, &text);
        if let Some(problem) = problems.first() {
            let problem = problem.to_string();
            return Err(RenderError::Yaml { file, problem });
        }
        let values = documents.iter().map(decode::Node::to_value);
        objects.extend(values.filter(Value::is_object));
    }
    Ok(objects)
}

/// When an object is made: first what others need.
pub fn rank(kind: &str) -> usize {
    const ORDER: [&str; 18] = [
        "Namespace",
        "ResourceQuota",
        "NetworkPolicy",
        "CustomResourceDefinition",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
        "ConfigMap",
        "Secret",
        "Service",
        "Deployment",
        "DaemonSet",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
    ];
    ORDER.iter().position(|known| *known == kind).unwrap_or(ORDER.len())
}
