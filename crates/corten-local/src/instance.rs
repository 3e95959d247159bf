//! Where an instance of the runtime keeps its state, and who is running it.
//!
//! Several instances live side by side under one directory, each in a folder of its name.
//! Knows nothing of what the files hold.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The name of the instance when none is given.
pub const DEFAULT_NAME: &str = "default";

/// Room that must be free on the disk of the state directory before anything starts, in bytes.
const FREE_MIN: u64 = 16 << 20;

/// An instance's place on disk. Making this value touches nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    name: String,
    dir: PathBuf,
}

/// Why there can be no instance of this name or in this place.
#[derive(Debug, Error)]
pub enum InstanceError {
    /// The name would not do as a folder or host name.
    #[error(
        "{0:?} cannot name an instance: use 1 to 40 lower-case letters, digits and '-', beginning and ending with a letter or digit"
    )]
    Name(String),
    /// Neither a state directory nor a home is known.
    #[error("no place for the state: set XDG_STATE_HOME or HOME to an absolute path")]
    NoHome,
    /// The directory cannot be made or written.
    #[error("cannot use the state directory {}: {source}", dir.display())]
    Unusable {
        /// Which directory.
        dir: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The disk is (nearly) full.
    #[error("the disk of {} is full ({} KiB free, at least {} KiB are needed): make room there, or set XDG_STATE_HOME to a directory on another disk", dir.display(), free >> 10, FREE_MIN >> 10)]
    Full {
        /// Which directory.
        dir: PathBuf,
        /// Bytes free.
        free: u64,
    },
}

/// The processes of a running instance, by their numbers outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process the user started (or that was detached for them).
    pub pid: i32,
    /// Process 1 of the runtime's own PID namespace, once it is there.
    pub process_one: Option<i32>,
}

/// The right to run an instance; it lasts until every process that has this file open is gone.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// What trying to take the lock came to.
#[derive(Debug)]
pub enum Locked {
    /// It is ours.
    Ours(Lock),
    /// Somebody runs the instance. `None` if they did not get as far as to say who they are.
    Taken(Option<Holder>),
}

/// The directory of all instances: `$XDG_STATE_HOME/corten`, or `~/.local/state/corten`.
pub fn state_home(xdg_state_home: Option<&Path>, home: Option<&Path>) -> Result<PathBuf, InstanceError> {
    // As the XDG specification has it, a relative path is to be ignored.
    let absolute = |path: Option<&Path>| path.filter(|path| path.is_absolute()).map(Path::to_owned);
    let state = absolute(xdg_state_home).or_else(|| Some(absolute(home)?.join(".local/state")));
    Ok(state.ok_or(InstanceError::NoHome)?.join("corten"))
}

impl Instance {
    /// The instance of this name below the directory of all of them.
    pub fn new(state_home: &Path, name: &str) -> Result<Self, InstanceError> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty()
            || name.len() > 40
            || !name.chars().all(inner)
            || name.starts_with('-')
            || name.ends_with('-')
        {
            return Err(InstanceError::Name(name.to_owned()));
        }
        Ok(Self {
            name: name.to_owned(),
            dir: state_home.join(name),
        })
    }

    /// All instances that left a folder there, by name.
    pub fn all(state_home: &Path) -> Vec<Self> {
        let names = fs::read_dir(state_home).into_iter().flatten().flatten();
        let mut all: Vec<Self> = names
            .filter_map(|entry| Self::new(state_home, entry.file_name().to_str()?).ok())
            .filter(Instance::exists)
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The kubeconfig it writes.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// Objects and keys.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The logs of pods and their volumes that are not kept in memory.
    pub fn pods_dir(&self) -> PathBuf {
        self.dir.join("pods")
    }

    /// The log of the runtime itself.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The socket on which the running instance takes requests.
    pub fn control_socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    /// The port the API had last, so that a kubeconfig stays right over a restart.
    pub fn last_port(&self) -> Option<u16> {
        fs::read_to_string(self.dir.join("port")).ok()?.trim().parse().ok()
    }

    /// Notes the port of the API for the next time.
    pub fn remember_port(&self, port: u16) -> io::Result<()> {
        fs::write(self.dir.join("port"), format!("{port}\n"))
    }

    /// Whether it was ever started here.
    pub fn exists(&self) -> bool {
        self.dir.join("lock").exists()
    }

    /// Makes its directories, readable by their owner only, and looks whether there is room.
    pub fn prepare(&self) -> Result<(), InstanceError> {
        for dir in [self.dir.clone(), self.data_dir(), self.pods_dir()] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            made.map_err(|source| self.unusable(dir, source))?;
        }
        let disk = rustix::fs::statvfs(&self.dir).map_err(|error| self.unusable(self.dir.clone(), error.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < FREE_MIN {
            return Err(InstanceError::Full {
                dir: self.dir.clone(),
                free,
            });
        }
        Ok(())
    }

    fn unusable(&self, dir: PathBuf, source: io::Error) -> InstanceError {
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return InstanceError::Full { dir, free: 0 };
        }
        InstanceError::Unusable { dir, source }
    }

    /// Takes the lock if nobody has it.
    pub fn lock(&self) -> Result<Locked, InstanceError> {
        let path = self.dir.join("lock");
        let open = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let mut file = open.map_err(|source| self.unusable(path.clone(), source))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Locked::Ours(Lock { file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Locked::Taken(read_holder(&mut file))),
            Err(error) => Err(self.unusable(path, error.into())),
        }
    }

    /// Who runs it, if anybody does. Touches nothing.
    pub fn holder(&self) -> Option<Holder> {
        let mut file = File::open(self.dir.join("lock")).ok()?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            // Closing the file gives the shared lock back.
            Ok(()) => None,
            Err(_) => Some(read_holder(&mut file).unwrap_or_default()),
        }
    }

    /// Forgets everything it kept.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.dir)
    }
}

fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

impl Lock {
    /// Writes who holds it.
    pub fn write(&mut self, holder: Holder) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(serde_json::to_string(&holder)?.as_bytes())
    }

    /// The same lock for another process; it is free again when both have let go.
    pub fn share(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_name(name: &str, good: bool) {
        assert_eq!(Instance::new(Path::new("/state"), name).is_ok(), good, "{name:?}");
    }

    #[test]
    fn names_are_folder_and_host_names() {
        check_name("default", true);
        check_name("a-1", true);
        for bad in ["", "-a", "a-", "A", "a/b", "..", "a b", &"x".repeat(41)] {
            check_name(bad, false);
        }
    }

    #[test]
    fn the_state_home_follows_the_xdg_rules() {
        let home = |xdg: Option<&str>, home: Option<&str>| {
            state_home(xdg.map(Path::new), home.map(Path::new))
                .ok()
                .map(|path| path.display().to_string())
        };
        assert_eq!(home(Some("/s"), Some("/h")).as_deref(), Some("/s/corten"));
        assert_eq!(
            home(Some("relative"), Some("/h")).as_deref(),
            Some("/h/.local/state/corten")
        );
        assert_eq!(home(None, Some("/h")).as_deref(), Some("/h/.local/state/corten"));
        assert_eq!(home(None, None), None);
    }

    #[test]
    fn the_lock_has_one_holder_who_says_who_they_are() {
        let home = tempfile::tempdir().unwrap();
        let instance = Instance::new(home.path(), "one").unwrap();
        assert!(!instance.exists());
        instance.prepare().unwrap();
        let Locked::Ours(mut lock) = instance.lock().unwrap() else {
            panic!("nobody else has it")
        };
        let me = Holder {
            pid: 42,
            process_one: Some(43),
        };
        lock.write(me).unwrap();
        assert_eq!(instance.holder(), Some(me));
        assert!(matches!(instance.lock().unwrap(), Locked::Taken(Some(holder)) if holder == me));
        let shared = lock.share().unwrap();
        drop(lock);
        assert_eq!(instance.holder(), Some(me), "the other process still has it");
        drop(shared);
        assert_eq!(instance.holder(), None);
        assert_eq!(Instance::all(home.path()), [instance]);
    }

    #[test]
    fn an_unusable_place_is_named() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("file"), "").unwrap();
        let instance = Instance::new(&home.path().join("file"), "one").unwrap();
        let error = instance.prepare().unwrap_err().to_string();
        assert!(
            error.contains("file/one") && error.contains("Not a directory"),
            "{error}"
        );
    }
}
