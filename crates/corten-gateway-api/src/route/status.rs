//! A route's status: one entry for each reference to a parent, however many listeners that parent has.

use std::collections::BTreeMap;

use corten_api::gateway_api::shared::RouteParentStatus;

use super::{
    Route,
    parent::{Attempt, Denial},
};
use crate::{
    class::GATEWAY_CONTROLLER,
    condition::{Conditions, Problem},
    index::Index,
    reference::parent_text,
};

/// What is told of a reference: the best of its attempts.
struct Told<'a> {
    best: &'a Attempt,
    denied: Option<(Denial, String)>,
    successes: usize,
}

/// The status of a route's parents: those of other controllers stay, ours keep their places, and new ones follow.
pub(crate) fn parents(
    index: &Index<'_>,
    route: Route<'_>,
    attempts: &[Attempt],
    problem_of: impl Fn(&Attempt) -> Option<Problem>,
) -> Vec<RouteParentStatus> {
    let namespace = &route.meta.namespace;
    let ours = |status: &RouteParentStatus| status.controller_name == GATEWAY_CONTROLLER;
    let mut fresh: BTreeMap<usize, RouteParentStatus> = BTreeMap::new();
    for (position, told) in tell(attempts) {
        let conditions = conditions(index, &told, problem_of(told.best));
        let text = parent_text(&told.best.reference, namespace);
        let existing = route
            .status
            .iter()
            .find(|status| ours(status) && parent_text(&status.parent_ref, namespace) == text);
        let existing = existing.map_or(&[][..], |status| &status.conditions);
        let status = RouteParentStatus {
            conditions: conditions.over(existing, route.meta.generation, index.now),
            controller_name: GATEWAY_CONTROLLER.to_owned(),
            parent_ref: told.best.reference.clone(),
        };
        fresh.insert(position, status);
    }
    let mut written = Vec::new();
    for status in route.status {
        if !ours(status) {
            written.push(status.clone());
            continue;
        }
        let text = parent_text(&status.parent_ref, namespace);
        let position = fresh
            .iter()
            .find(|(_, fresh)| parent_text(&fresh.parent_ref, namespace) == text)
            .map(|(position, _)| *position);
        written.extend(position.and_then(|position| fresh.remove(&position)));
    }
    let mut rest: Vec<RouteParentStatus> = fresh.into_values().collect();
    rest.sort_by_cached_key(|status| std::cmp::Reverse(parent_text(&status.parent_ref, namespace)));
    written.extend(rest);
    written
}

/// Collapses attempts by reference: a success is told before a failure, and equal failures together.
fn tell(attempts: &[Attempt]) -> BTreeMap<usize, Told<'_>> {
    let mut told: BTreeMap<usize, Told<'_>> = BTreeMap::new();
    for attempt in attempts {
        let Some(entry) = told.get_mut(&attempt.position) else {
            let entry = Told {
                best: attempt,
                denied: attempt.denied.clone(),
                successes: usize::from(attempt.denied.is_none()),
            };
            told.insert(attempt.position, entry);
            continue;
        };
        entry.successes += usize::from(attempt.denied.is_none());
        match (&mut entry.denied, &attempt.denied) {
            (Some((_, known)), Some((_, more))) if rank(&entry.best.denied) == rank(&attempt.denied) => {
                known.push_str("; ");
                known.push_str(more);
            }
            _ if rank(&attempt.denied) < rank(&entry.best.denied) => {
                entry.best = attempt;
                entry.denied.clone_from(&attempt.denied);
            }
            _ => {}
        }
    }
    told
}

/// `None` sorts before every denial.
fn rank(denied: &Option<(Denial, String)>) -> Option<Denial> {
    denied.as_ref().map(|(denial, _)| *denial)
}

fn conditions(index: &Index<'_>, told: &Told<'_>, problem: Option<Problem>) -> Conditions {
    let valid = match told.successes {
        0 | 1 => "Route was valid".to_owned(),
        several => format!("Route was valid, bound to {several} parents"),
    };
    let mut conditions = Conditions::default().good("Accepted", "Accepted", valid).good(
        "ResolvedRefs",
        "ResolvedRefs",
        "All references resolved",
    );
    if let Some(problem) = problem {
        // There is no condition for rules that are wrong in themselves.
        conditions.fail("ResolvedRefs", problem);
    }
    if let Some((denial, message)) = &told.denied {
        conditions.fail("Accepted", Problem::new(denial.reason(), message.clone()));
    }
    if index.settings.ambient {
        let message = match told.best.no_waypoint {
            Some(missing) if told.best.is_mesh() => missing,
            _ => "All waypoints resolved",
        };
        conditions = conditions.good("ResolvedWaypoints", "ResolvedWaypoints", message);
    }
    conditions
}
