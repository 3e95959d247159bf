//! `metadata.managedFields`: who owns which fields, read and written.

use super::set::Set;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// More managers that did not apply are folded into one of this name.
const ANCIENT: &str = "ancient-changes";
const UPDATERS_MAX: usize = 10;

/// Who owns fields. An applier is the same one whatever version it applies with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Manager {
    pub(super) name: String,
    pub(super) operation: String,
    pub(super) api_version: String,
    pub(super) subresource: String,
}

impl Manager {
    pub(super) fn new(name: &str, operation: &str, api_version: &str, subresource: &str) -> Manager {
        let name = if name.is_empty() { "unknown" } else { name };
        let api_version = if operation == "Apply" { "" } else { api_version };
        Manager {
            name: name.to_owned(),
            operation: operation.to_owned(),
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
        }
    }
}

/// What a manager owns.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Owned {
    pub(super) set: Set,
    pub(super) api_version: String,
    pub(super) time: Option<String>,
}

/// All managers of an object.
pub(super) type Managers = BTreeMap<Manager, Owned>;

/// Reads the managed fields of an object.
pub(super) fn read(object: &Value) -> Result<Managers, String> {
    let mut managers = Managers::new();
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    for (index, entry) in entries.into_iter().flatten().enumerate() {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        if !matches!(text("operation"), "Apply" | "Update") {
            return Err("operation must be `Apply` or `Update`".to_owned());
        }
        if text("apiVersion").is_empty() {
            return Err("apiVersion must not be empty".to_owned());
        }
        match text("fieldsType") {
            "FieldsV1" => {}
            "" => return Err(format!("missing fieldsType in managed fields entry {index}")),
            other => return Err(format!("invalid fieldsType {other:?} in managed fields entry {index}")),
        }
        let set = Set::from_fields(entry.get("fieldsV1").unwrap_or(&Value::Null))?;
        let manager = Manager::new(
            text("manager"),
            text("operation"),
            text("apiVersion"),
            text("subresource"),
        );
        let time = entry.get("time").and_then(Value::as_str).map(str::to_owned);
        managers.insert(
            manager,
            Owned {
                set,
                api_version: text("apiVersion").to_owned(),
                time,
            },
        );
    }
    Ok(managers)
}

/// Removes the managed fields of an object.
pub(super) fn remove(object: &mut Value) {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.remove("managedFields");
    }
}

/// Writes the managed fields of an object, appliers first, then by time.
pub(super) fn write(object: &mut Value, managers: &Managers) {
    remove(object);
    let mut entries: Vec<(&Manager, &Owned)> = managers.iter().filter(|(_, owned)| !owned.set.is_empty()).collect();
    if entries.is_empty() {
        return;
    }
    entries.sort_by_key(|(manager, owned)| {
        (
            &manager.operation,
            &owned.time,
            &manager.name,
            &owned.api_version,
            &manager.subresource,
        )
    });
    let entries: Vec<Value> = entries
        .into_iter()
        .map(|(manager, owned)| entry(manager, owned))
        .collect();
    let Value::Object(object) = object else { return };
    let metadata = object.entry("metadata").or_insert_with(|| json!({}));
    if let Value::Object(metadata) = metadata {
        metadata.insert("managedFields".to_owned(), entries.into());
    }
}

fn entry(manager: &Manager, owned: &Owned) -> Value {
    let mut entry = Map::new();
    let mut put = |key: &str, value: &str| {
        if !value.is_empty() {
            entry.insert(key.to_owned(), value.into());
        }
    };
    put("manager", &manager.name);
    put("operation", &manager.operation);
    put("apiVersion", &owned.api_version);
    put("time", owned.time.as_deref().unwrap_or_default());
    put("fieldsType", "FieldsV1");
    put("subresource", &manager.subresource);
    entry.insert("fieldsV1".to_owned(), owned.set.to_fields());
    Value::Object(entry)
}

/// Folds the oldest managers that did not apply into one per version, so that the list cannot grow without bound.
pub(super) fn cap(managers: &mut Managers) {
    let mut updaters: Vec<Manager> = managers
        .keys()
        .filter(|manager| manager.operation == "Update")
        .cloned()
        .collect();
    let mut count = updaters.len();
    updaters.sort_by_cached_key(|manager| {
        (
            managers.get(manager).and_then(|owned| owned.time.clone()),
            manager.clone(),
        )
    });
    let mut first: BTreeMap<String, Manager> = BTreeMap::new();
    for manager in updaters {
        if count <= UPDATERS_MAX {
            return;
        }
        let Some(owned) = managers.get(&manager).cloned() else {
            continue;
        };
        let Some(bucket_first) = first.get(&owned.api_version) else {
            first.insert(owned.api_version.clone(), manager);
            continue;
        };
        let bucket = Manager::new(ANCIENT, "Update", &owned.api_version, "");
        if !managers.contains_key(&bucket)
            && let Some(oldest) = managers.remove(bucket_first)
        {
            managers.insert(bucket.clone(), oldest);
        }
        if manager != bucket {
            managers.remove(&manager);
            let folded = managers.entry(bucket).or_default();
            folded.set = std::mem::take(&mut folded.set).union(&owned.set);
            folded.time = owned.time;
            count -= 1;
        }
    }
}
