//! hostPath volumes: the host's own files, with the check or creation that their type asks for.
//!
//! All nodes share one machine, yet some places belong to a node: where its sockets are, where its CNI chain is configured.
//! Those are looked up in the node's own directories.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The places of the host that each node has for itself.
#[derive(Clone, Debug, Default)]
pub struct HostPaths(Vec<(PathBuf, PathBuf)>);

impl HostPaths {
    /// The places that make a node: `run` stands in for `/run` and `/var/run`, `proc` for the processes of all pods, the others for
    /// where CNI looks.
    pub fn of_node(run: &Path, proc: &Path, cni_conf: &Path, cni_bin: &Path) -> Self {
        let pairs = [
            ("/proc", proc),
            ("/run", run),
            ("/var/run", run),
            ("/etc/cni/net.d", cni_conf),
            ("/opt/cni/bin", cni_bin),
        ];
        Self(pairs.map(|(place, own)| (place.into(), own.into())).into())
    }

    /// Where a path of the node is on this machine.
    pub(crate) fn find(&self, path: &str) -> PathBuf {
        let path = Path::new(path);
        let inside = |(place, own): &(PathBuf, PathBuf)| path.strip_prefix(place).ok().map(|rest| own.join(rest));
        // Joining an empty rest leaves a slash at the end, which a socket's or a file's path must not have.
        let found = self.0.iter().find_map(inside).map(|own| own.components().collect());
        found.unwrap_or_else(|| path.to_owned())
    }
}

/// Checks (or makes) what a hostPath of this type stands for.
pub(crate) fn prepare(at: &Path, kind: &str) -> Result<(), String> {
    let path = at.display();
    let fails = |what: &str| Err(format!("hostPath type check failed: {path} is not {what}"));
    let type_of = |path: &Path| fs::metadata(path).map(|meta| meta.file_type());
    let described = |error: io::Error| format!("hostPath {path}: {error}");
    match kind {
        // Nothing is checked; as container engines do, a missing path becomes a directory.
        "" => {
            if !at.exists() {
                make_dir(at).map_err(described)?;
            }
        }
        "DirectoryOrCreate" => {
            if !at.exists() {
                make_dir(at).map_err(described)?;
            }
            if !at.is_dir() {
                return fails("a directory");
            }
        }
        "Directory" if !at.is_dir() => return fails("a directory"),
        "FileOrCreate" => {
            if !at.exists() {
                let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(at);
                made.map_err(described)?;
            }
            if !at.is_file() {
                return fails("a file");
            }
        }
        "File" if !at.is_file() => return fails("a file"),
        "Socket" if !type_of(at).is_ok_and(|of| of.is_socket()) => return fails("a socket file"),
        "CharDevice" if !type_of(at).is_ok_and(|of| of.is_char_device()) => return fails("a character device"),
        "BlockDevice" if !type_of(at).is_ok_and(|of| of.is_block_device()) => return fails("a block device"),
        "Directory" | "File" | "Socket" | "CharDevice" | "BlockDevice" => {}
        other => return Err(format!("{other} is an invalid volume type")),
    }
    Ok(())
}

fn make_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_checked_or_made() {
        let temp = tempfile::tempdir().expect("a directory");
        let path = |name: &str| temp.path().join(name).to_string_lossy().into_owned();
        fs::write(path("file"), "").expect("a file");
        let check = |name: &str, kind: &str, expect: Result<(), &str>| {
            let outcome = prepare(Path::new(&path(name)), kind).map_err(|error| error.replace(&path(name), name));
            assert_eq!(
                outcome.as_ref().map_err(String::as_str),
                expect.as_ref().map_err(|error| *error),
                "{name} {kind}"
            );
        };
        check("file", "File", Ok(()));
        check(
            "file",
            "Directory",
            Err("hostPath type check failed: file is not a directory"),
        );
        check(
            "file",
            "Socket",
            Err("hostPath type check failed: file is not a socket file"),
        );
        check("gone", "File", Err("hostPath type check failed: gone is not a file"));
        check("made/dir", "DirectoryOrCreate", Ok(()));
        check("made/dir", "Directory", Ok(()));
        check("made/file", "FileOrCreate", Ok(()));
        check("made/file", "File", Ok(()));
        check("any", "", Ok(()));
        check("any", "Directory", Ok(()));
        check("any", "Floppy", Err("Floppy is an invalid volume type"));
    }

    #[test]
    fn a_node_has_places_of_its_own() {
        let paths = HostPaths::of_node(
            Path::new("/n/run"),
            Path::new("/n/proc"),
            Path::new("/n/net.d"),
            Path::new("/n/bin"),
        );
        for (path, expect) in [
            ("/var/run/ztunnel", "/n/run/ztunnel"),
            ("/run", "/n/run"),
            ("/runner", "/runner"),
            ("/etc/cni/net.d", "/n/net.d"),
            ("/opt/cni/bin/x", "/n/bin/x"),
            ("/proc/1/ns/net", "/n/proc/1/ns/net"),
            ("/etc", "/etc"),
        ] {
            assert_eq!(paths.find(path), Path::new(expect));
        }
    }
}
