//! Takes the descriptors of Envoy's messages from the package that has their types, without comments and options, and packs them.
//!
//! The package carries them, but its library does not show them; cargo is asked where the package is.

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

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
    let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&set.encode_to_vec())?;
    let out = Path::new(&env::var("OUT_DIR")?).join("descriptors.deflate");
    fs::write(out, packed.finish()?)?;
    Ok(())
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
