//! What the mesh leaves on a node when it goes: sockets, lists, what proxies kept, and the directories that were made for them.
//!
//! A directory that is mounted into a container is seen there, but its entry is on the node; so it is removed by the way of the node's first
//! process, whose root `/proc` shows. Only what is ours is removed: a directory that has anything else in it stays.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::install::host_path;

/// How often is looked whether a proxy still uses its directory.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// What there is to remove.
#[derive(Clone, Debug)]
pub(crate) struct Leavings {
    /// Files of ours; the directories that they are in go, too.
    pub(crate) files: Vec<PathBuf>,
    /// Where the node's proxies keep their state: no other than they write there.
    pub(crate) proxy_state: PathBuf,
    /// What stands before the node's own paths.
    pub(crate) host_prefix: PathBuf,
}

impl Leavings {
    /// Removes it all; a proxy that still runs is waited for until then.
    pub(crate) async fn remove(self, until: Instant) {
        let mut folders: Vec<PathBuf> = Vec::new();
        for file in &self.files {
            gone(file);
            folders.extend(file.parent().map(Path::to_owned));
        }
        match unused(&self.proxy_state, until).await {
            // Held until the directory is gone, so that no proxy begins to use it meanwhile.
            Ok(Some(_held)) => {
                let entries = std::fs::read_dir(&self.proxy_state).into_iter().flatten().flatten();
                entries.for_each(|entry| gone(&entry.path()));
                self.remove_folder(&self.proxy_state);
            }
            Ok(None) => tracing::warn!(
                folder = %self.proxy_state.display(),
                "stays behind: a node proxy still uses it; it is in memory and goes when the node restarts"
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(folder = %self.proxy_state.display(), %error, "stays behind"),
        }
        folders.sort();
        folders.dedup();
        folders.iter().for_each(|folder| self.remove_folder(folder));
    }

    /// Removes an empty directory from the node.
    fn remove_folder(&self, folder: &Path) {
        let on_node = || -> io::Result<PathBuf> {
            let folder = folder.canonicalize()?;
            let own = std::fs::read_to_string("/proc/self/mountinfo")?;
            let first = self.host_prefix.join("proc/1");
            let host = std::fs::read_to_string(first.join("mountinfo"))?;
            let path = host_path(&folder, &own, &host);
            let path = path.ok_or_else(|| io::Error::other("it is not seen on the node"))?;
            Ok(first.join("root").join(path.strip_prefix("/").unwrap_or(&path)))
        };
        match on_node().and_then(std::fs::remove_dir) {
            Ok(()) => tracing::debug!(folder = %folder.display(), "removed"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(folder = %folder.display(), %error, "a directory stays behind"),
        }
    }
}

/// Removes a file, if it is there.
fn gone(file: &Path) {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(file = %file.display(), %error, "a file stays behind");
        }
        _ => {}
    }
}

/// Waits until no proxy uses a directory, and keeps others from beginning to; nothing, if one does until the end. Proxies hold it with a
/// shared lock for as long as they live.
async fn unused(folder: &Path, until: Instant) -> io::Result<Option<OwnedFd>> {
    let held = rustix::fs::open(
        folder,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    loop {
        match rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(held)),
            Err(Errno::WOULDBLOCK) if Instant::now() < until => tokio::time::sleep(ASK_INTERVAL).await,
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(folder: &Path) -> OwnedFd {
        let held = rustix::fs::open(folder, OFlags::RDONLY, Mode::empty()).unwrap();
        rustix::fs::flock(&held, FlockOperation::LockShared).unwrap();
        held
    }

    /// The test's own root stands for the node's: the first process's would take more rights than a test has.
    fn node(dir: &Path) -> (Leavings, PathBuf) {
        let (run, state) = (dir.join("run"), dir.join("state"));
        let first = dir.join("proc/1");
        for folder in [&run, &state, &first] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::copy("/proc/self/mountinfo", first.join("mountinfo")).unwrap();
        std::os::unix::fs::symlink("/", first.join("root")).unwrap();
        for file in [run.join("a.sock"), state.join("discovery"), state.join("certificates")] {
            std::fs::write(file, "x").unwrap();
        }
        let leavings = Leavings {
            files: vec![run.join("a.sock"), run.join("never-there")],
            proxy_state: state,
            host_prefix: dir.to_owned(),
        };
        (leavings, run)
    }

    #[tokio::test]
    async fn files_and_directories_of_ours_go() {
        let dir = tempfile::tempdir().unwrap();
        let (leavings, run) = node(dir.path());
        leavings.clone().remove(Instant::now()).await;
        assert!(!run.exists() && !leavings.proxy_state.exists());
    }

    #[tokio::test]
    async fn what_is_not_ours_or_in_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (leavings, run) = node(dir.path());
        std::fs::write(run.join("of-another"), "x").unwrap();
        let proxy = lock(&leavings.proxy_state);
        leavings.clone().remove(Instant::now()).await;
        assert!(!run.join("a.sock").exists() && run.join("of-another").exists());
        assert!(leavings.proxy_state.join("discovery").exists());
        // It is waited for.
        let removing = leavings.clone().remove(Instant::now() + Duration::from_secs(60));
        tokio::join!(removing, async { drop(proxy) });
        assert!(!leavings.proxy_state.exists());
    }
}
