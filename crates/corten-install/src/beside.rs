//! Several revisions in one cluster: what each of them brings, and what there can be only one of.
//!
//! A node has one agent and one proxy, and objects that name no revision are checked by one control plane. These stay with the
//! revision that has them until another is asked to take them. What was decided is put into the request, so that whoever reads what is
//! remembered finds the same again.

use serde_json::{Value, json};

use crate::charts::Component;
use crate::cluster::{Cluster, ClusterError, title};
use crate::operator::{Plan, Request};
use crate::record::{self, Record, shown};
use crate::render::Rendered;
use crate::values::at;

/// Who checks objects that name no revision.
pub const DEFAULT_VALIDATOR: &str = "istiod-default-validator";

/// By which pods that name no revision get their proxies, if it is not the default revision that gives them.
const DEFAULT_INJECTOR: &str = "istio-revision-tag-default";

/// Whether an object is the default revision's, of which there is one: it checks objects, or gives pods proxies, that name none.
pub fn is_of_default(object: &Value) -> bool {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let injector = object["kind"] == "MutatingWebhookConfiguration"
        && (name == DEFAULT_INJECTOR || name.starts_with(&format!("{DEFAULT_INJECTOR}-")));
    name == DEFAULT_VALIDATOR || injector
}

/// The components of which a node has one.
const ON_NODES: [(Component, &str); 2] = [
    (Component::Cni, "components.cni.enabled=false"),
    (Component::Ztunnel, "components.ztunnel.enabled=false"),
];

/// A request with what follows from the revisions that are there, and what to tell of it.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// The request.
    pub request: Request,
    /// What was decided.
    pub notes: Vec<String>,
    /// The revision that has the nodes, if this one leaves them there.
    pub beside: Option<String>,
}

/// Fits a request to the revisions that are there.
pub async fn fit(
    cluster: &Cluster,
    request: &Request,
    plan: &Plan,
    objects: &[Rendered],
) -> Result<Fitted, ClusterError> {
    let (records, live) = match there(cluster, plan).await {
        // Whoever may not look may not install either, which is said with all that is lacking.
        Err(ClusterError::Forbidden { .. }) => (Vec::new(), None),
        there => there?,
    };
    let checks = live
        .as_ref()
        .and_then(|live| live["metadata"]["labels"]["istio.io/rev"].as_str());
    Ok(decide(request, plan, objects, &records, checks))
}

async fn there(cluster: &Cluster, plan: &Plan) -> Result<(Vec<Record>, Option<Value>), ClusterError> {
    let records = record::all(cluster, &plan.namespace).await?;
    let validator = json!({"kind": "ValidatingWebhookConfiguration", "metadata": {"name": DEFAULT_VALIDATOR}});
    Ok((records, cluster.live(&validator).await?))
}

fn decide(request: &Request, plan: &Plan, objects: &[Rendered], records: &[Record], checks: Option<&str>) -> Fitted {
    let mut request = request.clone();
    let mut notes = Vec::new();
    let mut beside = None;
    let own = records.iter().find(|record| record.revision == plan.revision);
    let others: Vec<&Record> = records
        .iter()
        .filter(|record| record.revision != plan.revision)
        .collect();
    for (component, without) in ON_NODES {
        let asked = &at(&plan.asked, &["components", component.key()])["enabled"];
        if !plan.parts.iter().any(|part| part.component == component) || !asked.is_null() {
            continue;
        }
        let sets = || {
            let of = objects.iter().filter(|rendered| rendered.component == component);
            of.filter(|rendered| rendered.object["kind"] == "DaemonSet")
        };
        if own.is_some_and(|own| sets().any(|set| own.has(&set.object))) {
            continue;
        }
        let has = |other: &&&Record| sets().any(|set| other.has(&set.object));
        if let Some(other) = others.iter().find(has) {
            request.sets.push((without.to_owned(), false));
            beside = Some(shown(&other.revision).to_owned());
            notes.push(format!(
                "{} stays revision {}'s, because a node has one; --set components.{}.enabled=true moves it to this one",
                component.title(),
                shown(&other.revision),
                component.key()
            ));
        }
    }
    if at(&plan.asked, &["values", "defaultRevision"]).is_null() {
        let name = shown(&plan.revision);
        let is_there = |revision: &str| others.iter().any(|other| shown(&other.revision) == revision);
        match checks {
            Some(other) if other != name && is_there(other) => {
                request.sets.push(("values.defaultRevision=".to_owned(), false));
                notes.push(format!(
                    "objects that name no revision stay revision {other}'s, and pods that name none get their proxies from it; `corten tag set default --revision {name} --overwrite` makes it this one"
                ));
            }
            _ if name != "default" => request.sets.push((format!("values.defaultRevision={name}"), true)),
            _ => {}
        }
    }
    Fitted { request, notes, beside }
}

/// Takes what a revision now has out of what the others remember; those of them that are no longer the default one.
pub async fn take_over(
    cluster: &Cluster,
    namespace: &str,
    revision: &str,
    objects: &[Rendered],
) -> Result<Vec<String>, ClusterError> {
    let mut stepped_back = Vec::new();
    for mut other in record::all(cluster, namespace).await? {
        if other.revision == revision {
            continue;
        }
        let mut gave = false;
        for (component, without) in ON_NODES {
            let of: Vec<String> = objects
                .iter()
                .filter(|rendered| rendered.component == component)
                .map(|rendered| title(&rendered.object))
                .collect();
            gave |= other.give_up(|object| of.contains(&title(object)), &[without]);
        }
        if objects.iter().any(|rendered| is_of_default(&rendered.object)) {
            let was_default = other.give_up(is_of_default, &["values.defaultRevision="]);
            gave |= was_default;
            if was_default {
                stepped_back.push(shown(&other.revision).to_owned());
            }
        }
        if gave {
            cluster.apply(&other.map(namespace)).await?;
        }
    }
    Ok(stepped_back)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::plan;
    use crate::render;

    fn rendered(sets: &[&str]) -> (Request, Plan, Vec<Rendered>) {
        let request = Request {
            sets: sets.iter().map(|set| ((*set).to_owned(), false)).collect(),
            ..Request::default()
        };
        let plan = plan(&request).unwrap();
        let objects = render::objects(&plan, render::Options::default()).unwrap();
        (request, plan, objects)
    }

    fn record(sets: &[&str]) -> Record {
        let (request, plan, objects) = rendered(sets);
        Record {
            revision: plan.revision,
            request,
            version: String::new(),
            objects: objects.into_iter().map(|rendered| rendered.object).collect(),
        }
    }

    fn added(sets: &[&str], records: &[Record], checks: Option<&str>) -> Vec<String> {
        let (request, plan, objects) = rendered(sets);
        let fitted = decide(&request, &plan, &objects, records, checks);
        fitted.request.sets[sets.len()..]
            .iter()
            .map(|(set, _)| set.clone())
            .collect()
    }

    #[test]
    fn what_there_is_one_of_stays_where_it_is() {
        let first = ["profile=ambient"];
        let canary = ["profile=ambient", "revision=canary"];
        let (keep_nodes, keep_default) = (
            ["components.cni.enabled=false", "components.ztunnel.enabled=false"],
            "values.defaultRevision=",
        );
        assert!(added(&first, &[], None).is_empty(), "nothing else is there");
        assert_eq!(
            added(&canary, &[], None),
            ["values.defaultRevision=canary"],
            "alone, it is everybody's"
        );
        let there = [record(&first)];
        assert_eq!(
            added(&canary, &there, Some("default")),
            [&keep_nodes[..], &[keep_default]].concat()
        );
        assert!(added(&first, &there, Some("default")).is_empty(), "again");
        // Asked to, it takes the nodes, and keeps them.
        let moved = [
            &canary[..],
            &["components.cni.enabled=true", "components.ztunnel.enabled=true"],
        ]
        .concat();
        assert_eq!(added(&moved, &there, Some("default")), [keep_default]);
        let mut both = [there[0].clone(), record(&moved)];
        both[0].give_up(
            |object| object["kind"] == "DaemonSet",
            &["components.cni.enabled=false"],
        );
        assert_eq!(added(&canary, &both, Some("default")), [keep_default]);
        assert_eq!(
            added(&first, &both, Some("canary")),
            [&keep_nodes[..], &[keep_default]].concat()
        );
        assert!(
            both[0]
                .request
                .sets
                .iter()
                .any(|(set, _)| set == "components.cni.enabled=false")
        );
    }
}
