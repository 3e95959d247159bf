//! Files that others replace while we run: read again when they changed.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

/// A file whose content is wanted as it is now.
///
/// It is read when its time of change, size or inode are others than at the last reading: Kubernetes replaces mounted
/// files by renaming a directory, which changes all of them.
#[derive(Debug)]
pub struct Watched {
    path: PathBuf,
    seen: Mutex<Option<Stamp>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl Watched {
    /// Nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Watched {
        Watched {
            path: path.into(),
            seen: Mutex::new(None),
        }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content, if it may be another than the last time it was asked for.
    pub fn changed(&self) -> std::io::Result<Option<Vec<u8>>> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(&self.path)?;
        let stamp = Stamp {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            inode: metadata.ino(),
        };
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if seen.as_ref() == Some(&stamp) {
            return Ok(None);
        }
        let content = std::fs::read(&self.path)?;
        *seen = Some(stamp);
        Ok(Some(content))
    }
}
