//! Files that change all at once: each version in a directory of its own, `..data` pointing at the present one.
//!
//! The scheme is Kubernetes' own, because programs watch for it: `key -> ..data/key`, `..data -> ..<time>`.
//! Knows nothing of where the contents come from.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;

use super::payload::Payload;

const DATA: &str = "..data";

/// Makes `dir` hold exactly `files`; true if anything changed. Readers see the old version or the new one, never a mixture.
pub(crate) fn write(dir: &Path, files: &Payload, now: Timestamp) -> io::Result<bool> {
    fs::create_dir_all(dir)?;
    let previous = fs::read_link(dir.join(DATA)).ok().map(|version| dir.join(version));
    if let Some(previous) = &previous
        && holds(previous, files)
    {
        return Ok(false);
    }
    let version = format!("..{}", now.strftime("%Y_%m_%d_%H_%M_%S.%N"));
    let new = dir.join(&version);
    fs::create_dir(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    for (path, file) in files {
        let path = new.join(inside(path)?);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut out = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        out.write_all(&file.data)?;
        // Not by the mode of `open`, which the umask would cut.
        out.set_permissions(fs::Permissions::from_mode(file.mode))?;
    }
    let next = dir.join("..data_tmp");
    let _ = fs::remove_file(&next);
    symlink(&version, &next)?;
    fs::rename(&next, dir.join(DATA))?;
    link_names(dir, files)?;
    if let Some(previous) = previous {
        // What cannot be removed is only litter in a directory that goes with the pod.
        let _ = fs::remove_dir_all(previous);
    }
    Ok(true)
}

/// One link for each first path component, and none besides.
fn link_names(dir: &Path, files: &Payload) -> io::Result<()> {
    let wanted: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let known = name
            .to_str()
            .is_some_and(|name| name.starts_with("..") || wanted.contains(name));
        // A directory of its own is the place of another volume's mount.
        if !known && !entry.file_type()?.is_dir() {
            fs::remove_file(entry.path())?;
        }
    }
    for name in wanted {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), link)?;
        }
    }
    Ok(())
}

/// The path, which must stay below the volume.
fn inside(path: &str) -> io::Result<PathBuf> {
    let path = PathBuf::from(path);
    if path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(path);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("path {} leaves the volume", path.display()),
    ))
}

/// The version on disk has just these files with these contents and modes.
fn holds(version: &Path, files: &Payload) -> bool {
    let same = |(path, file): (&String, &super::payload::File)| {
        let path = version.join(path);
        fs::metadata(&path).is_ok_and(|meta| meta.permissions().mode() & 0o777 == file.mode)
            && fs::read(&path).is_ok_and(|data| data == file.data)
    };
    version.is_dir() && files.iter().all(same) && count(version) == files.len()
}

fn count(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::super::payload::File;
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |data: &str| File {
            data: data.as_bytes().to_vec(),
            mode: 0o644,
        };
        files
            .iter()
            .map(|(path, data)| ((*path).to_owned(), file(data)))
            .collect()
    }

    fn shown(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .expect("the volume")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .filter(|name| !name.starts_with(".."))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_version_replaces_the_old_one_whole() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = temp.path().join("volume");
        let at = |second| Timestamp::from_second(second).expect("in range");
        assert!(write(&dir, &payload(&[("a", "1"), ("sub/b", "2")]), at(1)).expect("written"));
        assert_eq!(shown(&dir), ["a", "sub"]);
        assert_eq!(fs::read_to_string(dir.join("sub/b")).expect("readable"), "2");
        assert!(!write(&dir, &payload(&[("a", "1"), ("sub/b", "2")]), at(2)).expect("nothing to do"));

        assert!(write(&dir, &payload(&[("a", "3"), ("c", "4")]), at(3)).expect("written"));
        assert_eq!(shown(&dir), ["a", "c"]);
        assert_eq!(fs::read_to_string(dir.join("a")).expect("readable"), "3");
        let hidden = fs::read_dir(&dir).expect("the volume").count() - shown(&dir).len();
        assert_eq!(hidden, 2, "..data and the one version it points at");
    }

    #[test]
    fn a_path_that_leaves_the_volume_is_refused() {
        let temp = tempfile::tempdir().expect("a directory");
        let error = write(temp.path(), &payload(&[("../x", "1")]), Timestamp::UNIX_EPOCH);
        assert_eq!(error.expect_err("refused").kind(), io::ErrorKind::InvalidInput);
    }
}
