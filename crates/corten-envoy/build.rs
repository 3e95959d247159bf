//! Takes the descriptors of Envoy's messages from the package that has their types, without comments and options, and packs them.
//!
//! From the same descriptors comes a table of where maps are, whose entries are put in order when a message is encoded.
//!
//! The package carries them, but its library does not show them; cargo is asked where the package is.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// The package with the types.
const PACKAGE: &str = "envoy-types";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let path = package()?.join("src/generated/types.bin");
    println!("cargo::rerun-if-changed={}", path.display());
    let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut set = FileDescriptorSet::decode(&bytes[..])?;
    for file in &mut set.file {
        file.source_code_info = None;
        file.options = None;
        file.service.clear();
        for extension in &mut file.extension {
            extension.options = None;
        }
        file.enum_type.iter_mut().for_each(strip_enum);
        file.message_type.iter_mut().for_each(strip);
    }
    set.file.push(typed_struct("xds"));
    set.file.push(typed_struct("udpa"));
    set.file.push(ip_matcher());
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("maps.rs"), maps(&set))?;
    let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&set.encode_to_vec())?;
    fs::write(out.join("descriptors.deflate"), packed.finish()?)?;
    Ok(())
}

/// A field of a message.
fn field(name: &str, number: i32, kind: Type, of: Option<&str>) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(kind.into()),
        type_name: of.map(str::to_owned),
        ..Default::default()
    }
}

/// `IPMatcher`, which the package does not have.
fn ip_matcher() -> FileDescriptorProto {
    let several = |name: &str, of: &str| FieldDescriptorProto {
        label: Some(Label::Repeated.into()),
        ..field(name, 1, Type::Message, Some(of))
    };
    let on_match = ".xds.type.matcher.v3.Matcher.OnMatch";
    let range_matcher = DescriptorProto {
        name: Some("IPRangeMatcher".to_owned()),
        field: vec![
            several("ranges", ".xds.core.v3.CidrRange"),
            field("on_match", 2, Type::Message, Some(on_match)),
            field("exclusive", 3, Type::Bool, None),
        ],
        ..Default::default()
    };
    FileDescriptorProto {
        name: Some("xds/type/matcher/v3/ip.proto".to_owned()),
        package: Some("xds.type.matcher.v3".to_owned()),
        dependency: vec![
            "xds/core/v3/cidr.proto".to_owned(),
            "xds/type/matcher/v3/matcher.proto".to_owned(),
        ],
        message_type: vec![DescriptorProto {
            name: Some("IPMatcher".to_owned()),
            field: vec![several(
                "range_matchers",
                ".xds.type.matcher.v3.IPMatcher.IPRangeMatcher",
            )],
            nested_type: vec![range_matcher],
            ..Default::default()
        }],
        syntax: Some("proto3".to_owned()),
        ..Default::default()
    }
}

/// `TypedStruct`, a message of a type that only its receiver knows, by either of its names: the package has it under neither.
fn typed_struct(of: &str) -> FileDescriptorProto {
    let version = if of == "xds" { "v3" } else { "v1" };
    FileDescriptorProto {
        name: Some(format!("{of}/type/{version}/typed_struct.proto")),
        package: Some(format!("{of}.type.{version}")),
        dependency: vec!["google/protobuf/struct.proto".to_owned()],
        message_type: vec![DescriptorProto {
            name: Some("TypedStruct".to_owned()),
            field: vec![
                field("type_url", 1, Type::String, None),
                field("value", 2, Type::Message, Some(".google.protobuf.Struct")),
            ],
            ..Default::default()
        }],
        syntax: Some("proto3".to_owned()),
        ..Default::default()
    }
}

/// Leaves that several names may have one number.
fn strip_enum(enumeration: &mut EnumDescriptorProto) {
    if let Some(options) = enumeration.options.take() {
        enumeration.options = Some(prost_types::EnumOptions {
            allow_alias: options.allow_alias,
            ..Default::default()
        });
    }
    enumeration.value.iter_mut().for_each(|value| value.options = None);
}

/// Leaves that a message stands for a map's entries, and nothing else of its options.
fn strip(message: &mut DescriptorProto) {
    if let Some(options) = message.options.take()
        && let Some(map_entry) = options.map_entry
    {
        message.options = Some(prost_types::MessageOptions {
            map_entry: Some(map_entry),
            ..Default::default()
        });
    }
    for field in &mut message.field {
        field.options = None;
    }
    message.enum_type.iter_mut().for_each(strip_enum);
    message.oneof_decl.iter_mut().for_each(|oneof| oneof.options = None);
    message.extension.clear();
    message.nested_type.iter_mut().for_each(strip);
}

/// Where in which messages maps are, as a table in Rust: sorted by the messages' names, and without messages that hold no map however
/// deep.
fn maps(set: &FileDescriptorSet) -> String {
    let mut messages: BTreeMap<String, &DescriptorProto> = BTreeMap::new();
    for file in &set.file {
        for message in &file.message_type {
            collect(file.package(), message, &mut messages);
        }
    }
    let is_entry = |name: &str| {
        let options = messages.get(name).and_then(|message| message.options.as_ref());
        options.is_some_and(|options| options.map_entry())
    };
    let inner = |message: &DescriptorProto| -> Vec<(i32, String)> {
        let fields = message.field.iter().filter(|field| field.r#type() == Type::Message);
        fields
            .map(|field| (field.number(), field.type_name().trim_start_matches('.').to_owned()))
            .collect()
    };
    let mut holding: BTreeSet<String> = BTreeSet::new();
    loop {
        let more: Vec<String> = messages
            .iter()
            .filter(|(name, _)| !holding.contains(*name))
            .filter(|(_, message)| {
                inner(message)
                    .iter()
                    .any(|(_, of)| is_entry(of) || holding.contains(of))
            })
            .map(|(name, _)| name.clone())
            .collect();
        if more.is_empty() {
            break;
        }
        holding.extend(more);
    }
    let place = |name: &str| holding.iter().position(|held| held == name);
    let mut table = String::from("pub(crate) static MESSAGES: &[(&str, &[(u32, Holds)])] = &[\n");
    for name in &holding {
        let fields = inner(messages[name]).into_iter().filter_map(|(number, of)| {
            if is_entry(&of) {
                return Some(format!("({number}, Holds::Map({:?}))", place(&of)));
            }
            place(&of).map(|at| format!("({number}, Holds::Message({at}))"))
        });
        let fields: Vec<String> = fields.collect();
        table.push_str(&format!("    ({name:?}, &[{}]),\n", fields.join(", ")));
    }
    table.push_str("];\n");
    table
}

fn collect<'a>(prefix: &str, message: &'a DescriptorProto, into: &mut BTreeMap<String, &'a DescriptorProto>) {
    let name = format!("{prefix}.{}", message.name());
    for nested in &message.nested_type {
        collect(&name, nested, into);
    }
    into.insert(name, message);
}

/// The directory of the package.
fn package() -> Result<PathBuf, Box<dyn Error>> {
    let manifest = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("Cargo.toml");
    let output = Command::new(env::var("CARGO")?)
        .args(["metadata", "--format-version=1", "--offline", "--manifest-path"])
        .arg(&manifest)
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let found = packages
        .filter(|package| package["name"] == PACKAGE)
        .find_map(|package| package["manifest_path"].as_str());
    let manifest = found.ok_or_else(|| format!("cargo metadata does not name {PACKAGE}"))?;
    Ok(Path::new(manifest)
        .parent()
        .ok_or("a manifest is in a directory")?
        .to_owned())
}
