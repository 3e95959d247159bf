//! Mounts as open files: a part of the file system is taken (`open_tree`), changed while nobody sees it, and put in place.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

/// A copy of a mounted tree that is not (yet) visible anywhere.
#[derive(Debug)]
pub struct MountTree {
    tree: OwnedFd,
}

impl MountTree {
    /// Takes a directory or file with everything mounted below it.
    pub fn of(path: &Path) -> io::Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        Ok(Self {
            tree: open_tree(CWD, path, flags)?,
        })
    }

    /// Takes what an open file is, with everything mounted below it.
    pub fn of_file(file: impl AsFd) -> io::Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_EMPTY_PATH;
        Ok(Self {
            tree: open_tree(file, c"", flags)?,
        })
    }

    /// Makes all of it read-only.
    pub fn read_only(&self) -> io::Result<()> {
        set_read_only(&self.tree, c"", libc::AT_RECURSIVE | libc::AT_EMPTY_PATH)
    }

    /// Puts it in place.
    pub fn attach(self, target: &Path) -> io::Result<()> {
        Ok(move_mount(
            &self.tree,
            c"",
            CWD,
            target,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )?)
    }
}

/// Makes the mount at a path read-only, without the mounts below it.
pub fn make_read_only(mounted: &Path) -> io::Result<()> {
    let file = rustix::fs::open(
        mounted,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    set_read_only(&file, c"", libc::AT_EMPTY_PATH)
}

fn set_read_only(file: &OwnedFd, path: &std::ffi::CStr, flags: libc::c_int) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a C string and the structure lives until the call returns; the size given is its size.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            file.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing::{Isolation, isolated};

    #[test]
    fn a_tree_appears_elsewhere_and_can_be_made_read_only() {
        match isolated() {
            Isolation::Inside => {}
            Isolation::Done => return,
            Isolation::Refused(reason) => corten_rt::skip!("{reason}"),
        }
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("file"), "content").unwrap();
        let tree = MountTree::of(&from).unwrap();
        tree.read_only().unwrap();
        tree.attach(&to).unwrap();
        assert_eq!(fs::read_to_string(to.join("file")).unwrap(), "content");
        let refused = fs::write(to.join("file"), "other").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
        fs::write(from.join("file"), "the original stays writable").unwrap();
        crate::mounts::detach(&to).unwrap();
    }
}
