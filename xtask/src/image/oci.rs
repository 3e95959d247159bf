//! OCI image archives: layers, images that share them, and the index that names the images.
//!
//! The same content gives the same bytes: entries are sorted, times are zero, and nobody's user name is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What lies at a path of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A file that may be executed.
    Program(Vec<u8>),
    /// A file.
    File(Vec<u8>),
    /// Another name of what lies there.
    Link(String),
    /// A directory with this mode; parents that have no entry get 0755.
    Directory(u32),
}

/// The files of a layer by path, without a leading slash.
pub(crate) type Files = BTreeMap<String, Entry>;

/// A compressed layer.
#[derive(Debug)]
pub(crate) struct Layer {
    gzip: Vec<u8>,
    /// The digest of the tar inside.
    diff_id: String,
}

/// An image: which layers, and how it is run.
#[derive(Debug)]
pub(crate) struct Image<'a> {
    /// The whole name, `registry/name:tag`.
    pub(crate) name: String,
    pub(crate) layers: Vec<&'a Layer>,
    pub(crate) entrypoint: Vec<String>,
    /// `uid:gid`.
    pub(crate) user: &'static str,
    /// Labels, by key.
    pub(crate) labels: BTreeMap<String, String>,
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl Layer {
    /// Packs files.
    pub(crate) fn new(files: &Files) -> Result<Self> {
        let tar = pack(files)?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::new(6));
        gzip.write_all(&tar)?;
        Ok(Self {
            gzip: gzip.finish()?,
            diff_id: digest(&tar),
        })
    }

    /// Its size in the archive, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.gzip.len()
    }
}

fn header(size: usize, kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size as u64);
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// A tar of files with the directories they lie in.
fn pack(files: &Files) -> io::Result<Vec<u8>> {
    let mut parents = BTreeSet::new();
    for path in files.keys() {
        parents.extend(path.match_indices('/').map(|(end, _)| &path[..end]));
    }
    let implied = parents.into_iter().filter(|path| !files.contains_key(*path));
    let directory = Entry::Directory(0o755);
    let mut entries: BTreeMap<&str, &Entry> = implied.map(|path| (path, &directory)).collect();
    entries.extend(files.iter().map(|(path, entry)| (path.as_str(), entry)));
    let mut archive = tar::Builder::new(Vec::new());
    for (path, entry) in entries {
        let (kind, mode, bytes): (_, _, &[u8]) = match entry {
            Entry::Program(bytes) => (tar::EntryType::Regular, 0o755, bytes),
            Entry::File(bytes) => (tar::EntryType::Regular, 0o644, bytes),
            Entry::Directory(mode) => (tar::EntryType::Directory, *mode, &[]),
            Entry::Link(to) => {
                archive.append_link(&mut header(0, tar::EntryType::Symlink, 0o777), path, to)?;
                continue;
            }
        };
        archive.append_data(&mut header(bytes.len(), kind, mode), path, bytes)?;
    }
    archive.into_inner()
}

/// The blobs of an archive, and what its index says.
#[derive(Default)]
struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    /// Adds one; its descriptor.
    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = digest(&bytes);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        self.0.insert(digest.replacen(':', "/", 1), bytes);
        descriptor
    }
}

/// Writes an archive of images for one machine, which are found by name where it is imported.
pub(crate) fn write(images: &[Image<'_>], architecture: &str, output: impl Write) -> Result<()> {
    let mut blobs = Blobs::default();
    let mut manifests = Vec::new();
    for image in images {
        let diff_ids: Vec<&str> = image.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {
                "Entrypoint": image.entrypoint,
                "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
                "User": image.user,
                "WorkingDir": "/",
                "Labels": image.labels,
            },
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = blobs.add("application/vnd.oci.image.config.v1+json", serde_json::to_vec(&config)?);
        let layers = image
            .layers
            .iter()
            .map(|layer| blobs.add("application/vnd.oci.image.layer.v1.tar+gzip", layer.gzip.clone()));
        let layers: Vec<Value> = layers.collect();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
        let mut descriptor = blobs.add(media_type, serde_json::to_vec(&manifest)?);
        // The first is what containerd names an imported image by; the second is of the specification, and other tools read it.
        descriptor["annotations"] = json!({
            "io.containerd.image.name": image.name,
            "org.opencontainers.image.ref.name": image.name,
        });
        descriptor["platform"] = json!({"architecture": architecture, "os": "linux"});
        manifests.push(descriptor);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    });
    let mut archive = tar::Builder::new(output);
    let mut add = |path: &str, bytes: &[u8]| {
        archive.append_data(&mut header(bytes.len(), tar::EntryType::Regular, 0o644), path, bytes)
    };
    add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    add("index.json", &serde_json::to_vec(&index)?)?;
    for (path, bytes) in &blobs.0 {
        add(&format!("blobs/{path}"), bytes)?;
    }
    archive.into_inner()?.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn unpack(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            assert_eq!(entry.header().mtime().unwrap(), 0);
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().to_string_lossy().into_owned(), content)
        });
        entries.collect()
    }

    fn files() -> Files {
        Files::from([
            ("usr/bin/a".into(), Entry::Program(b"program".to_vec())),
            ("usr/bin/b".into(), Entry::Link("a".into())),
            ("etc/passwd".into(), Entry::File(b"root".to_vec())),
            ("tmp".into(), Entry::Directory(0o1777)),
        ])
    }

    fn archive() -> Vec<u8> {
        let layer = Layer::new(&files()).unwrap();
        let image = |name: &str, user| Image {
            name: name.to_owned(),
            layers: vec![&layer],
            entrypoint: vec!["/usr/bin/a".into()],
            user,
            labels: BTreeMap::new(),
        };
        let mut bytes = Vec::new();
        write(
            &[image("example.org/a:1", "0:0"), image("example.org/b:1", "1337:1337")],
            "amd64",
            &mut bytes,
        )
        .unwrap();
        bytes
    }

    #[test]
    fn every_descriptor_leads_to_what_it_names() {
        let files = unpack(&archive());
        let blob = |descriptor: &Value| {
            let name = descriptor["digest"].as_str().unwrap().to_owned();
            let bytes = files[&format!("blobs/{}", name.replace(':', "/"))].clone();
            assert_eq!(digest(&bytes), name);
            assert_eq!(descriptor["size"], bytes.len());
            bytes
        };
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        assert_eq!(json(&files["oci-layout"])["imageLayoutVersion"], "1.0.0");
        let index = json(&files["index.json"]);
        let mut layers = BTreeSet::new();
        for (descriptor, user) in index["manifests"].as_array().unwrap().iter().zip(["0:0", "1337:1337"]) {
            let manifest = json(&blob(descriptor));
            let config = json(&blob(&manifest["config"]));
            assert_eq!(config["config"]["User"], user);
            let layer = blob(&manifest["layers"][0]);
            let mut tar = Vec::new();
            flate2::read::GzDecoder::new(&layer[..]).read_to_end(&mut tar).unwrap();
            assert_eq!(config["rootfs"]["diff_ids"][0], digest(&tar));
            assert_eq!(unpack(&tar)["usr/bin/a"], b"program");
            layers.insert(digest(&layer));
        }
        assert_eq!(layers.len(), 1, "images share a layer");
    }

    #[test]
    fn directories_come_before_what_is_in_them() {
        let tar = pack(&files()).unwrap();
        let mut archive = tar::Archive::new(&tar[..]);
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let link = entry.link_name().unwrap().map(|to| to.to_string_lossy().into_owned());
            assert_eq!(link, entry.path().unwrap().ends_with("b").then(|| "a".to_owned()));
            let mode = entry.header().mode().unwrap();
            (entry.path().unwrap().to_string_lossy().into_owned(), mode)
        });
        let expected = [
            ("etc", 0o755),
            ("etc/passwd", 0o644),
            ("tmp", 0o1777),
            ("usr", 0o755),
            ("usr/bin", 0o755),
            ("usr/bin/a", 0o755),
            ("usr/bin/b", 0o777),
        ];
        assert_eq!(
            entries.collect::<Vec<_>>(),
            expected.map(|(path, mode)| (path.to_owned(), mode))
        );
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        assert_eq!(archive(), archive());
    }
}
