//! A definition, read: its versions with their schemas, and everything that is wrong with it.

use std::sync::OnceLock;

use corten_schema::{FieldError, Schema, structural};
use serde_json::{Value, json};

use crate::object::{self, Object};
use crate::printers::CustomColumns;
use crate::verbs::ScalePaths;

/// One served version of a custom resource.
#[derive(Debug)]
pub(crate) struct CustomVersion {
    object: Object,
    index: usize,
    /// Read when it is first needed: most installed definitions are not used at once, and some schemas are large.
    schema: OnceLock<Schema>,
    pub(crate) scale: Option<ScalePaths>,
    selectable: Vec<String>,
    pub(crate) warning: Option<String>,
}

impl CustomVersion {
    /// The version as it is written in the definition.
    pub(crate) fn written(&self) -> &Value {
        &self.object["spec"]["versions"][self.index]
    }

    /// The schema of the objects.
    pub(crate) fn schema(&self) -> &Schema {
        self.schema.get_or_init(|| {
            // A stored definition was judged before; should an older one not be readable now, its objects are taken as they are.
            Schema::parse(&self.written()["schema"]["openAPIV3Schema"]).unwrap_or_else(|_| Schema {
                preserve_unknown_fields: true,
                ..Schema::of(corten_schema::Type::Object)
            })
        })
    }

    /// Whether objects can be selected by a field.
    pub(crate) fn selectable(&self, field: &str) -> bool {
        self.selectable.iter().any(|s| s == field)
    }

    /// The schema as clients see it.
    pub(crate) fn openapi(&self) -> Value {
        let mut schema = self.written()["schema"]["openAPIV3Schema"].clone();
        object::as_map(&mut schema);
        schema["type"] = json!("object");
        let properties = object::child(&mut schema, "properties");
        for (name, description) in [
            (
                "apiVersion",
                "APIVersion defines the versioned schema of this representation of an object.",
            ),
            (
                "kind",
                "Kind is a string value representing the REST resource this object represents.",
            ),
        ] {
            properties.insert(name.to_owned(), json!({ "type": "string", "description": description }));
        }
        properties.insert(
            "metadata".to_owned(),
            json!({ "type": "object", "description": "Standard object's metadata." }),
        );
        schema
    }
}

/// A definition with its names.
#[derive(Debug)]
pub(crate) struct Definition<'d> {
    pub(crate) object: &'d Value,
}

impl<'d> Definition<'d> {
    pub(crate) fn group(&self) -> &'d str {
        object::text(self.object, &["spec", "group"])
    }

    pub(crate) fn name(&self, key: &str) -> &'d str {
        object::text(self.object, &["spec", "names", key])
    }

    pub(crate) fn short_names(&self) -> Vec<&'d str> {
        object::strings(&self.object["spec"]["names"]["shortNames"])
    }

    pub(crate) fn versions(&self) -> &'d [Value] {
        object::items(&self.object["spec"]["versions"])
    }

    pub(crate) fn storage_version(&self) -> &'d str {
        self.versions()
            .iter()
            .find(|v| v["storage"] == true)
            .and_then(|v| v["name"].as_str())
            .unwrap_or("")
    }

    /// A version by its place in the definition.
    pub(crate) fn version(&self, whole: &Object, index: usize) -> CustomVersion {
        let version = &self.object["spec"]["versions"][index];
        let path = |value: &Value| -> Option<Vec<String>> {
            let text = value.as_str()?.trim_start_matches('.');
            Some(text.split('.').map(str::to_owned).collect())
        };
        let scale = &version["subresources"]["scale"];
        let deprecated = || {
            let (group, name, kind) = (self.group(), version["name"].as_str().unwrap_or(""), self.name("kind"));
            format!("{group}/{name} {kind} is deprecated")
        };
        CustomVersion {
            object: whole.clone(),
            index,
            schema: OnceLock::new(),
            scale: scale.is_object().then(|| ScalePaths {
                spec_replicas: path(&scale["specReplicasPath"]).unwrap_or_default(),
                status_replicas: path(&scale["statusReplicasPath"]).unwrap_or_default(),
                selector: Some(path(&scale["labelSelectorPath"]).unwrap_or_default()),
            }),
            selectable: object::items(&version["selectableFields"])
                .iter()
                .filter_map(|f| f["jsonPath"].as_str())
                .map(|p| p.trim_start_matches('.').to_owned())
                .collect(),
            warning: (version["deprecated"] == true).then(|| {
                version["deprecationWarning"]
                    .as_str()
                    .map_or_else(deprecated, str::to_owned)
            }),
        }
    }
}

/// Everything that is wrong with a definition.
pub(crate) fn problems(definition: &Definition<'_>) -> Vec<FieldError> {
    let mut problems = Vec::new();
    let (name, group, plural) = (
        object::name(definition.object),
        definition.group(),
        definition.name("plural"),
    );
    if group.is_empty() {
        problems.push(FieldError::required("spec.group", ""));
    } else if !group.contains('.') {
        problems.push(FieldError::invalid(
            "spec.group",
            group,
            "should be a domain with at least one dot",
        ));
    }
    if plural.is_empty() {
        problems.push(FieldError::required("spec.names.plural", ""));
    }
    if definition.name("kind").is_empty() {
        problems.push(FieldError::required("spec.names.kind", ""));
    }
    if name != format!("{plural}.{group}") {
        problems.push(FieldError::invalid(
            "metadata.name",
            name,
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
    let scope = object::text(definition.object, &["spec", "scope"]);
    if !matches!(scope, "Namespaced" | "Cluster") {
        problems.push(FieldError::not_supported(
            "spec.scope",
            scope,
            ["Cluster", "Namespaced"],
        ));
    }
    if object::text(definition.object, &["spec", "conversion", "strategy"]) == "Webhook" {
        problems.push(FieldError::not_supported(
            "spec.conversion.strategy",
            "Webhook",
            ["None"],
        ));
    }
    let versions = definition.versions();
    let stored = versions.iter().filter(|v| v["storage"] == true).count();
    if versions.is_empty() {
        problems.push(FieldError::required("spec.versions", "must have at least one version"));
    } else if stored != 1 {
        problems.push(FieldError::invalid(
            "spec.versions",
            definition.object["spec"]["versions"].clone(),
            "must have exactly one version marked as storage version",
        ));
    }
    for (index, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{index}]");
        let schema = &version["schema"]["openAPIV3Schema"];
        if schema.is_null() {
            problems.push(FieldError::required(
                format!("{path}.schema.openAPIV3Schema"),
                "schemas are required",
            ));
            continue;
        }
        if let Err(error) = CustomColumns::parse(&version["additionalPrinterColumns"]) {
            let columns = version["additionalPrinterColumns"].clone();
            problems.push(FieldError::invalid(
                format!("{path}.additionalPrinterColumns"),
                columns,
                error.to_string(),
            ));
        }
        let path = format!("{path}.schema.openAPIV3Schema");
        match Schema::parse(schema) {
            Ok(parsed) => {
                problems.extend(structural::check(&parsed, &path));
                problems.extend(structural::check_defaults(&parsed, &path));
            }
            Err(errors) => problems.extend(errors.into_iter().map(|mut error| {
                error.path = match error.path.as_str() {
                    "" => path.clone(),
                    inner => format!("{path}.{inner}"),
                };
                error
            })),
        }
    }
    problems
}
