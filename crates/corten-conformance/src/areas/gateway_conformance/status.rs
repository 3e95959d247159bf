//! Steps about what objects say of themselves.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::cluster::{CLASS, CONTROLLER, Cluster};
use super::{list, text};

/// What is wrong with a step about a status; `None`: it is about something else.
pub(super) fn check(cluster: &Cluster, step: &Value) -> Result<Option<Vec<String>>> {
    let mut problems = Vec::new();
    let steps = step.as_object().context("a step is no object")?;
    let Some((kind, step)) = steps.iter().find(|(key, _)| *key != "name") else {
        bail!("the step is empty")
    };
    let object = || cluster.object(text(&step["kind"]), text(&step["name"]));
    let gateway = || cluster.object("Gateway", text(&step["gateway"]));
    match kind.as_str() {
        "routesAccepted" => routes_accepted(cluster, step, &mut problems)?,
        "condition" => condition(object()?, step, &mut problems),
        "listenerConditions" => {
            let object = object()?;
            let named = list(&step["listeners"]);
            for listener in list(&object["status"]["listeners"]) {
                if named.is_empty() || named.contains(&listener["name"]) {
                    conditions(
                        &listener["conditions"],
                        &step["conditions"],
                        text(&listener["name"]),
                        &mut problems,
                    );
                }
            }
            for name in named {
                if !list(&object["status"]["listeners"])
                    .iter()
                    .any(|it| it["name"] == *name)
                {
                    problems.push(format!("listener {name} has no status"));
                }
            }
        }
        "listenerStatus" => listener_status(object()?, list(&step["listeners"]), &mut problems),
        "observedGenerationCurrent" => {
            let object = object()?;
            let generation = &object["metadata"]["generation"];
            let all = all_conditions(&object["status"]);
            if all.is_empty() {
                problems.push("there are no conditions".to_owned());
            }
            let stale = all.iter().filter(|it| it["observedGeneration"] != *generation);
            problems.extend(stale.map(|it| format!("{it} is not of generation {generation}")));
        }
        "generationChanged" => {
            let (before, after) = cluster.generations;
            if (before != after) != (*step == true) {
                problems.push(format!("the generation was {before} and is {after}"));
            }
        }
        "zeroAttachedRoutes" => {
            for listener in list(&gateway()?["status"]["listeners"]) {
                if listener["attachedRoutes"].as_u64().unwrap_or_default() != 0 {
                    problems.push(format!(
                        "listener {} has {} routes",
                        listener["name"], listener["attachedRoutes"]
                    ));
                }
            }
        }
        "attachedListenerSets" => {
            let found = gateway()?["status"]["attachedListenerSets"]
                .as_u64()
                .unwrap_or_default();
            if Some(found) != step["count"].as_u64() {
                problems.push(format!(
                    "{found} sets of listeners are attached, expected {}",
                    step["count"]
                ));
            }
        }
        "noAcceptedParents" => {
            for parent in list(&object()?["status"]["parents"]) {
                let accepted = list(&parent["conditions"])
                    .iter()
                    .any(|it| it["type"] == "Accepted" && it["status"] == "True");
                if accepted {
                    problems.push(format!("{} accepted it", parent["parentRef"]));
                }
            }
        }
        "parents" => parents(object()?, step, &mut problems),
        "gatewayHasAddress" => has_address(gateway()?, &mut problems),
        "statusAddresses" => addresses(cluster, gateway()?, step, &mut problems)?,
        "infrastructurePropagated" => propagated(cluster, step, &mut problems)?,
        _ => return Ok(None),
    }
    Ok(Some(problems))
}

fn has_address(gateway: &Value, problems: &mut Vec<String>) {
    let has = list(&gateway["status"]["addresses"])
        .iter()
        .any(|address| !text(&address["value"]).is_empty());
    if !has {
        problems.push(format!(
            "the gateway has no address: {}",
            gateway["status"]["conditions"]
        ));
    }
}

/// Conditions that an object does not have.
fn conditions(found: &Value, wanted: &Value, of: &str, problems: &mut Vec<String>) {
    for wanted in list(wanted) {
        let fits = |key: &str, condition: &Value| {
            let value = text(&wanted[key]);
            value.is_empty() || condition[key] == wanted[key]
        };
        let found = list(found).iter().find(|it| it["type"] == wanted["type"]);
        match found {
            Some(condition) if fits("status", condition) && fits("reason", condition) => {}
            Some(condition) => problems.push(format!("{of}: {condition}, expected {wanted}")),
            None => problems.push(format!("{of}: there is no condition {}", wanted["type"])),
        }
    }
}

/// Whether a reference of a route or policy is to an object, whose kind is a Gateway unless it says otherwise.
fn names(reference: &Value, own: &str, kind: Option<&str>, wanted: &str) -> bool {
    let namespace = reference["namespace"].as_str().unwrap_or(own);
    let of = reference["kind"].as_str().unwrap_or("Gateway");
    kind.is_none_or(|kind| kind == of) && format!("{namespace}/{}", text(&reference["name"])) == wanted
}

fn condition(object: &Value, step: &Value, problems: &mut Vec<String>) {
    let own = text(&object["metadata"]["namespace"]);
    let (status, wanted) = (&object["status"], &step["conditions"]);
    let kind = step["parentKind"].as_str();
    let (of, entries, reference) = if let Some(parent) = step["parent"].as_str() {
        (parent, list(&status["parents"]), "parentRef")
    } else if let Some(ancestor) = step["ancestor"].as_str() {
        (ancestor, list(&status["ancestors"]), "ancestorRef")
    } else {
        return conditions(
            &status["conditions"],
            wanted,
            text(&object["metadata"]["name"]),
            problems,
        );
    };
    let entries: Vec<&Value> = entries
        .iter()
        .filter(|it| names(&it[reference], own, kind, of))
        .collect();
    if entries.is_empty() {
        problems.push(format!("there is no status for {of}: {status}"));
    }
    let judged: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            let mut problems = Vec::new();
            conditions(&entry["conditions"], wanted, of, &mut problems);
            problems
        })
        .collect();
    // One of several references to the parent will do.
    if !judged.iter().any(Vec::is_empty) {
        problems.extend(judged.into_iter().flatten());
    }
}

fn routes_accepted(cluster: &Cluster, step: &Value, problems: &mut Vec<String>) -> Result<()> {
    let kind = step["parentKind"].as_str().unwrap_or("Gateway");
    let named = step["parent"].as_str().or_else(|| step["gateway"].as_str());
    let named = named.context("the step names no parent")?;
    let parent = cluster.object(kind, named)?;
    if kind == "Gateway" {
        has_address(parent, problems);
    }
    let good = serde_json::json!(
        ["Accepted", "ResolvedRefs", "Programmed"].map(|kind| serde_json::json!({ "type": kind, "status": "True" }))
    );
    for listener in list(&parent["status"]["listeners"]) {
        conditions(&listener["conditions"], &good, text(&listener["name"]), problems);
    }
    let sections: Vec<&str> = list(&step["listeners"]).iter().map(text).collect();
    let accepted = serde_json::json!([{ "type": "Accepted", "status": "True", "reason": "Accepted" }]);
    for route in list(&step["routes"]) {
        let object = cluster.object(text(&step["routeKind"]), text(route))?;
        let own = text(&object["metadata"]["namespace"]);
        let of_parent: Vec<&Value> = list(&object["status"]["parents"])
            .iter()
            .filter(|it| names(&it["parentRef"], own, Some(kind), named))
            .collect();
        let wanted = if sections.is_empty() {
            vec![None]
        } else {
            sections.iter().copied().map(Some).collect()
        };
        for section in wanted {
            // The suite looks for the section first, and takes any reference to the parent that there is.
            let is_section = |it: &&&Value| it["parentRef"]["sectionName"].as_str() == section;
            let found = of_parent.iter().find(is_section).or_else(|| of_parent.first());
            match found {
                Some(entry) => conditions(&entry["conditions"], &accepted, text(route), problems),
                None => problems.push(format!(
                    "{route} has no status for {named} {section:?}: {}",
                    object["status"]
                )),
            }
        }
    }
    Ok(())
}

fn listener_status(object: &Value, wanted: &[Value], problems: &mut Vec<String>) {
    let found = list(&object["status"]["listeners"]);
    if found.len() != wanted.len() {
        problems.push(format!(
            "{} listeners have a status, expected {}",
            found.len(),
            wanted.len()
        ));
    }
    for wanted in wanted {
        let name = text(&wanted["name"]);
        let Some(listener) = found.iter().find(|it| it["name"] == wanted["name"]) else {
            problems.push(format!("listener {name} has no status"));
            continue;
        };
        let attached = listener["attachedRoutes"].as_u64().unwrap_or_default();
        if attached != wanted["attachedRoutes"].as_u64().unwrap_or_default() {
            problems.push(format!(
                "{name} has {attached} routes, expected {}",
                wanted["attachedRoutes"]
            ));
        }
        let group = |kind: &Value| kind["group"].as_str().unwrap_or("gateway.networking.k8s.io").to_owned();
        let (ours, kinds) = (list(&listener["supportedKinds"]), &wanted["supportedKinds"]);
        if kinds.as_array().is_some_and(Vec::is_empty) && !ours.is_empty() {
            problems.push(format!("{name} takes {ours:?}, expected nothing"));
        }
        for kind in list(kinds) {
            if !ours
                .iter()
                .any(|it| it["kind"] == kind["kind"] && group(it) == group(kind))
            {
                problems.push(format!("{name} does not take {kind}, but {ours:?}"));
            }
        }
        conditions(&listener["conditions"], &wanted["conditions"], name, problems);
    }
}

/// All conditions below a status.
fn all_conditions(status: &Value) -> Vec<&Value> {
    let mut all: Vec<&Value> = list(&status["conditions"]).iter().collect();
    for part in ["listeners", "parents", "ancestors"] {
        let parts = list(&status[part]).iter();
        all.extend(parts.flat_map(|part| list(&part["conditions"])));
    }
    all
}

fn parents(object: &Value, step: &Value, problems: &mut Vec<String>) {
    let own = text(&object["metadata"]["namespace"]);
    let (found, wanted) = (list(&object["status"]["parents"]), list(&step["parents"]));
    if found.len() != wanted.len() {
        problems.push(format!(
            "{} parents have a status, expected {}",
            found.len(),
            wanted.len()
        ));
    }
    for wanted in wanted {
        let (reference, controller) = (&wanted["parentRef"], text(&wanted["controllerName"]));
        let fits = |entry: &&Value| {
            let ours = &entry["parentRef"];
            let same = ["group", "kind", "name", "sectionName", "port"]
                .iter()
                .all(|key| reference[*key].is_null() || ours[*key] == reference[*key]);
            let namespace = ours["namespace"]
                .as_str()
                .or_else(|| (step["namespaceRequired"] != true).then_some(own));
            same && (reference["namespace"].is_null() || namespace == reference["namespace"].as_str())
        };
        match found.iter().find(fits) {
            Some(entry) => {
                let controller = controller.replace("{CONTROLLER_NAME}", CONTROLLER);
                if text(&entry["controllerName"]) != controller {
                    problems.push(format!(
                        "the controller is {}, expected {controller}",
                        entry["controllerName"]
                    ));
                }
                conditions(
                    &entry["conditions"],
                    &wanted["conditions"],
                    text(&reference["name"]),
                    problems,
                );
            }
            None => problems.push(format!("there is no status for {reference}: {}", object["status"])),
        }
    }
}

fn addresses(cluster: &Cluster, gateway: &Value, step: &Value, problems: &mut Vec<String>) -> Result<()> {
    let found = list(&gateway["status"]["addresses"]);
    if Some(found.len() as u64) != step["count"].as_u64().or(Some(found.len() as u64)) {
        problems.push(format!("there are {} addresses: {found:?}", found.len()));
    }
    if let Some(at) = step["equalsOriginalSpecAddressIndex"].as_u64() {
        let original = cluster.first(text(&step["gateway"]))?;
        let wanted = &original["spec"]["addresses"][usize::try_from(at)?];
        if !found.iter().any(|address| address["value"] == wanted["value"]) {
            problems.push(format!("the addresses are {found:?}, expected {wanted}"));
        }
    }
    Ok(())
}

/// Labels and annotations of a gateway's infrastructure that its workload does not have.
fn propagated(cluster: &Cluster, step: &Value, problems: &mut Vec<String>) -> Result<()> {
    let named = step["gateway"].as_str().unwrap_or_else(|| text(&step["name"]));
    let gateway = cluster.object("Gateway", named)?;
    let (namespace, name) = named.split_once('/').unwrap_or(("", named));
    let workload = format!("{name}-{CLASS}");
    for kind in ["ServiceAccount", "Deployment", "Service"] {
        let found = cluster.all.iter().find(|object| {
            object["kind"] == kind
                && object["metadata"]["namespace"] == namespace
                && object["metadata"]["name"] == workload.as_str()
        });
        let Some(found) = found else {
            problems.push(format!("there is no {kind} {workload}"));
            continue;
        };
        for field in ["labels", "annotations"] {
            for (key, value) in gateway["spec"]["infrastructure"][field]
                .as_object()
                .into_iter()
                .flatten()
            {
                if found["metadata"][field][key] != *value {
                    problems.push(format!("{kind} {workload} does not have {field} {key}={value}"));
                }
            }
        }
    }
    Ok(())
}
