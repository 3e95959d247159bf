//! Hearing of changes in directories.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

/// Hears of files that are written, moved or removed in some directories, from its making on.
#[derive(Debug)]
pub(crate) struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    /// Watches directories, all of which must be there.
    pub(crate) fn new(directories: &[&Path]) -> io::Result<Watch> {
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let changes = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ATTRIB;
        for directory in directories {
            inotify::add_watch(&queue, *directory, changes)?;
        }
        Ok(Watch(corten_linux::fds::watched(queue)?))
    }

    /// Resolves when something has changed. What has is found out by looking: events may be lost, what is there is not.
    pub(crate) async fn changed(&self) {
        // An error of the queue means as much as a change: look.
        let _ready = self.0.readable().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_happens_after_its_making_is_heard() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        std::fs::write(&file, "1").unwrap();
        type Change<'a> = &'a dyn Fn();
        let other = dir.path().join("b");
        let changes: [Change<'_>; 3] = [
            &|| std::fs::write(&file, "2").unwrap(),
            &|| std::fs::rename(&file, &other).unwrap(),
            &|| std::fs::remove_file(&other).unwrap(),
        ];
        for change in changes {
            let watch = Watch::new(&[dir.path()]).unwrap();
            change();
            watch.changed().await;
        }
        assert!(Watch::new(&[&dir.path().join("absent")]).is_err());
    }
}
