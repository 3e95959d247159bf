//! Volumes: names, one source each, and what the sources that the runtime mounts need.

use std::collections::BTreeSet;

use corten_schema::FieldError;
use serde_json::Value;

use super::{Faults, containers, each, format, names, one_of, quantities, required, required_format, text};

/// In the order in which the real API looks for them.
const SOURCES: [&str; 28] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
];
const HOST_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];
/// The fields of a pod that a file can have.
const FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
const TOKEN_SECONDS_MIN: i64 = 600;

/// The volumes of a pod; returns the names that can be mounted.
pub(super) fn volumes<'v>(faults: &mut Faults, path: &str, spec: &'v Value) -> BTreeSet<&'v str> {
    let mut taken = BTreeSet::new();
    for (path, volume) in each(spec, path, "volumes") {
        let mut found = 0;
        let before = faults.len();
        for kind in SOURCES {
            if volume[kind].is_null() {
                continue;
            }
            found += 1;
            let path = std::format!("{path}.{kind}");
            if found > 1 {
                faults.push(FieldError::forbidden(path, "may not specify more than 1 volume type"));
            } else {
                source(faults, &path, kind, &volume[kind]);
            }
        }
        let name = text(volume, "name");
        let name_path = std::format!("{path}.name");
        required_format(faults, &name_path, name, names::label);
        if taken.contains(name) {
            faults.push(FieldError::duplicate(name_path, name));
        }
        if faults.len() == before {
            taken.insert(name);
        }
    }
    taken
}

fn source(faults: &mut Faults, path: &str, kind: &str, source: &Value) {
    match kind {
        "emptyDir" => {
            let limit = &source["sizeLimit"];
            if quantities::parse(limit).is_some_and(|limit| limit < 0) {
                let why = "SizeLimit field must be a valid resource quantity";
                faults.push(FieldError::forbidden(std::format!("{path}.sizeLimit"), why));
            }
        }
        "hostPath" => {
            required(faults, &std::format!("{path}.path"), text(source, "path"));
            format(
                faults,
                &std::format!("{path}.path"),
                text(source, "path"),
                names::no_backsteps,
            );
            one_of(faults, &std::format!("{path}.type"), &source["type"], &HOST_TYPES);
        }
        "configMap" | "secret" => {
            let key = if kind == "secret" { "secretName" } else { "name" };
            required(faults, &std::format!("{path}.{key}"), text(source, key));
            mode(faults, &std::format!("{path}.defaultMode"), &source["defaultMode"]);
            items(faults, path, source);
        }
        "downwardAPI" => {
            mode(faults, &std::format!("{path}.defaultMode"), &source["defaultMode"]);
            downward(faults, path, source);
        }
        "persistentVolumeClaim" => required(faults, &std::format!("{path}.claimName"), text(source, "claimName")),
        "projected" => {
            mode(faults, &std::format!("{path}.defaultMode"), &source["defaultMode"]);
            projected(faults, path, source);
        }
        _ => {}
    }
}

fn mode(faults: &mut Faults, path: &str, value: &Value) {
    if let Some(mode) = value.as_i64().filter(|mode| !(0..=0o777).contains(mode)) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        faults.push(FieldError::invalid(path, mode, why));
    }
}

fn items(faults: &mut Faults, path: &str, source: &Value) {
    for (path, item) in each(source, path, "items") {
        required(faults, &std::format!("{path}.key"), text(item, "key"));
        file_path(faults, &std::format!("{path}.path"), text(item, "path"));
        mode(faults, &std::format!("{path}.mode"), &item["mode"]);
    }
}

/// A path of a file inside a volume.
fn file_path(faults: &mut Faults, path: &str, file: &str) {
    required(faults, path, file);
    format(faults, path, file, names::descending_path);
    if file.starts_with("..") && !file.starts_with("../") && file != ".." {
        faults.push(FieldError::invalid(path, file, "must not start with '..'"));
    }
}

fn downward(faults: &mut Faults, path: &str, source: &Value) {
    for (_, item) in each(source, path, "items") {
        file_path(faults, &std::format!("{path}.path"), text(item, "path"));
        let (field, resource) = (&item["fieldRef"], &item["resourceFieldRef"]);
        if !field.is_null() {
            containers::field(faults, &std::format!("{path}.fieldRef"), field, &FIELDS);
            if !resource.is_null() {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                faults.push(FieldError::invalid(path, "resource", why));
            }
        } else if !resource.is_null() {
            let path = &std::format!("{path}.resourceFieldRef");
            required(
                faults,
                &std::format!("{path}.containerName"),
                text(resource, "containerName"),
            );
            containers::resource(faults, path, resource);
        } else {
            let why = "one of fieldRef and resourceFieldRef is required";
            faults.push(FieldError::required(path, why));
        }
        mode(faults, &std::format!("{path}.mode"), &item["mode"]);
    }
}

fn projected(faults: &mut Faults, path: &str, volume: &Value) {
    let mut files: BTreeSet<&str> = BTreeSet::new();
    for (source_path, source) in each(volume, path, "sources") {
        let mut found = 0;
        for kind in [
            "secret",
            "configMap",
            "downwardAPI",
            "serviceAccountToken",
            "clusterTrustBundle",
        ] {
            let part = &source[kind];
            if part.is_null() {
                continue;
            }
            found += 1;
            if found > 1 {
                let why = "may not specify more than 1 volume type per source";
                faults.push(FieldError::forbidden(source_path.as_str(), why));
                continue;
            }
            let part_path = std::format!("{source_path}.{kind}");
            match kind {
                "secret" | "configMap" => {
                    required(faults, &std::format!("{part_path}.name"), text(part, "name"));
                    items(faults, &part_path, part);
                    for file in crate::object::items(&part["items"]) {
                        let file = text(file, "path");
                        if !file.is_empty() && !files.insert(file) {
                            let why = "conflicting duplicate paths";
                            faults.push(FieldError::invalid(path, text(part, "name"), why));
                        }
                    }
                }
                "downwardAPI" => downward(faults, &part_path, part),
                "serviceAccountToken" => token(faults, path, &part_path, part),
                _ => {}
            }
        }
    }
}

fn token(faults: &mut Faults, volume: &str, path: &str, token: &Value) {
    if let Some(seconds) = token["expirationSeconds"].as_i64() {
        let path = std::format!("{path}.expirationSeconds");
        if seconds < TOKEN_SECONDS_MIN {
            let why = "may not specify a duration less than 10 minutes";
            faults.push(FieldError::invalid(path, seconds, why));
        } else if seconds > 1 << 32 {
            let why = "may not specify a duration larger than 2^32 seconds";
            faults.push(FieldError::invalid(path, seconds, why));
        }
    }
    file_path(faults, &std::format!("{volume}.path"), text(token, "path"));
}
