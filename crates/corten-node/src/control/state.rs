//! The last good configuration on disk: what the control plane sent and was accepted, to start with while it is away.
//!
//! One file, replaced whole, a moment after changes: bursts are written once. A file that cannot be read in full is not used at all.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use corten_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use corten_rt::Drain;
use corten_xds::client::Changes;
use rustix::fs::{FlockOperation, Mode, OFlags};
use tokio::sync::Notify;

/// What the file begins with: the name and version of its form.
const MAGIC: &[u8; 8] = b"corten\x001";
/// Changes gather for so long before they are written.
const GATHER: Duration = Duration::from_secs(1);

/// A resource that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its type.
    pub type_url: &'static str,
    /// Its name.
    pub name: String,
    /// The version it had.
    pub version: String,
    /// The message.
    pub body: Bytes,
}

type Resources = BTreeMap<(u8, String), (String, Bytes)>;

/// The file and what belongs into it.
pub struct State {
    path: PathBuf,
    resources: Mutex<Resources>,
    changed: Notify,
    /// Locked for as long as this proxy lives: whoever takes the mesh out of the node waits for that before the folder goes.
    _in_use: OwnedFd,
}

impl State {
    /// In a folder, which is made if it is not there, and which nobody but its owner enters from now on.
    pub fn open(folder: &Path) -> io::Result<Arc<State>> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
        let in_use = rustix::fs::open(
            folder,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        rustix::fs::flock(&in_use, FlockOperation::LockShared)?;
        Ok(Arc::new(State {
            path: folder.join("discovery"),
            resources: Mutex::default(),
            changed: Notify::new(),
            _in_use: in_use,
        }))
    }

    /// What was kept; nothing if there is no file, or none that can be read.
    pub fn load(&self) -> Vec<Kept> {
        let read = match std::fs::read(&self.path) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the last good configuration cannot be read");
                return Vec::new();
            }
        };
        let Some(resources) = decode(read.into()) else {
            tracing::warn!(path = %self.path.display(), "the last good configuration is damaged and not used");
            return Vec::new();
        };
        let kept = resources
            .iter()
            .filter_map(|((kind, name), (version, body))| {
                Some(Kept {
                    type_url: TYPES.get(usize::from(*kind))?,
                    name: name.clone(),
                    version: version.clone(),
                    body: body.clone(),
                })
            })
            .collect();
        *self.lock() = resources;
        kept
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Resources> {
        self.resources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the control plane sent, apart from what was refused.
    pub fn note(&self, changes: &Changes, refused: &[&str]) {
        let Some(kind) = TYPES.iter().position(|url| *url == changes.type_url) else {
            return;
        };
        let Ok(kind) = u8::try_from(kind) else { return };
        let mut resources = self.lock();
        for name in &changes.removed {
            resources.remove(&(kind, name.clone()));
        }
        for resource in changes
            .resources
            .iter()
            .filter(|resource| !refused.contains(&resource.name.as_str()))
        {
            let value = (resource.version.clone(), resource.body.clone());
            resources.insert((kind, resource.name.clone()), value);
        }
        drop(resources);
        self.changed.notify_one();
    }

    /// Writes changes until told to stop, and then once more.
    pub async fn run(self: Arc<Self>, mut drain: Drain) {
        loop {
            tokio::select! {
                () = drain.wait() => break,
                () = self.changed.notified() => {}
            }
            tokio::select! {
                () = drain.wait() => break,
                () = tokio::time::sleep(GATHER) => {}
            }
            self.write().await;
        }
        self.write().await;
    }

    async fn write(&self) {
        let bytes = encode(&self.lock());
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || replace(&path, &bytes)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(path = %self.path.display(), %error, "the configuration cannot be kept on disk");
        }
    }
}

const TYPES: [&str; 2] = [ADDRESS_TYPE, AUTHORIZATION_TYPE];

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = std::fs::File::create(&fresh)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    std::fs::rename(fresh, path)
}

fn encode(resources: &Resources) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_slice(MAGIC);
    out.put_u64(resources.len() as u64);
    for ((kind, name), (version, body)) in resources {
        out.put_u8(*kind);
        for part in [name.as_bytes(), version.as_bytes(), body] {
            out.put_u32(u32::try_from(part.len()).unwrap_or(u32::MAX));
            out.put_slice(part);
        }
    }
    out
}

fn decode(mut bytes: Bytes) -> Option<Resources> {
    fn part(bytes: &mut Bytes) -> Option<Bytes> {
        let length = bytes.try_get_u32().ok()? as usize;
        (bytes.len() >= length).then(|| bytes.split_to(length))
    }
    fn text(bytes: &mut Bytes) -> Option<String> {
        String::from_utf8(part(bytes)?.to_vec()).ok()
    }
    if bytes.len() < MAGIC.len() || bytes.split_to(MAGIC.len()) != MAGIC.as_slice() {
        return None;
    }
    let count = bytes.try_get_u64().ok()?;
    let mut resources = Resources::new();
    for _ in 0..count {
        let kind = bytes.try_get_u8().ok()?;
        let (name, version) = (text(&mut bytes)?, text(&mut bytes)?);
        resources.insert((kind, name), (version, part(&mut bytes)?));
    }
    bytes.is_empty().then_some(resources)
}

#[cfg(test)]
mod tests {
    use corten_xds::client::Named;

    use super::*;

    fn named(name: &str) -> Named {
        Named {
            name: name.to_owned(),
            version: "1".to_owned(),
            aliases: Vec::new(),
            body: Bytes::from_static(b"body"),
        }
    }

    fn changes(type_url: &'static str, resources: &[&str], removed: &[&str]) -> Changes {
        Changes {
            type_url,
            resources: resources.iter().map(|name| named(name)).collect(),
            removed: removed.iter().map(|name| (*name).to_owned()).collect(),
            first: false,
            bytes: 0,
        }
    }

    #[tokio::test]
    async fn what_was_accepted_comes_back_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        assert!(state.load().is_empty());
        state.note(&changes(ADDRESS_TYPE, &["a", "b", "bad"], &[]), &["bad"]);
        state.note(&changes(AUTHORIZATION_TYPE, &["p"], &[]), &[]);
        state.note(&changes(ADDRESS_TYPE, &[], &["b"]), &[]);
        state.write().await;
        let again = State::open(folder.path()).unwrap();
        let kept: Vec<(&str, String)> = again
            .load()
            .into_iter()
            .map(|kept| (kept.type_url, kept.name))
            .collect();
        assert_eq!(
            kept,
            [(ADDRESS_TYPE, "a".to_owned()), (AUTHORIZATION_TYPE, "p".to_owned())]
        );
    }

    #[test]
    fn a_damaged_file_is_not_used() {
        let resources = Resources::from([((0, "a".to_owned()), ("1".to_owned(), Bytes::from_static(b"x")))]);
        let good = encode(&resources);
        assert_eq!(decode(good.clone().into()), Some(resources));
        for length in 0..good.len() {
            assert_eq!(decode(Bytes::copy_from_slice(&good[..length])), None, "cut at {length}");
        }
    }
}
