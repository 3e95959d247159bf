//! What the host's file system looks like, as far as the plan of a root file system needs to know.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// A directory this process may list and enter.
    Directory,
    /// A directory it may not.
    Closed,
    /// A symbolic link and where it points.
    Symlink(PathBuf),
    /// Anything else.
    File,
}

/// The questions that [`plan`](crate::plan) asks.
pub trait Host {
    /// The entries of a directory by name, in order.
    fn list(&self, dir: &Path) -> io::Result<Vec<(String, Entry)>>;
    /// Where something is mounted.
    fn mount_points(&self) -> &[PathBuf];
}

/// The file system this process sees.
#[derive(Debug)]
pub struct ThisHost {
    mount_points: Vec<PathBuf>,
}

impl ThisHost {
    /// Reads the table of mounts; directories are read when asked for.
    pub fn read() -> io::Result<Self> {
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(Self {
            mount_points: mount_points(&table),
        })
    }
}

impl Host for ThisHost {
    fn list(&self, dir: &Path) -> io::Result<Vec<(String, Entry)>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // A name that is not text cannot be planned for; the rest of the directory can.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = entry.path();
            let kind = entry.file_type()?;
            let kind = if kind.is_symlink() {
                Entry::Symlink(fs::read_link(&path)?)
            } else if !kind.is_dir() {
                Entry::File
            } else if accessat(CWD, &path, Access::READ_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok() {
                Entry::Directory
            } else {
                Entry::Closed
            };
            entries.push((name, kind));
        }
        entries.sort();
        Ok(entries)
    }

    fn mount_points(&self) -> &[PathBuf] {
        &self.mount_points
    }
}

/// The mount points of a `/proc/PID/mountinfo`, in which spaces and the like are written in octal.
fn mount_points(table: &str) -> Vec<PathBuf> {
    let field = |line: &str| line.split(' ').nth(4).map(unescape);
    let mut points: Vec<_> = table.lines().filter_map(field).collect();
    points.sort();
    points.dedup();
    points
}

fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) if byte == b'\\' => {
                bytes.push(escaped);
                rest = &after[3..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_spaces() {
        let table = "22 1 254:0 / / rw - ext4 /dev/vda rw\n23 22 0:5 / /mnt/a\\040b\\134c rw shared:1 - tmpfs t rw\n";
        assert_eq!(mount_points(table), [Path::new("/"), Path::new("/mnt/a b\\c")]);
    }

    #[test]
    fn this_host_has_a_root() {
        let host = ThisHost::read().unwrap();
        assert!(host.mount_points().contains(&PathBuf::from("/")));
        let entries = host.list(Path::new("/")).unwrap();
        assert!(
            entries
                .iter()
                .any(|(name, kind)| name == "etc" && *kind == Entry::Directory)
        );
    }
}
