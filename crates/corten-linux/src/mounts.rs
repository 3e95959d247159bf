//! Mounts, as a process in its own mount namespace makes them.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, move_mount,
    open_tree, unmount,
};

/// Cuts the mount namespace off: what is mounted here is not seen outside, and the other way round.
pub fn make_private() -> io::Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(mount_change("/", flags)?)
}

/// The processes of this PID namespace at `target`.
pub fn proc(target: &Path) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount("proc", target, "proc", flags, None)?)
}

/// The devices and interfaces of this network namespace at `target`.
pub fn sysfs(target: &Path) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount("sysfs", target, "sysfs", flags, None)?)
}

/// An empty file system in memory at `target`.
pub fn tmpfs(target: &Path, mode: u32) -> io::Result<()> {
    let options = std::ffi::CString::new(format!("mode={mode:o}"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount("tmpfs", target, "tmpfs", flags, Some(options.as_c_str()))?)
}

/// Makes `source`, with everything mounted below it, visible at `target` too.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_bind_recursive(source, target)?)
}

/// Takes away what is mounted at `target`, at once from the tree and in fact when nobody uses it any more.
pub fn detach(target: &Path) -> io::Result<()> {
    Ok(unmount(target, UnmountFlags::DETACH)?)
}

/// Replaces a directory by one in memory that shows the old content by bind mounts,
/// so that new entries can be made there which nobody outside sees (and without permission to write to the original).
///
/// Entries that cannot be bound are left out and returned.
pub fn shadow(directory: &Path) -> io::Result<Vec<String>> {
    let tree = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let content = if kind.is_symlink() {
            Content::Link(fs::read_link(entry.path())?)
        } else {
            match open_tree(CWD, entry.path(), tree) {
                Ok(clone) if kind.is_dir() => Content::Directory(clone),
                Ok(clone) => Content::File(clone),
                Err(_) => Content::Refused,
            }
        };
        entries.push((entry.file_name(), content));
    }
    tmpfs(directory, 0o755)?;
    let mut refused = Vec::new();
    for (name, content) in entries {
        let target = directory.join(&name);
        let placed = match content {
            Content::Link(to) => std::os::unix::fs::symlink(to, &target),
            Content::Directory(clone) => fs::create_dir(&target).and_then(|()| attach(clone, &target)),
            Content::File(clone) => fs::write(&target, "").and_then(|()| attach(clone, &target)),
            Content::Refused => Err(io::ErrorKind::PermissionDenied.into()),
        };
        if placed.is_err() {
            refused.push(name.to_string_lossy().into_owned());
        }
    }
    Ok(refused)
}

/// What an entry of a shadowed directory was.
enum Content {
    Directory(std::os::fd::OwnedFd),
    File(std::os::fd::OwnedFd),
    Link(std::path::PathBuf),
    Refused,
}

/// Puts a detached mount into the tree.
fn attach(tree: impl AsFd, target: &Path) -> io::Result<()> {
    Ok(move_mount(
        tree,
        "",
        CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?)
}

/// Mounts a fresh [`sysfs`] over `/sys` that still shows the control groups of the old one.
pub fn fresh_sys() -> io::Result<()> {
    let tree = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let groups = Path::new("/sys/fs/cgroup");
    let old = open_tree(CWD, groups, tree);
    sysfs(Path::new("/sys"))?;
    if let Ok(old) = old {
        // Without them programs only lose the sight of their own limits.
        let _ = attach(old, groups);
    }
    Ok(())
}
