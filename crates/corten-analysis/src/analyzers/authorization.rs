//! AuthorizationPolicies that apply to nothing or name namespaces that are not there; and where the control plane may fetch keys from.

use std::collections::BTreeMap;

use corten_api::istio::authorization_policy::{AuthorizationPolicySpec, Source};

use crate::catalogue;
use crate::membership::{pod_has_sidecar, pod_is_ambient};
use crate::objects::{Item, Labels, World};
use crate::report::Report;
use crate::selector;

pub(super) fn policies(world: &World, report: &mut Report) {
    let mut pods: BTreeMap<&str, Vec<&Labels>> = BTreeMap::new();
    for pod in &world.pods {
        if pod_has_sidecar(pod, world) || pod_is_ambient(&pod.object) {
            pods.entry(pod.object.namespace()).or_default().push(&pod.object.labels);
        }
    }
    for policy in &world.authorization_policies {
        workloads(policy, world, &pods, report);
        namespaces(policy, world, report);
    }
}

fn workloads(
    policy: &Item<AuthorizationPolicySpec>,
    world: &World,
    pods: &BTreeMap<&str, Vec<&Labels>>,
    report: &mut Report,
) {
    let namespace = policy.object.namespace();
    let of_mesh = namespace == world.mesh_config.root_namespace;
    let wanted = policy.spec.selector.as_ref().map(|selector| &selector.match_labels);
    let own = || pods.get(namespace).into_iter().flatten();
    let (found, labels) = match wanted {
        // For the whole mesh.
        None if of_mesh => return,
        None => (own().next().is_some(), String::new()),
        Some(wanted) => {
            let found = if of_mesh {
                pods.values().flatten().any(|labels| selector::matches(wanted, labels))
            } else {
                own().any(|labels| selector::matches(wanted, labels))
            };
            (found, selector::text(wanted))
        }
    };
    if !found {
        let path = if wanted.is_some() { "spec.selector" } else { "" };
        report.add_once(
            &catalogue::NO_MATCHING_WORKLOADS_FOUND,
            &policy.object,
            path,
            &[("labels", &labels)],
        );
    }
}

fn namespaces(policy: &Item<AuthorizationPolicySpec>, world: &World, report: &mut Report) {
    for (i, rule) in policy.spec.rules.iter().flatten().enumerate() {
        for (j, from) in rule.from.iter().flatten().enumerate() {
            let nothing = Source::default();
            let source = from.source.as_ref().unwrap_or(&nothing);
            let lists = [
                ("namespaces", &source.namespaces),
                ("notNamespaces", &source.not_namespaces),
            ];
            for (field, list) in lists {
                for (k, wanted) in list.iter().enumerate() {
                    if !world
                        .namespaces
                        .iter()
                        .any(|namespace| is_of_form(namespace.name(), wanted))
                    {
                        let path = format!("spec.rules[{i}].from[{j}].source.{field}[{k}]");
                        let parameters = [("reftype", "namespace"), ("refval", wanted)];
                        report.add(
                            &catalogue::REFERENCED_RESOURCE_NOT_FOUND,
                            &policy.object,
                            &path,
                            &parameters,
                        );
                    }
                }
            }
        }
    }
}

/// Whether a namespace is meant by a name that may begin or end with `*`.
fn is_of_form(namespace: &str, form: &str) -> bool {
    if let Some(end) = form.strip_prefix('*') {
        return namespace.ends_with(end);
    }
    match form.strip_suffix('*') {
        Some(begin) => namespace.starts_with(begin),
        None => namespace.eq_ignore_ascii_case(form),
    }
}

/// How many names a message lists.
const NAMES_MAX: usize = 5;

pub(super) fn key_fetches(world: &World, report: &mut Report) {
    let names: Vec<String> = world
        .request_authentications
        .iter()
        .map(|item| item.object.full_name())
        .collect();
    if names.is_empty() {
        return;
    }
    let (shown, more) = names.split_at(names.len().min(NAMES_MAX));
    let mut list = shown.join(", ");
    if !more.is_empty() {
        list.push_str(&format!(", and {} more", more.len()));
    }
    let count = names.len().to_string();
    for deployment in &world.deployments {
        if deployment.object.labels.get("app").is_none_or(|app| app != "istiod") {
            continue;
        }
        let pod = deployment
            .spec
            .spec
            .as_ref()
            .and_then(|spec| spec.template.spec.as_ref());
        let mut variables = pod
            .iter()
            .flat_map(|pod| &pod.containers)
            .flat_map(|c| c.env.iter().flatten());
        let restricted = variables.any(|variable| {
            variable.name == "BLOCKED_CIDRS_IN_JWKS_URIS" && variable.value.as_ref().is_some_and(|v| !v.is_empty())
        });
        if !restricted {
            let parameters = [("count", &*count), ("names", &*list)];
            report.add_once(
                &catalogue::JWKS_URI_FETCH_UNRESTRICTED,
                &deployment.object,
                "",
                &parameters,
            );
        }
    }
}
