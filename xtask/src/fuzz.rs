//! `cargo xtask fuzz`: runs the fuzz targets for a bounded time.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo;

/// Runs one target, or each, and fails on the first finding.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let mut seconds = 60_u32;
    let mut wanted = None;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => {
                seconds = arguments
                    .next()
                    .context("--seconds takes a number")?
                    .parse()
                    .context("--seconds")?
            }
            target if !target.starts_with('-') => wanted = Some(target.to_owned()),
            other => bail!("unknown argument {other:?}; usage: cargo xtask fuzz [TARGET] [--seconds N]"),
        }
    }
    let folder = cargo::root().join("fuzz");
    let manifest: toml::Table = std::fs::read_to_string(folder.join("Cargo.toml"))?
        .parse()
        .context("fuzz/Cargo.toml")?;
    let targets: Vec<&str> = manifest["bin"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|bin| bin.get("name")?.as_str())
        .collect();
    if let Some(wanted) = &wanted {
        ensure!(
            targets.contains(&wanted.as_str()),
            "there is no fuzz target {wanted:?}; there are: {}",
            targets.join(", ")
        );
    }
    let present = cargo::command()
        .args(["fuzz", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    ensure!(
        present,
        "cargo-fuzz is not installed: cargo install cargo-fuzz --locked"
    );
    for target in targets
        .into_iter()
        .filter(|target| wanted.as_deref().is_none_or(|wanted| wanted == *target))
    {
        println!("--      fuzz {target} for {seconds} s");
        // What a run finds interesting is kept for the next one, but not among the seeds, which are part of the repository.
        let found = folder.join("target/corpus").join(target);
        std::fs::create_dir_all(&found).with_context(|| found.display().to_string())?;
        // The sanitizers need a nightly compiler; coverage guidance and the panics we look for do not.
        let status = Command::new("cargo")
            .current_dir(cargo::root())
            .args(["fuzz", "run", "--sanitizer", "none", target])
            .args([found, folder.join("corpus").join(target)])
            .args(["--", "-timeout=10", "-rss_limit_mb=2048"])
            .arg(format!("-max_total_time={seconds}"))
            .status()?;
        if !status.success() {
            println!("FAILED  fuzz {target}");
            return Ok(ExitCode::FAILURE);
        }
        println!("ok      fuzz {target}");
    }
    Ok(ExitCode::SUCCESS)
}
