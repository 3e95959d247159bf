//! Objects with a schema: which fields they have, how two of them differ, one merged into another, fields taken out.

use super::set::{Element, Set};
use super::shape::{Atom, Shape};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The fields of an object, as its applier owns them.
pub(super) fn fields_of(shape: Shape<'_>, value: &Value) -> Set {
    let mut set = Set::default();
    collect(shape, value, &mut Vec::new(), &mut set);
    set
}

fn collect(shape: Shape<'_>, value: &Value, path: &mut Vec<Element>, set: &mut Set) {
    match (shape.atom(value), value) {
        (Atom::Map, Value::Object(fields)) => {
            for (name, value) in fields {
                let (inner, declared) = shape.field(name);
                path.push(format!("f:{name}"));
                collect(inner, value, path, set);
                if value.is_null() || value.as_object().is_some_and(Map::is_empty) || !declared {
                    set.insert(path);
                }
                path.pop();
            }
        }
        (Atom::List, Value::Array(items)) => {
            let elements: Vec<Option<Element>> = items.iter().map(|item| shape.element(item).ok()).collect();
            for (index, (item, element)) in items.iter().zip(&elements).enumerate() {
                let Some(element) = element else { continue };
                let repeated = elements
                    .iter()
                    .enumerate()
                    .any(|(other, e)| other != index && e.as_ref() == Some(element));
                path.push(element.clone());
                if !repeated {
                    collect(shape.items(), item, path, set);
                }
                set.insert(path);
                path.pop();
            }
        }
        _ => set.insert(path),
    }
}

/// How an object differs from an older one.
#[derive(Default)]
pub(super) struct Comparison {
    pub(super) removed: Set,
    pub(super) modified: Set,
    pub(super) added: Set,
}

/// Compares two objects.
pub(super) fn compare(shape: Shape<'_>, old: &Value, new: &Value) -> Comparison {
    let mut comparison = Comparison::default();
    compare_at(shape, Some(old), Some(new), &mut Vec::new(), &mut comparison);
    comparison
}

fn compare_at(
    shape: Shape<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    path: &mut Vec<Element>,
    out: &mut Comparison,
) {
    let atom = |value: Option<&Value>| value.map_or(Atom::Leaf, |value| shape.atom(value));
    let null = |value: Option<&Value>| value.is_none_or(Value::is_null);
    match (atom(old), atom(new)) {
        (Atom::Map, Atom::Map) => compare_maps(shape, old, new, path, out),
        (Atom::List, Atom::List) => compare_lists(shape, old, new, path, out),
        (Atom::Map, _) if null(new) => compare_maps(shape, old, new, path, out),
        (_, Atom::Map) if null(old) => compare_maps(shape, old, new, path, out),
        (Atom::List, _) if null(new) => compare_lists(shape, old, new, path, out),
        (_, Atom::List) if null(old) => compare_lists(shape, old, new, path, out),
        _ => compare_leaves(old, new, path, out),
    }
}

fn compare_leaves(old: Option<&Value>, new: Option<&Value>, path: &[Element], out: &mut Comparison) {
    match (old, new) {
        // A null that nobody wrote says as much as nothing.
        (None | Some(Value::Null), None | Some(Value::Null)) => {}
        (None, _) => out.added.insert(path),
        (_, None) => out.removed.insert(path),
        (Some(old), Some(new)) if old != new => out.modified.insert(path),
        _ => {}
    }
}

fn compare_maps(
    shape: Shape<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    path: &mut Vec<Element>,
    out: &mut Comparison,
) {
    let (before, after) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
    // Empty maps are leaves, so that an empty map and none can be told apart.
    if before.is_none_or(Map::is_empty) && after.is_none_or(Map::is_empty) {
        return compare_leaves(old, new, path, out);
    }
    let keys: BTreeSet<&String> = before.into_iter().chain(after).flat_map(Map::keys).collect();
    for key in keys {
        let (inner, _) = shape.field(key);
        let (before, after) = (before.and_then(|map| map.get(key)), after.and_then(|map| map.get(key)));
        path.push(format!("f:{key}"));
        compare_at(inner, before, after, path, out);
        path.pop();
    }
    presence(old, new, path, out);
}

/// A map or list that appeared or went is a member besides its contents.
fn presence(old: Option<&Value>, new: Option<&Value>, path: &[Element], out: &mut Comparison) {
    match (old, new) {
        (None, _) => out.added.insert(path),
        (_, None) => out.removed.insert(path),
        _ => {}
    }
}

fn compare_lists(
    shape: Shape<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    path: &mut Vec<Element>,
    out: &mut Comparison,
) {
    let (before, after) = (old.and_then(Value::as_array), new.and_then(Value::as_array));
    if before.is_none_or(Vec::is_empty) && after.is_none_or(Vec::is_empty) {
        return compare_leaves(old, new, path, out);
    }
    let mut items: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    for item in before.into_iter().flatten() {
        if let Ok(element) = shape.element(item) {
            items.entry(element).or_default().0.push(item);
        }
    }
    for item in after.into_iter().flatten() {
        if let Ok(element) = shape.element(item) {
            items.entry(element).or_default().1.push(item);
        }
    }
    for (element, (before, after)) in items {
        path.push(element);
        match (before.as_slice(), after.as_slice()) {
            ([] | [_], [] | [_]) => {
                compare_at(
                    shape.items(),
                    before.first().copied(),
                    after.first().copied(),
                    path,
                    out,
                );
            }
            // Items that occur more than once are compared as one value.
            ([_, _, ..], [_, _, ..]) if before != after => out.modified.insert(path),
            ([_, _, ..], [_, _, ..]) => {}
            ([_, _, ..], _) => {
                if let Some(after) = after.first() {
                    compare_at(shape.items(), None, Some(after), path, out);
                }
                out.removed.insert(path);
            }
            (_, _) => {
                if let Some(before) = before.first() {
                    compare_at(shape.items(), Some(before), None, path, out);
                }
                out.added.insert(path);
            }
        }
        path.pop();
    }
    presence(old, new, path, out);
}

/// The live object with the applied one merged into it. What is not applied stays.
pub(super) fn merge(shape: Shape<'_>, live: &Value, applied: &Value) -> Value {
    match (shape.atom(live), shape.atom(applied), live, applied) {
        (Atom::Map, Atom::Map, Value::Object(live), Value::Object(applied)) => {
            let mut merged = live.clone();
            for (name, value) in applied {
                let (inner, _) = shape.field(name);
                let value = live
                    .get(name)
                    .map_or_else(|| value.clone(), |live| merge(inner, live, value));
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (Atom::List, Atom::List, Value::Array(live), Value::Array(applied)) => merge_lists(shape, live, applied),
        _ => applied.clone(),
    }
}

/// Applied items come in the applied order. Live ones that are not applied keep their place among the live ones: each
/// comes as soon as it is reached, before further applied items.
fn merge_lists(shape: Shape<'_>, live: &[Value], applied: &[Value]) -> Value {
    let elements = |items: &[Value]| items.iter().map(|item| shape.element(item).ok()).collect::<Vec<_>>();
    let (live_elements, applied_elements) = (elements(live), elements(applied));
    let in_live = |element: &Option<Element>| element.is_some() && live_elements.contains(element);
    let in_applied = |element: &Option<Element>| element.is_some() && applied_elements.contains(element);
    let merged = |index: usize| {
        let same = live_elements
            .iter()
            .position(|element| element.is_some() && *element == applied_elements[index]);
        same.map_or_else(
            || applied[index].clone(),
            |same| merge(shape.items(), &live[same], &applied[index]),
        )
    };
    let mut shared = applied_elements.iter().filter(|element| in_live(element));
    let mut next_shared = shared.next();
    let mut out = Vec::with_capacity(live.len() + applied.len());
    let (mut l, mut a) = (0, 0);
    while l < live.len() || a < applied.len() {
        if let (Some(of_live), Some(of_applied)) = (live_elements.get(l), applied_elements.get(a)) {
            if of_live.is_some() && of_live == of_applied {
                out.push(merged(a));
                (l, a) = (l + 1, a + 1);
                next_shared = shared.next();
                continue;
            }
            // An applied item whose turn has not come: it is taken where the applied order puts it.
            if in_applied(of_live) && next_shared.is_some_and(|next| next != of_live) {
                l += 1;
                continue;
            }
        }
        if let Some(of_live) = live_elements.get(l) {
            if !in_applied(of_live) {
                out.push(live[l].clone());
                l += 1;
                continue;
            }
            if applied_elements[..a].contains(of_live) {
                l += 1;
            }
        }
        if a < applied.len() {
            out.push(merged(a));
            if next_shared == applied_elements.get(a) {
                next_shared = shared.next();
            }
            a += 1;
        }
    }
    Value::Array(out)
}

/// The value without the members of a set. What is below a member goes with it; maps and lists that get empty go too.
pub(super) fn without(shape: Shape<'_>, value: &Value, remove: &Set) -> Option<Value> {
    match (shape.atom(value), value) {
        (Atom::Map, Value::Object(fields)) if !fields.is_empty() => {
            let mut kept = Map::new();
            for (name, value) in fields {
                let element = format!("f:{name}");
                if remove.has(&element) {
                    continue;
                }
                let value = match remove.below(&element) {
                    Some(below) => without(shape.field(name).0, value, below).unwrap_or(Value::Null),
                    None => value.clone(),
                };
                kept.insert(name.clone(), value);
            }
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        (Atom::List, Value::Array(items)) if !items.is_empty() => {
            let mut kept = Vec::new();
            for item in items {
                let Ok(element) = shape.element(item) else { continue };
                if remove.has(&element) {
                    continue;
                }
                kept.push(match remove.below(&element) {
                    Some(below) => without(shape.items(), item, below).unwrap_or(Value::Null),
                    None => item.clone(),
                });
            }
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        (Atom::Leaf, Value::Object(_) | Value::Array(_)) => None,
        (Atom::Map, Value::Object(_)) | (Atom::List, Value::Array(_)) => None,
        (_, value) => Some(value.clone()),
    }
}

/// What keeps an object from being applied: undeclared fields, items without keys, items that occur twice.
pub(super) fn problem(shape: Shape<'_>, value: &Value, path: &str) -> Option<String> {
    match (shape.atom(value), value) {
        (Atom::Map, Value::Object(fields)) => fields.iter().find_map(|(name, value)| {
            let (inner, declared) = shape.field(name);
            let path = format!("{path}.{name}");
            if !declared && !shape.allows_undeclared() {
                return Some(format!("{path}: field not declared in schema"));
            }
            problem(inner, value, &path)
        }),
        (Atom::List, Value::Array(items)) => {
            let mut seen = BTreeSet::new();
            items
                .iter()
                .enumerate()
                .find_map(|(index, item)| match shape.element(item) {
                    Err(error) => Some(format!("{path}: element {index}: {error}")),
                    Ok(element) => {
                        let mut set = Set::default();
                        set.insert(std::slice::from_ref(&element));
                        let key = set.paths().pop().unwrap_or_default();
                        if !seen.insert(element) {
                            return Some(format!("{path}: duplicate entries for key {key}"));
                        }
                        problem(shape.items(), item, &format!("{path}{key}"))
                    }
                })
        }
        _ => None,
    }
}
