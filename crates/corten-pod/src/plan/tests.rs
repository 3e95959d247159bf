use std::collections::BTreeMap;
use std::io;

use expect_test::{Expect, expect};

use super::*;

/// A host written as lines: `dir/`, `closed!`, `file`, `link -> target`; `mounts` are mount points.
struct Fake {
    entries: BTreeMap<PathBuf, Entry>,
    mounts: Vec<PathBuf>,
}

impl Fake {
    fn new(tree: &str, mounts: &[&str]) -> Self {
        let entries = tree.split_whitespace().map(|word| {
            if let Some((link, to)) = word.split_once("->") {
                (link.into(), Entry::Symlink(to.into()))
            } else if let Some(dir) = word.strip_suffix('/') {
                (dir.into(), Entry::Directory)
            } else if let Some(dir) = word.strip_suffix('!') {
                (dir.into(), Entry::Closed)
            } else {
                (word.into(), Entry::File)
            }
        });
        Self {
            entries: entries.collect(),
            mounts: mounts.iter().map(PathBuf::from).collect(),
        }
    }
}

impl Host for Fake {
    fn list(&self, dir: &Path) -> io::Result<Vec<(String, Entry)>> {
        let children = self.entries.iter().filter(|(path, _)| path.parent() == Some(dir));
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        Ok(children.map(|(path, entry)| (name(path), entry.clone())).collect())
    }

    fn mount_points(&self) -> &[PathBuf] {
        &self.mounts
    }
}

#[track_caller]
fn check(host: &Fake, scratch: &str, masks: &[&str], expected: Expect) {
    let masks: Vec<_> = masks.iter().map(PathBuf::from).collect();
    let wish = Wish {
        scratch: Path::new(scratch),
        masks: &masks,
        privileged: false,
    };
    let line = |step: &Step| match step {
        Step::Directory { target, mode } => format!("directory {} {mode:o}\n", target.display()),
        Step::Symlink { target, to } => format!("symlink {} -> {}\n", target.display(), to.display()),
        Step::Overlay { target } => format!("overlay {}\n", target.display()),
        Step::Mask { target } => format!("mask {}\n", target.display()),
        Step::ReadOnly { target } => format!("read-only {}\n", target.display()),
        other => format!("{other:?}\n"),
    };
    let text: String = root(host, wish).iter().map(line).collect();
    expected.assert_eq(&text);
}

#[test]
fn an_ordinary_host_is_one_overlay_for_each_top_directory() {
    let host = Fake::new(
        "/bin->usr/bin /dev/ /etc/ /etc/passwd /home/ /home/me/ /proc/ /root! /run/ /srv/ /sys/ /tmp/ /usr/ /usr/bin/ \
         /var/ /var/log/ /swapfile /lost+found!",
        &["/", "/proc", "/sys", "/dev", "/dev/pts", "/run", "/home"],
    );
    check(
        &host,
        "/run/corten/pods/a",
        &[],
        expect![[r#"
            symlink /bin -> usr/bin
            overlay /etc
            overlay /home
            directory /root 700
            directory /srv 755
            read-only /swapfile
            overlay /usr
            overlay /var
            directory /run 755
            directory /run/lock 1777
            Tmp
            Proc { writable: false }
            Sys { writable: false }
            Dev
        "#]],
    );
}

#[test]
fn a_mount_inside_a_directory_takes_it_apart() {
    let host = Fake::new(
        "/mnt/ /mnt/disk/ /mnt/disk/file /mnt/notes /mnt/other/ /mnt/other/data/ /mnt/other/data/file",
        &["/", "/mnt/disk", "/mnt/other/data"],
    );
    check(
        &host,
        "/run/corten/pods/a",
        &[],
        expect![[r#"
            directory /mnt 755
            overlay /mnt/disk
            read-only /mnt/notes
            directory /mnt/other 755
            overlay /mnt/other/data
            directory /run 755
            directory /run/lock 1777
            Tmp
            Proc { writable: false }
            Sys { writable: false }
            Dev
        "#]],
    );
}

#[test]
fn the_state_of_the_runtime_is_hidden_and_its_layers_are_not_below_themselves() {
    let host = Fake::new(
        "/home/ /home/me/ /home/me/.profile /home/me/state/ /home/me/state/corten/ /home/me/state/corten/secret /home/me/work/ /home/me/work/file",
        &["/"],
    );
    check(
        &host,
        "/home/me/state/corten/pods/a",
        &["/home/me/state/corten"],
        expect![[r#"
            directory /home 755
            directory /home/me 755
            read-only /home/me/.profile
            directory /home/me/state 755
            directory /home/me/state/corten 755
            overlay /home/me/work
            directory /run 755
            directory /run/lock 1777
            Tmp
            Proc { writable: false }
            Sys { writable: false }
            Dev
        "#]],
    );
}

#[test]
fn the_state_of_the_runtime_is_covered_where_an_overlay_is_possible() {
    let host = Fake::new("/home/ /home/me/ /home/me/state/ /home/me/state/corten/", &["/"]);
    check(
        &host,
        "/run/corten/pods/a",
        &["/home/me/state/corten"],
        expect![[r#"
        overlay /home
        mask /home/me/state/corten
        directory /run 755
        directory /run/lock 1777
        Tmp
        Proc { writable: false }
        Sys { writable: false }
        Dev
    "#]],
    );
}

#[test]
fn other_runtimes_mounts_are_not_taken_apart() {
    let layers: Vec<String> = (0..40)
        .map(|n| format!("/var/lib/docker/overlay2/{n}/merged"))
        .collect();
    let squashed: Vec<String> = (0..40).map(|n| format!("/snap/app/{n}")).collect();
    let mounts: Vec<&str> = layers.iter().chain(&squashed).map(String::as_str).collect();
    let host = Fake::new(
        "/snap/ /snap/app/ /var/ /var/lib/ /var/lib/dpkg/ /var/lib/dpkg/status /var/lib/docker/ /var/log/ /var/log/syslog",
        &mounts,
    );
    check(
        &host,
        "/run/corten/pods/a",
        &[],
        expect![[r#"
            read-only /snap
            directory /var 755
            directory /var/lib 755
            directory /var/lib/docker 755
            overlay /var/lib/dpkg
            overlay /var/log
            directory /run 755
            directory /run/lock 1777
            Tmp
            Proc { writable: false }
            Sys { writable: false }
            Dev
        "#]],
    );
}
