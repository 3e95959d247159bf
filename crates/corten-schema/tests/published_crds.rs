//! The published CRDs of Istio and Gateway API against this crate: every schema is read, is structural and prints as it
//! was; every rule compiles; and the documents that Istio tests its CRDs with get the verdicts they should.

use corten_rt::skip;
use corten_schema::{FieldError, Schema, Validations, cel, defaults, prune, structural, validate};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the test data lies, if it does.
fn shared() -> Option<PathBuf> {
    let configured = std::env::var_os("CORTEN_SHARED").map(PathBuf::from);
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = configured.unwrap_or_else(beside).join("testdata");
    shared.is_dir().then_some(shared)
}

macro_rules! shared_or_skip {
    () => {
        match shared() {
            Some(shared) => shared,
            None => skip!("the test data ../shared/testdata is missing; CORTEN_SHARED names another place"),
        }
    };
}

fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = on_one_line(&text);
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// Quoted text over several lines, on one: some CRDs indent it less than this YAML parser accepts.
fn on_one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut open: Option<char> = None;
    for line in text.lines() {
        let unescaped = line.replace("\\\"", "");
        let odd = |quote: char| unescaped.matches(quote).count() % 2 == 1;
        out.push_str(if open.is_some() { line.trim_start() } else { line });
        open = match open {
            Some(quote) => Some(quote).filter(|quote| !odd(*quote)),
            None => ['\'', '"']
                .into_iter()
                .find(|quote| line.contains(&format!("description: {quote}")) && odd(*quote)),
        };
        out.push(if open.is_some() { ' ' } else { '\n' });
    }
    out
}

fn yaml_files(dir: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    for path in entries.map(|entry| entry.expect("a directory entry").path()) {
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found.sort();
}

/// A version of a CRD: what to call it, and its schema.
struct Version {
    name: String,
    group: String,
    version: String,
    kind: String,
    openapi: Value,
}

fn versions(dir: &Path) -> Vec<Version> {
    let mut files = Vec::new();
    yaml_files(dir, &mut files);
    let mut found = Vec::new();
    for file in files {
        for crd in documents(&file)
            .iter()
            .filter(|document| document["kind"] == "CustomResourceDefinition")
        {
            let text = |pointer: &str| {
                crd.pointer(pointer)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            for version in crd["spec"]["versions"].as_array().into_iter().flatten() {
                let name = version["name"].as_str().unwrap_or_default().to_owned();
                found.push(Version {
                    name: format!("{} {name} ({})", text("/metadata/name"), file.display()),
                    group: text("/spec/group"),
                    version: name,
                    kind: text("/spec/names/kind"),
                    openapi: version["schema"]["openAPIV3Schema"].clone(),
                });
            }
        }
    }
    found
}

fn parse(version: &Version) -> Schema {
    Schema::parse(&version.openapi).unwrap_or_else(|errors| panic!("{}: {}", version.name, list(&errors)))
}

fn list(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Numbers that are equal but written differently (`1` and `1.0`) do not count as a difference.
fn plain(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(fields) => {
            let known = |key: &str| key != "$schema" && key != "externalDocs";
            fields
                .iter()
                .filter(|(key, _)| known(key))
                .map(|(key, value)| (key.clone(), plain(value)))
                .collect()
        }
        Value::Number(number) => number.as_f64().map_or(Value::Null, Value::from),
        value => value.clone(),
    }
}

#[test]
fn every_schema_is_read_structural_and_printed_as_it_was() {
    let versions = versions(&shared_or_skip!().join("crds"));
    assert!(versions.len() > 60, "only {} versions", versions.len());
    for version in versions {
        let schema = parse(&version);
        let problems = structural::check(&schema, "schema.openAPIV3Schema");
        assert!(problems.is_empty(), "{}: {}", version.name, list(&problems));
        let problems = structural::check_defaults(&schema, "schema.openAPIV3Schema");
        assert!(problems.is_empty(), "{}: {}", version.name, list(&problems));
        assert_eq!(plain(&schema.to_openapi()), plain(&version.openapi), "{}", version.name);
    }
}

#[test]
fn every_rule_compiles() {
    for version in versions(&shared_or_skip!().join("crds")) {
        assert_eq!(cel::warnings(&parse(&version)), [] as [String; 0], "{}", version.name);
    }
}

/// Every rule runs on values made for its place: the smallest one the schema allows, and one with everything in it.
#[test]
fn every_rule_runs() {
    let mut ran = 0;
    for version in versions(&shared_or_skip!().join("crds")) {
        let schema = parse(&version);
        each_place(&schema, &mut |place| {
            for full in [false, true] {
                let value = sample(place, full, 0);
                let alone = Schema {
                    validations: Validations::from(place.validations.to_vec()),
                    ..place.clone()
                };
                let report = cel::evaluate(&alone, &value, Some(&sample(place, !full, 0)));
                assert_eq!(report.warnings, [] as [String; 0], "{}: {value}", version.name);
                ran += place.validations.len();
            }
        });
    }
    assert!(ran > 1000, "only {ran} runs");
}

fn each_place(schema: &Schema, see: &mut impl FnMut(&Schema)) {
    if !schema.validations.is_empty() {
        see(schema);
    }
    let additional = match &schema.additional_properties {
        Some(corten_schema::AdditionalProperties::Schema(additional)) => Some(additional),
        _ => None,
    };
    for inner in schema.properties.values().chain(&schema.items).chain(additional) {
        each_place(inner, see);
    }
}

/// A value of the schema's types: with its required fields only, or with all.
fn sample(schema: &Schema, full: bool, depth: usize) -> Value {
    use corten_schema::Type;
    if let Some(value) = schema.default.clone().or_else(|| schema.enum_.first().cloned()) {
        return value;
    }
    match schema.type_ {
        Some(Type::Object) => {
            let wanted = |name: &String| (full && depth < 12) || schema.required.contains(name);
            let fields = schema.properties.iter().filter(|(name, _)| wanted(name));
            fields
                .map(|(name, inner)| (name.clone(), sample(inner, full, depth + 1)))
                .collect()
        }
        Some(Type::Array) => match &schema.items {
            Some(items) if full => Value::from(vec![sample(items, full, depth + 1)]),
            _ => Value::Array(Vec::new()),
        },
        Some(Type::String) if schema.format.as_deref() == Some("date-time") => "2026-01-02T03:04:05Z".into(),
        Some(Type::String) => "5s".into(),
        Some(Type::Integer) => 1.into(),
        Some(Type::Number) => 1.5.into(),
        Some(Type::Boolean) => true.into(),
        None if schema.int_or_string => 1.into(),
        None => Value::Object(serde_json::Map::new()),
    }
}

#[test]
fn the_documents_of_istio_get_their_verdicts() {
    let shared = shared_or_skip!();
    let schemas: BTreeMap<(String, String), Schema> = versions(&shared.join("crds/istio"))
        .iter()
        .map(|version| {
            (
                (format!("{}/{}", version.group, version.version), version.kind.clone()),
                parse(version),
            )
        })
        .collect();
    let mut files = Vec::new();
    yaml_files(&shared.join("istio-validation/crd-documents"), &mut files);
    let (mut count, mut wrong) = (0, Vec::new());
    for file in files {
        for mut document in documents(&file) {
            count += 1;
            let expected = document.as_object_mut().and_then(|fields| fields.remove("_err"));
            let key = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
            let schema = schemas
                .get(&(key("apiVersion"), key("kind")))
                .expect("a CRD for the document");
            let unknown = prune::unknown_fields(schema, &document);
            defaults::apply(schema, &mut document);
            let report = validate::check(schema, &document, None);
            assert_eq!(report.warnings, [] as [String; 0], "{document}");
            let refused = !report.errors.is_empty() || !unknown.is_empty();
            if refused != expected.is_some() {
                let (errors, name) = (list(&report.errors), &document["metadata"]["name"]);
                wrong.push(format!(
                    "{} {name}: expected {expected:?}, found {errors} {unknown:?}",
                    file.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 74, "only {count} documents");
}
