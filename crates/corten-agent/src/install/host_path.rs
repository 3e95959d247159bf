//! Where a directory that is mounted into the agent's container is on the node itself.
//!
//! The plugin runs on the node and has to be told where the agent's socket is. The mount tables tell: the agent's says which part of which
//! file system the directory is, that of the node's first process says where that part is seen there.

use std::path::{Path, PathBuf};

/// A line of a mount table.
struct Mount<'a> {
    device: &'a str,
    root: PathBuf,
    point: PathBuf,
}

fn parse(table: &str) -> impl Iterator<Item = Mount<'_>> {
    table.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(2);
        Some(Mount {
            device: words.next()?,
            root: unescape(words.next()?),
            point: unescape(words.next()?),
        })
    })
}

/// Spaces and the like are written as `\040`.
fn unescape(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                plain.push(char::from(byte));
                plain.push_str(&part[3..]);
            }
            None => plain.push_str(part),
        }
    }
    plain.into()
}

/// The path of `dir` (absolute, without links) as the process with the table `host` sees it; `own` is the caller's table.
pub fn host_path(dir: &Path, own: &str, host: &str) -> Option<PathBuf> {
    // What is mounted later hides what was there before.
    let covering = parse(own).filter(|mount| dir.starts_with(&mount.point));
    let mount = covering.reduce(|best, next| {
        let deeper = next.point.components().count() >= best.point.components().count();
        if deeper { next } else { best }
    })?;
    let inside = mount.root.join(dir.strip_prefix(&mount.point).ok()?);
    let seen = parse(host).filter(|candidate| candidate.device == mount.device && inside.starts_with(&candidate.root));
    let best = seen.reduce(|best, next| {
        let longer = next.root.components().count() > best.root.components().count();
        if longer { next } else { best }
    })?;
    let rest = inside.strip_prefix(&best.root).ok()?;
    let path = best.point.join(rest);
    // No slash at the end where nothing follows.
    Some(path.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "\
500 400 0:60 / / rw - overlay overlay rw
501 500 0:25 /corten/nodes/node1/run/istio-cni /run/istio-cni rw - tmpfs tmpfs rw
502 500 8:1 /var/with\\040space /data rw - ext4 /dev/sda1 rw
";
    const HOST: &str = "\
20 1 8:1 / / rw - ext4 /dev/sda1 rw
21 20 0:25 / /run rw - tmpfs tmpfs rw
22 20 0:99 / /other rw - tmpfs tmpfs rw
";

    #[track_caller]
    fn check(dir: &str, expect: Option<&str>) {
        assert_eq!(host_path(Path::new(dir), OWN, HOST).as_deref(), expect.map(Path::new));
    }

    #[test]
    fn what_is_mounted_is_found() {
        check("/run/istio-cni", Some("/run/corten/nodes/node1/run/istio-cni"));
        check("/run/istio-cni/sub", Some("/run/corten/nodes/node1/run/istio-cni/sub"));
        check("/data", Some("/var/with space"));
        // The container's own file system is nowhere on the node.
        check("/etc", None);
        assert_eq!(host_path(Path::new("/x"), "garbage\n", HOST), None);
    }
}
