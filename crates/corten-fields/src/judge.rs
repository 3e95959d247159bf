//! The verdict on a field: the mesh is made again without it, or with another value of it, and what anybody is sent is compared.

use std::collections::BTreeSet;

use corten_api::diagnostic::{Code, Diagnostic};
use corten_core::Duration;
use serde_json::{Value, json};

use crate::{
    kinds::{Judged, MESH_GROUP},
    plain,
    schema::{Leaf, Step},
    world::{Output, World, wrong_with},
};

/// Codes by which a whole part of an object is said to take no effect, or not the one that was meant.
const OF_PARTS: [Code; 4] = [
    corten_routing::NO_EFFECT,
    corten_routing::UNUSABLE,
    corten_gateway_api::diagnose::NOT_HONOURED,
    corten_gateway_api::diagnose::NOT_ACCEPTED,
];

/// In how many places each name of an enumeration is tried.
const TRIES_MAX: usize = 5;

/// Words of which others are possible where one is: what a port may speak, what a policy may be for.
const WORDS: [&[&str]; 3] = [
    &["HTTP", "HTTP2", "GRPC", "HTTPS", "TLS", "TCP"],
    &["Gateway", "GatewayClass", "Service", "ServiceEntry"],
    &["", "gateway.networking.k8s.io", "networking.istio.io"],
];

/// What became of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// What is sent depends on it.
    Honoured {
        /// What of it.
        by: BTreeSet<&'static str>,
        /// The world that shows it.
        world: String,
        /// Names that do what an absent field does.
        as_unset: Vec<String>,
    },
    /// Somebody is told.
    Reported {
        /// The class of what is said.
        code: &'static str,
        /// What is said.
        message: String,
        /// The world that shows it.
        world: String,
    },
    /// Nothing depends on it and nobody is told.
    Silent {
        /// The worlds that set it.
        worlds: BTreeSet<String>,
    },
    /// It means nothing to proxies, and should not.
    Plain {
        /// Why.
        reason: &'static str,
        /// The worlds that set it.
        worlds: BTreeSet<String>,
    },
    /// No world sets it.
    Unset,
}

/// A world with what comes of it as it is.
pub(crate) struct Base {
    /// The world.
    pub(crate) world: World,
    /// What comes of it.
    pub(crate) output: Output,
}

/// Where a field is set.
#[derive(Debug, Clone)]
struct Place {
    object: usize,
    steps: Vec<At>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum At {
    Name(String),
    Item(usize),
}

/// Judges a field of a kind by all worlds.
pub(crate) fn judge(kind: &Judged, leaf: &Leaf, bases: &[Base]) -> Outcome {
    let mut silent = BTreeSet::new();
    let mut reported = None;
    let mut honoured = None;
    // The first name is the one of an absent field.
    let mut names: Vec<&String> = leaf.values.iter().skip(1).collect();
    let mut tries = 0;
    // What was written for the kind is smallest, and shows most.
    let is_own = |base: &&Base| base.world.name.split('/').next() == Some(kind.folder());
    let ordered = bases
        .iter()
        .filter(is_own)
        .chain(bases.iter().filter(|base| !is_own(base)));
    'worlds: for base in ordered {
        for place in places(kind, leaf, &base.world.objects) {
            if honoured.is_none() {
                let by = effect(base, &place, leaf);
                let told = told(base, &place);
                // Conditions say what is told; that alone is no effect.
                let only_told = told.is_some() && by.iter().all(|part| *part == "status");
                if !by.is_empty() && !only_told {
                    honoured = Some((by, base.world.name.clone()));
                } else if let Some(said) = told {
                    reported.get_or_insert_with(|| (said, base.world.name.clone()));
                } else {
                    silent.insert(base.world.name.clone());
                }
            }
            if !names.is_empty() && tries < TRIES_MAX {
                tries += 1;
                distinct(base, &place, &mut names);
            }
            if honoured.is_some() && (names.is_empty() || tries == TRIES_MAX) {
                break 'worlds;
            }
        }
    }
    let reason = plain::reason(kind, leaf);
    match (honoured, reported) {
        (Some((by, world)), _) => {
            let as_unset = names.into_iter().cloned().collect();
            Outcome::Honoured { by, world, as_unset }
        }
        (None, Some((said, world))) => Outcome::Reported {
            code: said.code.0,
            message: said.message,
            world,
        },
        (None, None) if silent.is_empty() => Outcome::Unset,
        (None, None) if reason.is_some() => Outcome::Plain {
            reason: reason.unwrap_or_default(),
            worlds: silent,
        },
        (None, None) => Outcome::Silent { worlds: silent },
    }
}

/// What depends on the field at a place: without it, or, where it must be there or says what is so anyway, with another value.
fn effect(base: &Base, place: &Place, leaf: &Leaf) -> BTreeSet<&'static str> {
    let Some(held) = held(&base.world.objects, place) else {
        return BTreeSet::new();
    };
    let mut admitted = false;
    for other in std::iter::once(None).chain(others(held, leaf).into_iter().map(Some)) {
        let by = with(base, place, other.as_ref()).map(|made| base.output.differences(&made));
        admitted |= by.is_some() && other.as_ref() != Some(held);
        if let Some(by) = by.filter(|by| !by.is_empty()) {
            return by;
        }
    }
    // Beside the rest of the object, nothing else may stand there.
    let is_valid = wrong_with(&base.world.objects[place.object])
        .iter()
        .all(|said| !said.is_error());
    let refused = !admitted && is_valid;
    refused.then_some("admission").into_iter().collect()
}

/// Takes away the names that make a difference, or of which something is said.
fn distinct(base: &Base, place: &Place, names: &mut Vec<&String>) {
    let Some(is_list) = held(&base.world.objects, place).map(Value::is_array) else {
        return;
    };
    let without = with(base, place, None);
    let mut made = Vec::new();
    for name in names.iter() {
        let value = if is_list { json!([name]) } else { json!(name) };
        made.push(with(base, place, Some(&value)));
    }
    let differs = |index: usize| {
        let Some(Some(this)) = made.get(index) else {
            return false;
        };
        if said_at(this, base, place).is_some() {
            return true;
        }
        match &without {
            Some(without) => !this.differences(without).is_empty(),
            None => made.iter().flatten().any(|other| !this.differences(other).is_empty()),
        }
    };
    let mut index = 0;
    names.retain(|_| {
        index += 1;
        !differs(index - 1)
    });
}

/// What comes of a world with another value at a place, or none; `None`: such an object would not be admitted.
fn with(base: &Base, place: &Place, value: Option<&Value>) -> Option<Output> {
    let mut objects = base.world.objects.clone();
    set(objects.get_mut(place.object)?, &place.steps, value)?;
    let made = base.world.output(&objects, Some(place.object));
    let before = |error: &&Diagnostic| {
        let same = |other: &Diagnostic| (other.code, &other.path) == (error.code, &error.path);
        base.output.invalid.iter().any(|other| other.is_error() && same(other))
    };
    let refused = made
        .invalid
        .iter()
        .filter(|said| said.is_error())
        .any(|error| !before(&error));
    // Nobody stands before the mesh's own documents: what is wrong with them is told, and the rest is used.
    let always = is_of_mesh(&base.world.objects[place.object]);
    (!refused || always).then_some(made)
}

fn is_of_mesh(object: &Value) -> bool {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    version.split_once('/').is_some_and(|(group, _)| group == MESH_GROUP)
}

/// What is said of the field at a place.
fn told(base: &Base, place: &Place) -> Option<Diagnostic> {
    said_at(&base.output, base, place)
}

fn said_at(output: &Output, base: &Base, place: &Place) -> Option<Diagnostic> {
    let object = base.world.objects.get(place.object)?;
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    let about = |said: &Diagnostic| {
        said.object.as_ref().is_some_and(|of| {
            let namespace =
                of.namespace == text("namespace") || (text("namespace").is_empty() && of.namespace == "default");
            object["kind"] == of.kind.as_str() && of.name == text("name") && namespace
        })
    };
    let covers = |said: &Diagnostic| {
        let path = steps_of(&said.path);
        // A kind that nothing acts on is told of as a whole.
        let whole = (path.is_empty() && said.code == corten_model::rules::KIND_UNUSED)
            || (said.path == "spec" && said.code == corten_gateway_api::diagnose::NOT_HONOURED);
        let long = path.len() > 1 || whole;
        long && path.len() <= place.steps.len()
            && path.iter().zip(&place.steps).all(|(a, b)| a == b)
            && (path.len() == place.steps.len() || whole || OF_PARTS.contains(&said.code))
    };
    // A list or a mapping of values is one field; what is said of an item of it is said of the field.
    let inside = |said: &Diagnostic| {
        let path = steps_of(&said.path);
        path.len() == place.steps.len() + 1 && path.iter().zip(&place.steps).all(|(a, b)| a == b)
    };
    let said = output.said.iter().filter(|said| about(said));
    said.filter(|said| covers(said) || inside(said))
        .max_by_key(|said| steps_of(&said.path).len())
        .cloned()
}

/// A path as diagnostics have it: `spec.http[0].match[1].headers[x-a.b]`.
fn steps_of(path: &str) -> Vec<At> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let (part, after) = match rest.strip_prefix('[') {
            Some(inner) => inner.split_once(']').unwrap_or((inner, "")),
            None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        let name = || At::Name(part.trim_matches('"').to_owned());
        let step = if rest.starts_with('[') {
            part.parse().map_or_else(|_| name(), At::Item)
        } else {
            name()
        };
        steps.push(step);
        rest = after.strip_prefix('.').unwrap_or(after);
    }
    steps
}

/// Where a field of a kind is set.
fn places(kind: &Judged, leaf: &Leaf, objects: &[Value]) -> Vec<Place> {
    let is_of = |object: &Value| {
        let version = object["apiVersion"].as_str().unwrap_or_default();
        object["kind"] == kind.of_objects() && version.split_once('/').map_or("", |(group, _)| group) == kind.group
    };
    let mut found = Vec::new();
    for (index, object) in objects.iter().enumerate().filter(|(_, object)| is_of(object)) {
        let mut steps = Vec::new();
        walk(object, &leaf.path, &mut steps, &mut |steps| {
            found.push(Place {
                object: index,
                steps: steps.to_vec(),
            });
        });
    }
    found
}

fn walk(value: &Value, path: &[Step], steps: &mut Vec<At>, found: &mut dyn FnMut(&[At])) {
    let Some((first, rest)) = path.split_first() else {
        if !value.is_null() {
            found(steps);
        }
        return;
    };
    let mut go = |at: At, inner: &Value| {
        steps.push(at);
        walk(inner, rest, steps, found);
        steps.pop();
    };
    match (first, value) {
        (Step::Name(name), Value::Object(fields)) => {
            if let Some(inner) = fields.get(name) {
                go(At::Name(name.clone()), inner);
            }
        }
        (Step::Item, Value::Array(items)) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, inner)| go(At::Item(index), inner));
        }
        (Step::Entry, Value::Object(fields)) => {
            fields
                .iter()
                .for_each(|(name, inner)| go(At::Name(name.clone()), inner));
        }
        _ => {}
    }
}

fn held<'a>(objects: &'a [Value], place: &Place) -> Option<&'a Value> {
    place
        .steps
        .iter()
        .try_fold(objects.get(place.object)?, |value, step| match step {
            At::Name(name) => value.get(name),
            At::Item(index) => value.get(index),
        })
}

/// Puts a value, or takes away what is there.
fn set(value: &mut Value, steps: &[At], new: Option<&Value>) -> Option<()> {
    let (last, way) = steps.split_last()?;
    let parent = way.iter().try_fold(value, |value, step| match step {
        At::Name(name) => value.get_mut(name),
        At::Item(index) => value.get_mut(index),
    })?;
    match (last, new) {
        (At::Name(name), None) => _ = parent.as_object_mut()?.remove(name),
        (At::Name(name), Some(new)) => _ = parent.as_object_mut()?.insert(name.clone(), new.clone()),
        (At::Item(index), None) => _ = parent.as_array_mut()?.remove(*index),
        (At::Item(index), Some(new)) => *parent.get_mut(index)? = new.clone(),
    }
    Some(())
}

/// Other values that could stand there.
fn others(held: &Value, leaf: &Leaf) -> Vec<Value> {
    match held {
        Value::String(text) if !leaf.values.is_empty() => leaf
            .values
            .iter()
            .filter(|name| *name != text)
            .map(|name| json!(name))
            .collect(),
        Value::String(text) => other_texts(text).into_iter().map(Value::from).collect(),
        Value::Bool(is) => vec![json!(!is)],
        Value::Number(number) => {
            let number = number.as_i64().unwrap_or_default();
            // The last is a prime, which the size of a table must be.
            [number + 1, number - 1, number * 2, 5003].map(Value::from).to_vec()
        }
        Value::Array(items) => {
            let Some((first, rest)) = items.split_first() else {
                return Vec::new();
            };
            let each = others(first, leaf).into_iter();
            each.map(|other| std::iter::once(other).chain(rest.iter().cloned()).collect())
                .collect()
        }
        Value::Object(fields) => {
            let Some((name, first)) = fields.iter().next() else {
                return Vec::new();
            };
            let with = |other: Value| {
                let mut fields = fields.clone();
                fields.insert(name.clone(), other);
                Value::Object(fields)
            };
            let mut made: Vec<Value> = others(first, leaf).into_iter().map(with).collect();
            // Shares must go on adding up.
            if let [one, two, ..] = &fields.iter().collect::<Vec<_>>()[..] {
                let swapped = [(one.0, two.1), (two.0, one.1)].map(|(name, value)| (name.clone(), value.clone()));
                let mut fields = fields.clone();
                fields.extend(swapped);
                made.push(Value::Object(fields));
            }
            made
        }
        Value::Null => Vec::new(),
    }
}

fn other_texts(text: &str) -> Vec<String> {
    if Duration::parse(text).is_ok() {
        return vec!["7s".to_owned(), "70s".to_owned()];
    }
    if text.parse::<std::net::IpAddr>().is_ok() {
        return vec!["10.9.8.7".to_owned()];
    }
    let mut other = vec![format!("{text}x"), format!("x{text}"), format!("{text}/x")];
    for words in WORDS.iter().filter(|words| words.contains(&text)) {
        other.extend(words.iter().map(|word| (*word).to_owned()));
    }
    other
}
