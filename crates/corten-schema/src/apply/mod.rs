//! Server-side apply and field ownership (`metadata.managedFields`).
//!
//! Every writer owns the fields it set. An applier that stops naming a field gives it up, and a field that nobody owns
//! any more goes; setting a field to another value than its owner did is a conflict, unless forced. Managers of all
//! versions of a kind share one schema here: fields do not move between versions.

mod managers;
mod set;
mod shape;
#[cfg(test)]
mod tests;
mod typed;

use crate::go;
use crate::schema::Schema;
use managers::{Manager, Managers, Owned};
use serde_json::Value;
use set::Set;
use shape::Shape;
use std::collections::BTreeMap;
use std::fmt;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One field that another manager owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Who owns it.
    pub manager: String,
    /// The apiVersion the owner wrote it with; empty for owners that applied it.
    pub api_version: String,
    /// The subresource the owner wrote it through, empty for the object itself.
    pub subresource: String,
    /// The field, as `.spec.replicas`.
    pub field: String,
}

impl Conflict {
    fn owner(&self) -> String {
        let mut text = go::quote(&self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {}", go::quote(&self.subresource)));
        }
        if !self.api_version.is_empty() {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }

    /// `conflict with "kubectl-create" using apps/v1`: the message of a cause (`FieldManagerConflict`) in a `Status`.
    pub fn message(&self) -> String {
        format!("conflict with {}", self.owner())
    }
}

/// Why an apply was refused. `Display` is the message of the API server's `Status`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// Others own fields with other values (HTTP 409).
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// The applied object or the managed fields are malformed (HTTP 400).
    #[error("{0}")]
    Malformed(String),
    /// The applied object does not fit its schema (HTTP 500, as the API server answers this).
    #[error("failed to create typed patch object ({object}): {problem}")]
    Untyped {
        /// `namespace/name; group/version, Kind=kind`.
        object: String,
        /// The field and what is wrong with it.
        problem: String,
    },
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: {}: {}", only.message(), only.field);
    }
    let mut by_owner: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for conflict in conflicts {
        by_owner.entry(conflict.owner()).or_default().push(&conflict.field);
    }
    let mut lines = Vec::new();
    for (owner, fields) in by_owner {
        lines.push(format!("conflicts with {owner}:"));
        lines.extend(fields.into_iter().map(|field| format!("- {field}")));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// The live object after `manager` applied `applied`, with the new `managedFields`.
///
/// `live` is the stored object, none if there is none yet. `now` is the time in RFC 3339, with seconds. The caller
/// leaves out of `applied` what the endpoint ignores (`status`, or all but it), and completes, validates and stores the
/// result. A result that equals `live` means that nothing changed.
pub fn apply(
    schema: &Schema,
    live: Option<&Value>,
    applied: &Value,
    manager: &str,
    subresource: &str,
    force: bool,
    now: &str,
) -> Result<Value, ApplyError> {
    let upgrade = || lets_kubectl_upgrade(schema, live, applied, manager);
    let result = match apply_once(schema, live, applied, manager, subresource, force, now) {
        Err(ApplyError::Conflicts(conflicts)) => match upgrade() {
            Some(allowed) => {
                let rest: Vec<Conflict> = conflicts
                    .into_iter()
                    .filter(|conflict| !allowed.contains(&conflict.field))
                    .collect();
                if !rest.is_empty() {
                    return Err(ApplyError::Conflicts(rest));
                }
                apply_once(schema, live, applied, manager, subresource, true, now)
            }
            None => Err(ApplyError::Conflicts(conflicts)),
        },
        result => result,
    };
    let mut object = result?;
    if manager == "kubectl" {
        renew_last_applied(&mut object, applied);
    }
    Ok(object)
}

fn apply_once(
    schema: &Schema,
    live: Option<&Value>,
    applied: &Value,
    manager: &str,
    subresource: &str,
    force: bool,
    now: &str,
) -> Result<Value, ApplyError> {
    if applied
        .pointer("/metadata/managedFields")
        .is_some_and(|fields| !fields.is_null())
    {
        return Err(ApplyError::Malformed("metadata.managedFields must be nil".to_owned()));
    }
    // What is applied is owned under its version; an entry without one could never be read again.
    if applied
        .get("apiVersion")
        .and_then(Value::as_str)
        .is_none_or(str::is_empty)
    {
        return Err(ApplyError::Malformed("apiVersion must not be empty".to_owned()));
    }
    let shape = Shape::root(schema);
    if let Some(problem) = typed::problem(shape, applied, "") {
        return Err(ApplyError::Untyped {
            object: describe(applied),
            problem,
        });
    }
    let api_version = text(applied, "/apiVersion");
    let mut managers = read_or_start(shape, live, api_version, now)?;
    let mut base = live.cloned().unwrap_or_else(|| shape.skeleton());
    managers::remove(&mut base);

    let merged = typed::merge(shape, &base, applied);
    let identity = Manager::new(manager, "Apply", api_version, subresource);
    let before = managers.get(&identity).cloned();
    let set = owned_part(typed::fields_of(shape, applied));
    let time = before.as_ref().and_then(|owned| owned.time.clone());
    managers.insert(
        identity.clone(),
        Owned {
            set,
            api_version: api_version.to_owned(),
            time,
        },
    );

    let mut object = prune(
        shape,
        merged,
        &managers,
        before.map(|owned| owned.set).unwrap_or_default(),
    );
    let comparison = typed::compare(shape, &base, &object);
    take_over(&mut managers, &identity, &comparison, force).map_err(ApplyError::Conflicts)?;
    if let Some(owned) = managers.get_mut(&identity)
        && (live.is_none() || object != base)
    {
        owned.time = Some(now.to_owned());
    }
    managers::write(&mut object, &managers);
    Ok(object)
}

/// Records in `new`'s `managedFields` what a create, update or patch by `manager` changed since `old`.
///
/// `operation` is `Update`, or `Apply` for a write that belongs to an applier. `new` carries the managed fields that the
/// client sent: absent means unchanged, an empty list means to forget all owners (`kubectl`'s way to reset them).
/// Call this before fields are set that belong to nobody (uid, generation, status of a new object).
pub fn track(
    schema: &Schema,
    old: Option<&Value>,
    new: &mut Value,
    manager: &str,
    operation: &str,
    subresource: &str,
    now: &str,
) {
    let shape = Shape::root(schema);
    let sent = new.pointer("/metadata/managedFields").and_then(Value::as_array);
    let reset = old.is_some()
        && sent.is_some_and(|entries| match entries.as_slice() {
            [] => true,
            [only] => only.as_object().is_some_and(serde_json::Map::is_empty),
            _ => false,
        });
    if reset {
        managers::remove(new);
        return;
    }
    // Managed fields that cannot be read count as not sent: ownership is not worth refusing a write.
    let mut managers = match (sent.map(|_| managers::read(new)), old) {
        (Some(Ok(managers)), _) if !managers.is_empty() => managers,
        (_, Some(old)) => managers::read(old).unwrap_or_default(),
        (_, None) => Managers::new(),
    };
    managers::remove(new);
    let mut base = old.cloned().unwrap_or_else(|| shape.skeleton());
    managers::remove(&mut base);

    let api_version = text(new, "/apiVersion").to_owned();
    let comparison = typed::compare(shape, &base, new);
    let identity = Manager::new(manager, operation, &api_version, subresource);
    // The writer is treated like everybody else, so that what it changed counts as changed now.
    let nobody = Manager::new("", "", "", "");
    if take_over(&mut managers, &nobody, &comparison, true).is_err() {
        return;
    }
    let changed = owned_part(comparison.modified.union(&comparison.added));
    if !changed.is_empty() {
        let owned = managers.entry(identity).or_default();
        owned.set = std::mem::take(&mut owned.set).union(&changed);
        owned.api_version = api_version;
        owned.time = Some(now.to_owned());
    }
    managers::cap(&mut managers);
    managers::write(new, &managers);
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn describe(object: &Value) -> String {
    let (namespace, name) = (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
    format!(
        "{namespace}/{name}; {}, Kind={}",
        text(object, "/apiVersion"),
        text(object, "/kind")
    )
}

/// The managers of the live object. Where nobody was recorded, everything belongs to a manager of the time before.
fn read_or_start(shape: Shape<'_>, live: Option<&Value>, api_version: &str, now: &str) -> Result<Managers, ApplyError> {
    let Some(live) = live else { return Ok(Managers::new()) };
    let mut managers = managers::read(live).map_err(ApplyError::Malformed)?;
    if managers.is_empty() {
        let comparison = typed::compare(shape, &shape.skeleton(), live);
        let set = owned_part(comparison.added.union(&comparison.modified));
        if !set.is_empty() {
            let manager = Manager::new("before-first-apply", "Update", api_version, "");
            managers.insert(
                manager,
                Owned {
                    set,
                    api_version: api_version.to_owned(),
                    time: Some(now.to_owned()),
                },
            );
        }
    }
    Ok(managers)
}

/// The set without the fields that belong to the API server.
fn owned_part(set: Set) -> Set {
    let mut system = Set::default();
    for name in ["apiVersion", "kind", "metadata"] {
        system.insert(&[format!("f:{name}")]);
    }
    let metadata = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    for name in metadata {
        system.insert(&["f:metadata".to_owned(), format!("f:{name}")]);
    }
    set.difference(&system)
}

/// Takes changed and removed fields from the other managers; conflicts if that is not forced.
fn take_over(
    managers: &mut Managers,
    writer: &Manager,
    comparison: &typed::Comparison,
    force: bool,
) -> Result<(), Vec<Conflict>> {
    let changed = comparison.modified.clone().union(&comparison.added);
    let mut conflicts = Vec::new();
    for (manager, owned) in managers.iter_mut().filter(|(manager, _)| *manager != writer) {
        let lost = owned.set.intersection(&changed);
        conflicts.extend(lost.paths().into_iter().map(|field| Conflict {
            manager: manager.name.clone(),
            api_version: manager.api_version.clone(),
            subresource: manager.subresource.clone(),
            field,
        }));
        if force {
            owned.set = owned.set.difference(&lost).difference(&comparison.removed);
        }
    }
    if !force && !conflicts.is_empty() {
        return Err(conflicts);
    }
    for (_, owned) in managers.iter_mut().filter(|(manager, _)| *manager != writer) {
        owned.set = owned.set.difference(&comparison.removed);
    }
    managers.retain(|_, owned| !owned.set.is_empty());
    Ok(())
}

/// Removes what the applier named last time and does not any more, unless others own it too.
fn prune(shape: Shape<'_>, merged: Value, managers: &Managers, last: Set) -> Value {
    if last.is_empty() {
        return merged;
    }
    let named = |set: &Set| set.with_named_fields(shape);
    let fields = |value: &Value| typed::fields_of(shape, value);
    let without = |remove: &Set| typed::without(shape, &merged, remove).unwrap_or_default();

    let all = named(&fields(&merged));
    let last = named(&last);
    let pruned = without(&last);
    let managed = managers
        .values()
        .fold(Set::default(), |all, owned| all.union(&owned.set));
    let pruned = without(&all.difference(&named(&fields(&pruned)).union(&named(&managed))));
    without(&all.difference(&named(&fields(&pruned))).intersection(&last))
}

/// The fields whose conflicts do not count when `kubectl` turns from client-side to server-side apply: those that its
/// annotation says it applied, as long as they still have that value.
fn lets_kubectl_upgrade(schema: &Schema, live: Option<&Value>, applied: &Value, manager: &str) -> Option<Vec<String>> {
    let live = live.filter(|_| manager == "kubectl")?;
    let annotation = live.pointer("/metadata/annotations")?.get(LAST_APPLIED)?.as_str()?;
    let last: Value = serde_json::from_str(annotation).ok()?;
    if text(&last, "/apiVersion") != text(applied, "/apiVersion") {
        return None;
    }
    let shape = Shape::root(schema);
    let comparison = typed::compare(shape, &last, live);
    let changed = comparison.modified.union(&comparison.added).union(&comparison.removed);
    Some(typed::fields_of(shape, &last).difference(&changed).paths())
}

/// Keeps the annotation of client-side apply true, for a `kubectl` that turns back.
fn renew_last_applied(object: &mut Value, applied: &Value) {
    let annotations = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut);
    let Some(annotation) = annotations.and_then(|annotations| annotations.get_mut(LAST_APPLIED)) else {
        return;
    };
    let mut applied = applied.clone();
    if let Some(Value::Object(metadata)) = applied.get_mut("metadata") {
        metadata.remove("managedFields");
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.remove(LAST_APPLIED);
        }
    }
    *annotation = Value::String(format!("{}\n", go::json(&applied)));
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.message(), self.field)
    }
}
