//! The shipped binaries: built once a test run, from the same workspace and profile as the test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Packages with binaries that a user gets.
const PACKAGES: [&str; 9] = [
    "corten-cli",
    "corten-pod",
    "corten-bridge",
    "corten-images",
    "corten-control",
    "corten-node",
    "corten-agent",
    "corten-cni",
    "corten-sidecar",
];

/// The directory of the built binaries; builds them first.
///
/// `CORTEN_BIN` names a directory of binaries to use instead.
pub(crate) fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        if let Some(given) = std::env::var_os("CORTEN_BIN") {
            return given.into();
        }
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.current_dir(&workspace).args(["build", "--quiet", "--bins"]);
        for package in PACKAGES {
            if workspace.join("crates").join(package).exists() {
                build.args(["--package", package]);
            }
        }
        let status = build.status().expect("cargo can be run");
        assert!(status.success(), "the shipped binaries do not build");
        let test = std::env::current_exe().expect("a test knows its executable");
        // target/PROFILE/deps/test
        let profile = test
            .parent()
            .and_then(Path::parent)
            .expect("tests lie in target/PROFILE/deps");
        profile.to_owned()
    })
}

/// Puts the binaries where any user may run them.
pub(crate) fn install(into: &Path) {
    fs::create_dir(into).expect("a directory for the binaries");
    for entry in fs::read_dir(built()).expect("the binaries were built").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let executable = entry
            .metadata()
            .is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
        let ours = name == "corten" || (name.starts_with("corten-") && !name.contains('.'));
        if executable && ours {
            let target = into.join(&name);
            // A link where the file system allows it: the files are large.
            if fs::hard_link(entry.path(), &target).is_err() {
                fs::copy(entry.path(), &target).expect("binaries can be copied");
            }
            fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).expect("the copy is ours");
        }
    }
}
