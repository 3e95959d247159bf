//! Takes the steps of a [`plan`](crate::plan) in a mount namespace of the container's own, and moves into the result.

use std::ffi::CString;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use corten_linux::mount_tree::{MountTree, make_read_only};
use corten_linux::mounts;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::plan::Step;
use crate::protocol::{Container, Failure, FailureKind, Volume};

/// What is put together, and where.
pub(crate) struct Rootfs<'a> {
    /// The container's own directory: `root` (where it is put together), written layers, `tmp`, `message`.
    pub(crate) layers: &'a Path,
    /// The pod's shared memory.
    pub(crate) shm: &'a Path,
    /// What to do.
    pub(crate) steps: &'a [Step],
    /// What it is for.
    pub(crate) container: &'a Container,
}

/// Devices of the host that every container has.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Kernel settings and the like, which an ordinary container may read.
const PROC_READ_ONLY: [&str; 5] = ["sys", "sysrq-trigger", "irq", "bus", "fs"];

/// The name of the file in `layers` behind the termination message path.
pub(crate) const MESSAGE: &str = "message";

impl Rootfs<'_> {
    /// Puts the root file system together and makes it this process's.
    pub(crate) fn enter(&self) -> Result<(), Failure> {
        mounts::make_private().map_err(|error| Failure::setup("make mounts private", error))?;
        let root = self.layers.join("root");
        make_dir(&root, 0o755)?;
        mount_at("tmpfs", &root, MountFlags::NODEV, "mode=755,size=50%")?;
        let mut written = Vec::new();
        for (number, step) in self.steps.iter().enumerate() {
            self.step(number, step, &root, &mut written)?;
        }
        self.etc_leftover(&root, &written)?;
        let volumes = self.volumes()?;
        pivot(&root)?;
        for (volume, tree) in volumes {
            let target = Path::new("/").join(volume.target.strip_prefix("/").unwrap_or(&volume.target));
            let attempt = || format!("mount {} at {}", volume.source.display(), target.display());
            make_target(&target, &tree).map_err(|error| invalid(attempt(), error))?;
            tree.tree
                .attach(&target)
                .map_err(|error| Failure::setup(attempt(), error))?;
        }
        if self.container.read_only_root {
            self.seal()?;
        }
        Ok(())
    }

    fn step(&self, number: usize, step: &Step, root: &Path, written: &mut Vec<String>) -> Result<(), Failure> {
        let within = |target: &Path| root.join(target.strip_prefix("/").unwrap_or(target));
        match step {
            Step::Directory { target, mode } => {
                // An empty directory that stands for one of the host has its permissions, such as those of /var/tmp.
                let host = fs::metadata(target)
                    .ok()
                    .filter(|found| found.is_dir() && *mode == 0o755);
                make_dir(
                    &within(target),
                    host.map_or(*mode, |found| found.permissions().mode() & 0o7777),
                )
            }
            Step::Symlink { target, to } => {
                symlink(to, within(target)).map_err(|error| Failure::setup(format!("link {}", target.display()), error))
            }
            Step::Overlay { target } => self.overlay(number, target, &within(target), written),
            Step::Mask { target } => self.mask(&within(target)),
            Step::ReadOnly { target } => read_only(target, &within(target)),
            Step::Proc { writable } => proc(&root.join("proc"), *writable),
            Step::Sys { writable } => sys(&root.join("sys"), *writable),
            Step::Dev => self.dev(&root.join("dev")),
            Step::Tmp => {
                let (own, target) = (self.layers.join("tmp"), root.join("tmp"));
                make_dir(&target, 0o1777)?;
                if self.container.read_only_root {
                    return Ok(());
                }
                make_dir(&own, 0o1777)?;
                bind(&own, &target)
            }
        }
    }

    /// An overlay over a directory of the host; shown read-only as it is where the kernel refuses one.
    fn overlay(&self, number: usize, lower: &Path, target: &Path, written: &mut Vec<String>) -> Result<(), Failure> {
        let mode = fs::metadata(lower).map_or(0o755, |found| found.permissions().mode() & 0o7777);
        make_dir(target, mode)?;
        let layer = |kind: &str| self.layers.join(format!("{kind}{number}"));
        let (upper, work) = (layer("upper"), layer("work"));
        make_dir(&upper, mode)?;
        make_dir(&work, 0o700)?;
        // Written before the mount, so that nothing of the host (a symbolic link to a file in its /run, say) is in the way.
        let inside = |path: &str| Path::new(path).strip_prefix(lower).ok().map(|rest| upper.join(rest));
        let mut seeded = Vec::new();
        for (path, content) in &self.container.etc {
            if let Some(file) = inside(path) {
                write_file(&file, content)?;
                seeded.push(path.clone());
            }
        }
        adopt(lower, &upper)?;
        let options = format!(
            "userxattr,volatile,lowerdir={},upperdir={},workdir={}",
            escape(lower),
            escape(&upper),
            escape(&work)
        );
        if mount_at("overlay", target, MountFlags::empty(), &options).is_ok() {
            written.extend(seeded);
            return Ok(());
        }
        bind(lower, target)?;
        make_read_only(target).map_err(|error| Failure::setup(format!("protect {}", lower.display()), error))
    }

    /// An empty directory that nothing can be written to, over one that must not be seen.
    fn mask(&self, target: &Path) -> Result<(), Failure> {
        if !target.is_dir() {
            return Ok(());
        }
        let empty = self.layers.join("empty");
        make_dir(&empty, 0o755)?;
        read_only(&empty, target)
    }

    /// Puts the pod's own files over those of the host, where `/etc` is not an overlay.
    fn etc_leftover(&self, root: &Path, written: &[String]) -> Result<(), Failure> {
        let left = self.container.etc.iter().filter(|(path, _)| !written.contains(path));
        for (number, (path, content)) in left.enumerate() {
            let own = self.layers.join(format!("etc{number}"));
            write_file(&own, content)?;
            let target = root.join(path.trim_start_matches('/'));
            if fs::symlink_metadata(&target).is_ok_and(|found| found.is_symlink()) {
                // The directory is one made for this container, so the link is its own.
                fs::remove_file(&target).map_err(|error| Failure::setup(format!("replace {path}"), error))?;
            }
            if fs::symlink_metadata(&target).is_err() {
                write_file(&target, "")?;
            }
            bind(&own, &target)?;
        }
        Ok(())
    }

    fn dev(&self, dev: &Path) -> Result<(), Failure> {
        make_dir(dev, 0o755)?;
        mount_at("tmpfs", dev, MountFlags::NOSUID, "mode=755,size=64k")?;
        for name in DEVICES {
            let host = Path::new("/dev").join(name);
            if host.exists() {
                let target = dev.join(name);
                write_file(&target, "")?;
                bind(&host, &target)?;
            }
        }
        for (name, to) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("ptmx", "pts/ptmx"),
        ] {
            symlink(to, dev.join(name)).map_err(|error| Failure::setup(format!("link /dev/{name}"), error))?;
        }
        let (pts, shm) = (dev.join("pts"), dev.join("shm"));
        make_dir(&pts, 0o755)?;
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        mount_at("devpts", &pts, flags, "newinstance,ptmxmode=0666,mode=0620")?;
        make_dir(&shm, 0o1777)?;
        bind(self.shm, &shm)
    }

    /// The volumes as trees, taken while the host is still visible.
    fn volumes(&self) -> Result<Vec<(Volume, Tree)>, Failure> {
        let mut volumes = self.container.volumes.clone();
        if let Some(target) = &self.container.termination_message_path {
            let source = self.layers.join(MESSAGE);
            write_file(&source, "")?;
            set_mode(&source, 0o666)?;
            volumes.push(Volume {
                source,
                target: target.clone(),
                ..Volume::default()
            });
        }
        let take = |volume: Volume| {
            let tree = Tree::of(&volume)?;
            Ok((volume, tree))
        };
        volumes.into_iter().map(take).collect()
    }

    /// Nothing of the root can be written to any more.
    fn seal(&self) -> Result<(), Failure> {
        let overlays = self.steps.iter().filter_map(|step| match step {
            Step::Overlay { target } => Some(target.as_path()),
            _ => None,
        });
        for path in overlays.chain([Path::new("/")]) {
            make_read_only(path)
                .map_err(|error| Failure::setup(format!("make {} read-only", path.display()), error))?;
        }
        Ok(())
    }
}

/// Makes directories of the container's root out of those whose owner has no id here: without it a container of an ordinary user could write to none of
/// them, `/var/log` for one. A directory in the upper layer is merged with that below, and its owner is the merged one's.
fn adopt(lower: &Path, upper: &Path) -> Result<(), Failure> {
    const NOBODY: u32 = 65_534;
    const OTHERS_MAY_LIST: u32 = 0o005;
    let owned_by_nobody = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.uid() == NOBODY);
    if !owned_by_nobody(lower) {
        return Ok(());
    }
    for entry in fs::read_dir(lower).into_iter().flatten().flatten() {
        let Ok(found) = entry.metadata() else {
            continue;
        };
        let mode = found.permissions().mode() & 0o7777;
        if found.is_dir() && found.uid() == NOBODY && mode & OTHERS_MAY_LIST == OTHERS_MAY_LIST {
            make_dir(&upper.join(entry.file_name()), mode)?;
        }
    }
    Ok(())
}

/// A volume on its way into the container.
struct Tree {
    tree: MountTree,
    is_dir: bool,
}

impl Tree {
    fn of(volume: &Volume) -> Result<Self, Failure> {
        let source = &volume.source;
        let attempt = || match &volume.sub_path {
            Some(sub_path) => format!("mount {} (sub path {})", source.display(), sub_path.display()),
            None => format!("mount {}", source.display()),
        };
        let file = match &volume.sub_path {
            Some(sub_path) => open_below(source, sub_path),
            None => rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(Into::into),
        };
        let file = file.map_err(|error| invalid(attempt(), error))?;
        let is_dir = fs::File::from(file.try_clone().map_err(|error| Failure::setup(attempt(), error))?)
            .metadata()
            .is_ok_and(|found| found.is_dir());
        let tree = MountTree::of_file(&file).map_err(|error| Failure::setup(attempt(), error))?;
        if volume.read_only {
            tree.read_only().map_err(|error| Failure::setup(attempt(), error))?;
        }
        Ok(Self { tree, is_dir })
    }
}

/// Opens a path inside a volume, made as directories when missing. A container may have put symbolic links into the volume, so the kernel is told to
/// refuse whatever leads out of it.
fn open_below(volume: &Path, sub_path: &Path) -> io::Result<std::os::fd::OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut at = rustix::fs::openat(CWD, volume, flags | OFlags::DIRECTORY, Mode::empty())?;
    match openat2(&at, sub_path, flags, Mode::empty(), resolve) {
        Err(rustix::io::Errno::NOENT) => {}
        other => return Ok(other?),
    }
    for part in sub_path.iter() {
        match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = openat2(&at, part, flags, Mode::empty(), resolve)?;
    }
    Ok(at)
}

/// Makes what a volume is mounted over.
fn make_target(target: &Path, tree: &Tree) -> io::Result<()> {
    match fs::metadata(target) {
        Ok(found) if found.is_dir() == tree.is_dir => return Ok(()),
        Ok(_) => {
            let what = if tree.is_dir {
                "a file is there, the volume is a directory"
            } else {
                "a directory is there, the volume is a file"
            };
            return Err(io::Error::other(what));
        }
        Err(_) => {}
    }
    if tree.is_dir {
        return fs::create_dir_all(target);
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    OpenOptions::new().create(true).append(true).open(target).map(drop)
}

/// Makes a directory the root of this mount namespace and forgets the old one.
fn pivot(root: &Path) -> Result<(), Failure> {
    let enter = || -> io::Result<()> {
        std::env::set_current_dir(root)?;
        // The old root ends up on top of the new one, and is the first to be found at ".".
        rustix::process::pivot_root(".", ".")?;
        unmount(".", UnmountFlags::DETACH)?;
        std::env::set_current_dir("/")
    };
    enter().map_err(|error| Failure::setup("enter the root file system", error))
}

fn proc(target: &Path, writable: bool) -> Result<(), Failure> {
    make_dir(target, 0o555)?;
    mounts::proc(target).map_err(|error| {
        let hint =
            "mount a fresh /proc (refused when the host's is partly hidden, as in a container of another runtime)";
        Failure::setup(hint, error)
    })?;
    if !writable {
        for name in PROC_READ_ONLY {
            let path = target.join(name);
            if path.exists() {
                read_only(&path, &path)?;
            }
        }
    }
    Ok(())
}

/// A view of the devices of the pod's network; the host's where a fresh one is refused (a network namespace that is not the pod's own).
fn sys(target: &Path, writable: bool) -> Result<(), Failure> {
    make_dir(target, 0o555)?;
    if mounts::sysfs(target).is_err() {
        return read_only(Path::new("/sys"), target);
    }
    if writable {
        return Ok(());
    }
    make_read_only(target).map_err(|error| Failure::setup("make /sys read-only", error))
}

fn read_only(source: &Path, target: &Path) -> Result<(), Failure> {
    let attempt = || format!("show {} read-only", source.display());
    let tree = MountTree::of(source).map_err(|error| Failure::setup(attempt(), error))?;
    tree.read_only().map_err(|error| Failure::setup(attempt(), error))?;
    if fs::symlink_metadata(target).is_err() {
        if source.is_dir() {
            make_dir(target, 0o755)?
        } else {
            write_file(target, "")?
        }
    }
    tree.attach(target).map_err(|error| Failure::setup(attempt(), error))
}

fn bind(source: &Path, target: &Path) -> Result<(), Failure> {
    MountTree::of(source)
        .and_then(|tree| tree.attach(target))
        .map_err(|error| Failure::setup(format!("bind {} to {}", source.display(), target.display()), error))
}

fn mount_at(kind: &str, target: &Path, flags: MountFlags, options: &str) -> Result<(), Failure> {
    let attempt = || format!("mount {kind} at {}", target.display());
    let options = CString::new(options).map_err(|error| Failure::setup(attempt(), error))?;
    mount(kind, target, kind, flags, Some(options.as_c_str())).map_err(|error| Failure::setup(attempt(), error))
}

/// A path as it is written in the options of an overlay.
fn escape(path: &Path) -> String {
    let mut text = String::new();
    for char in String::from_utf8_lossy(path.as_os_str().as_bytes()).chars() {
        if matches!(char, '\\' | ',' | ':') {
            text.push('\\');
        }
        text.push(char);
    }
    text
}

/// Makes a directory (and those above) with exactly this mode, whatever the umask.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(|error| Failure::setup(format!("make directory {}", path.display()), error))?;
    if mode == 0o755 { Ok(()) } else { set_mode(path, mode) }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Failure> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|error| Failure::setup(format!("set permissions of {}", path.display()), error))
}

fn write_file(path: &Path, content: &str) -> Result<(), Failure> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(path)?;
        file.write_all(content.as_bytes())
    };
    write().map_err(|error| Failure::setup(format!("write {}", path.display()), error))
}

/// What a container left in its termination message file, at most this many bytes of it.
pub(crate) fn termination_message(layers: &Path) -> Option<String> {
    const MESSAGE_MAX: u64 = 4096;
    let mut bytes = Vec::new();
    let file = fs::File::open(layers.join(MESSAGE)).ok()?;
    file.take(MESSAGE_MAX).read_to_end(&mut bytes).ok()?;
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

fn invalid(attempt: String, error: io::Error) -> Failure {
    Failure::new(FailureKind::Invalid, format!("{attempt}: {error}"))
}

/// Where the layers of the `number`th container of a pod are.
pub(crate) fn layers(scratch: &Path, name: &str, number: u64) -> PathBuf {
    scratch.join(format!("{name}-{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped_for_overlays() {
        assert_eq!(escape(Path::new("/a:b,c\\d e")), "/a\\:b\\,c\\\\d e");
    }

    #[test]
    fn a_sub_path_stays_inside_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("deep")).unwrap();
        symlink("/etc", volume.join("out")).unwrap();
        symlink("deep", volume.join("in")).unwrap();
        open_below(&volume, Path::new("made/on/demand")).unwrap();
        assert!(volume.join("made/on/demand").is_dir());
        open_below(&volume, Path::new("in")).unwrap();
        for outside in ["out", "out/passwd", "../volume", "out/new"] {
            assert!(open_below(&volume, Path::new(outside)).is_err(), "{outside}");
        }
        assert!(!Path::new("/etc/new").exists());
    }
}
