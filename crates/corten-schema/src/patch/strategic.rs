//! Strategic merge patch: a merge patch that knows which lists merge by key, plus directives that say what to replace,
//! delete, keep, and in which order. `kubectl apply` and `kubectl edit` send these for built-in kinds.

use super::PatchError;
use crate::go;
use crate::schema::Schema;
use serde_json::{Map, Value};

type Fields = Map<String, Value>;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

/// The object with the patch merged into it as the schema's patch strategies and merge keys say.
pub fn strategic(schema: &Schema, object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Object(patch) = patch else {
        return Err(PatchError::Malformed(
            "a strategic merge patch must be an object".to_owned(),
        ));
    };
    let original = object.as_object().cloned().unwrap_or_default();
    merge_fields(Some(schema), original, patch.clone()).map(Value::Object)
}

/// What a schema says about merging one field.
#[derive(Clone, Copy)]
struct Meta<'a> {
    /// The items of a list, or the field itself.
    schema: Option<&'a Schema>,
    merge: bool,
    replace: bool,
    key: Option<&'a str>,
}

impl<'a> Meta<'a> {
    fn of(schema: Option<&'a Schema>, name: &str) -> Meta<'a> {
        let Some(field) = schema.and_then(|schema| schema.field(name)) else {
            return Meta {
                schema: None,
                merge: false,
                replace: false,
                key: None,
            };
        };
        let has = |strategy: &str| {
            field
                .patch_strategy
                .as_deref()
                .is_some_and(|all| all.split(',').any(|part| part.trim() == strategy))
        };
        Meta {
            schema: Some(field.items.as_deref().unwrap_or(field)),
            merge: has("merge"),
            replace: has("replace"),
            key: field.patch_merge_key.as_deref(),
        }
    }
}

fn malformed<T>(text: impl Into<String>) -> Result<T, PatchError> {
    Err(PatchError::Malformed(text.into()))
}

fn unknown_directive<T>(map: &Value) -> Result<T, PatchError> {
    let directive = map.get(PATCH).map(go::plain).unwrap_or_default();
    malformed(format!("unknown patch type: {directive} in map: {}", go::plain(map)))
}

fn merge_fields(schema: Option<&Schema>, mut original: Fields, mut patch: Fields) -> Result<Fields, PatchError> {
    match patch.get(PATCH).map(Value::as_str) {
        None => {}
        Some(Some("replace")) => {
            patch.remove(PATCH);
            return Ok(patch);
        }
        Some(Some("delete")) => return Ok(Fields::new()),
        Some(_) => return unknown_directive(&Value::Object(patch)),
    }
    retain_keys(&mut original, &mut patch)?;
    ordered_lists(schema, &mut original, &mut patch)?;
    for (key, value) in patch {
        merge_field(schema, &mut original, key, value)?;
    }
    Ok(original)
}

fn merge_field(schema: Option<&Schema>, original: &mut Fields, key: String, value: Value) -> Result<(), PatchError> {
    if let Some(list) = key.strip_prefix(DELETE_PRIMITIVES) {
        if let (Some(Value::Array(items)), Value::Array(deleted)) = (original.get_mut(list), &value) {
            items.retain(|item| !deleted.contains(item));
        }
        return Ok(());
    }
    if value.is_null() {
        original.remove(&key);
        return Ok(());
    }
    let meta = Meta::of(schema, &key);
    let merged = match (original.remove(&key), value) {
        (Some(Value::Object(fields)), Value::Object(patch)) if !meta.replace => {
            Some(Value::Object(merge_fields(meta.schema, fields, patch)?))
        }
        (Some(Value::Array(items)), Value::Array(patch)) if meta.merge => {
            Some(Value::Array(merge_list(meta, items, patch)?))
        }
        // A list or object that is replaced is taken as it is; anything new is taken without nulls and directives.
        (Some(Value::Object(_)), value @ Value::Object(_)) | (Some(Value::Array(_)), value @ Value::Array(_)) => {
            Some(value)
        }
        (_, value) => without_directives(without_nulls(value)),
    };
    if let Some(merged) = merged {
        original.insert(key, merged);
    }
    Ok(())
}

/// `$retainKeys` lists all keys that stay; the patch may not set others.
fn retain_keys(original: &mut Fields, patch: &mut Fields) -> Result<(), PatchError> {
    let Some(keep) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let Value::Array(keep) = keep else {
        return malformed("invalid patch format of retainKeys");
    };
    let kept = |key: &str| keep.iter().any(|kept| kept.as_str() == Some(key));
    let sets = |(key, value): (&String, &Value)| {
        !value.is_null() && !key.starts_with(DELETE_PRIMITIVES) && !key.starts_with(ELEMENT_ORDER)
    };
    if patch.iter().any(|(key, value)| sets((key, value)) && !kept(key)) {
        return malformed("invalid patch format of retainKeys");
    }
    original.retain(|key, _| kept(key));
    Ok(())
}

/// Merges the lists that have a `$setElementOrder/` directive and puts them into that order.
fn ordered_lists(schema: Option<&Schema>, original: &mut Fields, patch: &mut Fields) -> Result<(), PatchError> {
    let directives: Vec<String> = patch
        .keys()
        .filter(|key| key.starts_with(ELEMENT_ORDER))
        .cloned()
        .collect();
    for directive in directives {
        let name = directive.trim_start_matches(ELEMENT_ORDER).to_owned();
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return malformed(format!("{directive} must be a list"));
        };
        let meta = Meta::of(schema, &name);
        let before = match original.get(&name) {
            None => None,
            Some(Value::Array(items)) => Some(items.clone()),
            Some(other) => return malformed(format!("{name} must be a list to be ordered, but is {other}")),
        };
        let patched = match patch.get(&name) {
            None | Some(Value::Null) => None,
            Some(Value::Array(items)) => Some(items.clone()),
            Some(other) => return malformed(format!("{name} must be a list to be ordered, but is {other}")),
        };
        if patch.get(&name).is_some_and(Value::is_null) {
            continue;
        }
        check_order(meta, patched.as_deref().unwrap_or_default(), &order)?;
        let merged = match (&before, patched) {
            (None, None) => continue,
            (Some(before), None) => before.clone(),
            (None, Some(patched)) => match without_directives(Value::Array(patched)) {
                Some(Value::Array(items)) => items,
                _ => continue,
            },
            (Some(before), Some(patched)) if meta.merge => merge_list(meta, before.clone(), patched)?,
            (Some(_), Some(patched)) => patched,
        };
        let merged = in_order(meta.key, merged, &order, before.as_deref().unwrap_or_default())?;
        original.insert(name.clone(), Value::Array(merged));
        patch.remove(&name);
    }
    Ok(())
}

/// The items of the patch must come in the order that the directive gives.
fn check_order(meta: Meta<'_>, patched: &[Value], order: &[Value]) -> Result<(), PatchError> {
    if order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in patched.iter().filter(|item| item.get(PATCH).is_none()) {
        let identity = identity(meta.key, item)?;
        if !rest.any(|ordered| self::identity(meta.key, ordered).is_ok_and(|ordered| ordered == identity)) {
            let (patched, order) = (go::plain(&Value::from(patched)), go::plain(&Value::from(order)));
            return malformed(format!(
                "The order in patch list:\n{patched}\n doesn't match $setElementOrder list:\n{order}\n"
            ));
        }
    }
    Ok(())
}

/// What tells an item from others: its merge key's value, or the item itself where there is none.
fn identity<'a>(key: Option<&str>, item: &'a Value) -> Result<&'a Value, PatchError> {
    match key {
        None => Ok(item),
        Some(key) => match item.get(key) {
            Some(value) => Ok(value),
            None => malformed(format!(
                "map: {} does not contain declared merge key: {key}",
                go::plain(item)
            )),
        },
    }
}

fn merge_list(meta: Meta<'_>, original: Vec<Value>, patch: Vec<Value>) -> Result<Vec<Value>, PatchError> {
    let Some(first) = original.first().or_else(|| patch.first()) else {
        return Ok(original);
    };
    let objects = first.is_object();
    if let Some(odd) = original.iter().chain(&patch).find(|item| item.is_object() != objects) {
        return malformed(format!("list element types are not identical: {odd}"));
    }
    if !objects {
        let mut merged: Vec<Value> = Vec::with_capacity(original.len() + patch.len());
        for item in original.iter().chain(&patch) {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return in_order(None, merged, &patch, &original);
    }
    let Some(key) = meta.key else {
        return malformed("cannot merge lists without merge key");
    };
    let (before, patch) = apply_item_directives(key, original, patch)?;
    let mut merged = before.clone();
    for item in &patch {
        let identity = identity(Some(key), item)?;
        let Value::Object(fields) = item else { continue };
        match merged.iter_mut().find(|candidate| candidate.get(key) == Some(identity)) {
            Some(Value::Object(found)) => {
                *found = merge_fields(meta.schema, std::mem::take(found), fields.clone())?;
            }
            _ => merged.push(item.clone()),
        }
    }
    in_order(Some(key), merged, &patch, &before)
}

/// Takes the items with `$patch` out of the patch and does what they say.
fn apply_item_directives(
    key: &str,
    mut original: Vec<Value>,
    patch: Vec<Value>,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut replace = false;
    for item in patch {
        match item.get(PATCH) {
            None => plain.push(item),
            Some(Value::String(directive)) if directive == "delete" => {
                let identity = identity(Some(key), &item)?;
                original.retain(|candidate| candidate.get(key) != Some(identity));
            }
            Some(Value::String(directive)) if directive == "replace" => replace = true,
            Some(Value::String(directive)) if directive == "merge" => {
                return malformed("merging lists cannot yet be specified in the patch");
            }
            Some(_) => return unknown_directive(&item),
        }
    }
    if replace {
        Ok((plain, Vec::new()))
    } else {
        Ok((original, plain))
    }
}

/// Items named in `order` come in that order; the others keep their order of `before`, each before the first ordered
/// item that it preceded there.
fn in_order(
    key: Option<&str>,
    merged: Vec<Value>,
    order: &[Value],
    before: &[Value],
) -> Result<Vec<Value>, PatchError> {
    let position = |list: &[Value], item: &Value| -> Option<usize> {
        let wanted = identity(key, item).ok()?;
        list.iter()
            .position(|candidate| identity(key, candidate).is_ok_and(|found| found == wanted))
    };
    for item in &merged {
        identity(key, item)?;
    }
    let (mut ours, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| position(order, item).is_some());
    ours.sort_by_key(|item| position(order, item));
    others.sort_by_key(|item| position(before, item).unwrap_or(usize::MAX));

    let mut sorted = Vec::with_capacity(ours.len() + others.len());
    let mut others = others.into_iter().peekable();
    let mut ours = ours.into_iter().peekable();
    loop {
        let take_other = match (others.peek(), ours.peek()) {
            (Some(other), Some(our)) => {
                matches!((position(before, other), position(before, our)), (Some(a), Some(b)) if a < b)
            }
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return Ok(sorted),
        };
        sorted.extend(if take_other { others.next() } else { ours.next() });
    }
}

fn without_nulls(mut value: Value) -> Value {
    fn drop_nulls(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|_, value| !value.is_null());
                fields.values_mut().for_each(drop_nulls);
            }
            Value::Array(items) => items.iter_mut().for_each(drop_nulls),
            _ => {}
        }
    }
    drop_nulls(&mut value);
    value
}

/// New content has nothing to replace or delete: an object with a `$patch` directive does not appear at all.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(PATCH) => None,
        Value::Object(fields) => Some(Value::Object(
            fields
                .into_iter()
                .filter_map(|(key, value)| Some((key, without_directives(value)?)))
                .collect(),
        )),
        Value::Array(items) => Some(items.into_iter().filter_map(without_directives).collect()),
        value => Some(value),
    }
}
