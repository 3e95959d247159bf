//! Changes put together, and told to people.

use std::collections::{BTreeMap, BTreeSet};

use super::fate::Fate;
use super::witness::Witness;
use super::{Call, Caller, Change, Planned};

/// How many requests are named of those that change in the same way.
const REQUESTS_MAX: usize = 6;

/// Changes of calls as changes of many: the same request of several callers.
pub(super) fn grouped(changed: Vec<(Call, Fate, Fate)>, everybody: &BTreeMap<Caller, String>) -> Vec<Change> {
    type What = (String, u16, Fate, Fate, Witness);
    let mut groups: BTreeMap<What, Vec<Call>> = BTreeMap::new();
    for (call, before, after) in changed {
        let what = (call.host.clone(), call.port, before, after, call.request.clone());
        groups.entry(what).or_default().push(call);
    }
    let changes = groups
        .into_iter()
        .filter_map(|((host, port, before, after, request), calls)| {
            let callers: BTreeSet<Caller> = calls.iter().map(|call| call.caller.clone()).collect();
            Some(Change {
                host,
                port,
                call: calls.into_iter().next()?,
                callers: named(&callers, everybody),
                requests: vec![request.to_string()],
                before,
                after,
                because: Vec::new(),
                together: false,
            })
        });
    changes.collect()
}

/// Changes that differ in nothing but the request as one.
pub(super) fn merged(changes: Vec<Change>) -> Vec<Change> {
    let mut merged: Vec<Change> = Vec::new();
    for change in changes {
        let same = |other: &&mut Change| {
            (&change.host, change.port, &change.callers) == (&other.host, other.port, &other.callers)
                && (&change.before, &change.after) == (&other.before, &other.after)
                && (&change.because, change.together) == (&other.because, other.together)
        };
        match merged.iter_mut().find(same) {
            Some(other) => other.requests.extend(change.requests),
            None => merged.push(change),
        }
    }
    merged
}

/// Callers in words.
fn named(callers: &BTreeSet<Caller>, everybody: &BTreeMap<Caller, String>) -> Vec<String> {
    if everybody.keys().all(|caller| callers.contains(caller)) {
        return vec!["all".to_owned()];
    }
    let mut words = Vec::new();
    let namespaces: BTreeSet<&String> = callers.iter().map(|(namespace, ..)| namespace).collect();
    for namespace in namespaces {
        let mut of = everybody.iter().filter(|((of, ..), _)| of == namespace);
        let count = of.clone().count();
        if count > 1 && of.all(|(caller, _)| callers.contains(caller)) {
            words.push(format!("all of namespace {namespace}"));
        } else {
            let some = callers.iter().filter(|(of, ..)| of == namespace);
            words.extend(some.filter_map(|caller| everybody.get(caller).cloned()));
        }
    }
    words.sort();
    words.dedup();
    words
}

/// All of it for people.
pub(super) fn text(planned: &Planned) -> String {
    let mut out = String::new();
    if planned.differences.is_empty() {
        return "The configurations are the same.\n".to_owned();
    }
    out.push_str("Objects that differ:\n");
    for difference in &planned.differences {
        out.push_str(&format!("  {difference}\n"));
    }
    for change in &planned.changes {
        out.push_str(&format!("\n{}:{}\n", change.host, change.port));
        let mut line = |label: &str, text: &str| out.push_str(&format!("  {label:<10}  {text}\n"));
        line("callers", &change.callers.join(", "));
        let shown = change.requests.len().min(REQUESTS_MAX);
        for (at, request) in change.requests[..shown].iter().enumerate() {
            line(if at == 0 { "requests" } else { "" }, request);
        }
        if shown < change.requests.len() {
            line("", &format!("and {} more", change.requests.len() - shown));
        }
        if change.before.ends != change.after.ends {
            line("before", &change.before.ends.join("; "));
            line("after", &change.after.ends.join("; "));
        } else {
            line("still", &change.after.ends.join("; "));
        }
        let how = |one: &Fate, other: &Fate| -> Vec<String> {
            // What is not sent at all on one side is not sent otherwise.
            let both = !one.how.is_empty() && !other.how.is_empty();
            one.how
                .iter()
                .filter(|it| both && !other.how.contains(it))
                .cloned()
                .collect()
        };
        let (no_longer, now) = (how(&change.before, &change.after), how(&change.after, &change.before));
        if !no_longer.is_empty() {
            line("no longer", &no_longer.join("; "));
        }
        if !now.is_empty() {
            line("now", &now.join("; "));
        }
        let because = match change.because.is_empty() {
            true => "several together; none of them alone makes it, or takes it back".to_owned(),
            false => change.because.join(if change.together { " and " } else { ", " }),
        };
        line("because of", &because);
    }
    out.push('\n');
    let tried = planned.tried;
    out.push_str(&match planned.changed {
        0 => format!("None of {tried} calls that were tried ends otherwise.\n"),
        changed => format!("{changed} of {tried} calls end otherwise.\n"),
    });
    if !planned.without_effect.is_empty() {
        out.push_str("Without effect on any call that was tried:\n");
        for difference in &planned.without_effect {
            out.push_str(&format!("  {difference}\n"));
        }
    }
    for note in &planned.notes {
        out.push_str(&format!("note: {note}\n"));
    }
    out
}
