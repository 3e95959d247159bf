//! Calling cargo, and finding what it built.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The workspace's root folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
        .to_owned()
}

/// A cargo command in the workspace's root.
pub(crate) fn command() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// What `cargo metadata` says of the workspace and, when asked, of its dependencies.
pub(crate) fn metadata(dependencies: bool) -> Result<Value> {
    let mut command = command();
    command.args(["metadata", "--format-version=1", "--locked"]);
    if !dependencies {
        command.arg("--no-deps");
    }
    let output = command.output().context("running cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Where cargo puts what it builds in the given profile (`debug`, `release`).
pub(crate) fn target_dir(profile: &str) -> Result<PathBuf> {
    let metadata = metadata(false)?;
    let target = metadata["target_directory"]
        .as_str()
        .context("cargo metadata names no target directory")?;
    Ok(Path::new(target).join(profile))
}

/// Builds the product's binaries and returns the folder they are in.
pub(crate) fn build_binaries(flags: &[&str]) -> Result<PathBuf> {
    let status = command()
        .args(["build", "--workspace", "--bins"])
        .args(flags)
        .status()
        .context("running cargo build")?;
    if !status.success() {
        bail!("the build failed; a C compiler is needed besides Rust (Debian: apt-get install gcc)");
    }
    target_dir(if flags.contains(&"--release") {
        "release"
    } else {
        "debug"
    })
}

/// Builds everything a tool may start, then runs the tool with the given arguments.
pub(crate) fn run_tool(package: &str, flags: &[&str], arguments: &[String]) -> Result<ExitCode> {
    let bin = build_binaries(flags)?;
    let status = Command::new(bin.join(package))
        .args(arguments)
        .current_dir(root())
        .status()
        .context(package.to_owned())?;
    Ok(ExitCode::from(
        status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
    ))
}
