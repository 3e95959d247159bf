//! Finding the network namespace of a pod that runs already: by its processes.
//!
//! On Kubernetes a process's control group names its pod. The local runtime has no control groups; there the first process of a pod has
//! the pod's uid as its argument.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The first process of a pod in the local runtime.
const POD_PROCESS: &str = "corten-pod";

/// The namespaces of pods, as paths, by the pods' uids.
///
/// Of several processes of a pod the oldest counts: a later one may have made itself a namespace of its own. `proc` is the node's `/proc`;
/// pods in the namespace with the inode `own`, the node's, are left out.
pub fn scan(proc: &Path, own: u64) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut oldest: BTreeMap<String, (u64, PathBuf)> = BTreeMap::new();
    for entry in fs::read_dir(proc)? {
        let Ok(entry) = entry else { continue };
        let is_process = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.parse::<u32>().is_ok());
        if !is_process {
            continue;
        }
        // Processes end at any moment; those that did are no error.
        let dir = entry.path();
        let Some(uid) = pod_of(&dir) else { continue };
        let namespace = dir.join("ns/net");
        let Ok(inode) = fs::metadata(&namespace).map(|found| found.ino()) else {
            continue;
        };
        let Some(started) = (inode != own).then(|| start_time(&dir)).flatten() else {
            continue;
        };
        match oldest.get(&uid) {
            Some((before, _)) if *before <= started => {}
            _ => drop(oldest.insert(uid, (started, namespace))),
        }
    }
    Ok(oldest.into_iter().map(|(uid, (_, path))| (uid, path)).collect())
}

/// The uid of the pod that a process belongs to.
fn pod_of(process: &Path) -> Option<String> {
    let groups = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
    if let Some(uid) = groups.lines().find_map(uid_in) {
        return Some(uid);
    }
    let arguments = fs::read(process.join("cmdline")).ok()?;
    let mut arguments = arguments.split(|byte| *byte == 0);
    let program = std::str::from_utf8(arguments.next()?).ok()?;
    let is_pod = program.rsplit('/').next() == Some(POD_PROCESS);
    let uid = std::str::from_utf8(arguments.next()?).ok()?;
    (is_pod && is_uid(uid)).then(|| uid.to_owned())
}

/// The uid in a control group's path: `.../pod<uid>/...` or, under systemd, `...-pod<uid with underscores>.slice/...`.
fn uid_in(path: &str) -> Option<String> {
    path.split("pod").skip(1).find_map(|rest| {
        let uid = rest.get(..36)?.replace('_', "-");
        is_uid(&uid).then_some(uid)
    })
}

fn is_uid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// When a process started, in ticks since the machine did.
fn start_time(process: &Path) -> Option<u64> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "6b3a2f0e-9c1d-4c55-8a31-0123456789ab";

    #[test]
    fn control_groups_name_the_pod() {
        let found = |line: &str| uid_in(line);
        assert_eq!(
            found(&format!("0::/kubepods/burstable/pod{UID}/abc")).as_deref(),
            Some(UID)
        );
        let systemd = UID.replace('-', "_");
        let line = format!(
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{systemd}.slice/cri-containerd-1.scope"
        );
        assert_eq!(found(&line).as_deref(), Some(UID));
        for other in [
            "0::/",
            "0::/user.slice/podman-1234",
            "0::/kubepods/pod",
            "0::/x/pod6b3a2f0e-9c1d-4c55-8a31-0123456789aX",
        ] {
            assert_eq!(found(other), None, "{other}");
        }
    }

    /// A `/proc` with processes of three pods: one by control group (twice), one by argument, one in the node's namespace.
    #[test]
    fn the_oldest_process_outside_of_the_nodes_namespace_counts() {
        let proc = tempfile::tempdir().unwrap();
        let other = |last: &str| format!("6b3a2f0e-9c1d-4c55-8a31-01234567890{last}");
        let process = |pid: u32, group: &str, arguments: &str, started: u64, namespace: &str| {
            let dir = proc.path().join(pid.to_string());
            fs::create_dir_all(dir.join("ns")).unwrap();
            fs::write(dir.join("cgroup"), group).unwrap();
            fs::write(dir.join("cmdline"), arguments.replace(' ', "\0")).unwrap();
            let stat = format!("{pid} (a) b) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {started} 0");
            fs::write(dir.join("stat"), stat).unwrap();
            // A file for each namespace: links to it have its inode.
            let place = proc.path().join(namespace);
            fs::write(&place, "").unwrap();
            fs::hard_link(&place, dir.join("ns/net")).unwrap();
        };
        process(10, &format!("0::/kubepods/pod{UID}/a\n"), "app", 500, "a");
        process(11, &format!("0::/kubepods/pod{UID}/b\n"), "pause", 400, "b");
        process(12, "0::/\n", &format!("/x/corten-pod {} ", other("1")), 300, "c");
        process(13, &format!("0::/kubepods/pod{}/c\n", other("2")), "app", 200, "node");
        process(14, "0::/\n", &format!("other {} ", other("3")), 300, "d");
        fs::create_dir(proc.path().join("sys")).unwrap();
        fs::create_dir(proc.path().join("99")).unwrap();
        let own = fs::metadata(proc.path().join("node")).unwrap().ino();
        let found = scan(proc.path(), own).unwrap();
        let expect = [(other("1"), "12/ns/net"), (UID.to_owned(), "11/ns/net")];
        assert_eq!(found, expect.map(|(uid, path)| (uid, proc.path().join(path))).into());
    }
}
