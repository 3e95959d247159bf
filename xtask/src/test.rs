//! `cargo xtask test`: everything that must hold, in order of cost, with one line at the end that counts it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::stock::Stock;
use crate::{cargo, layers, licences};

/// What has been counted so far.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skips: Vec<String>,
}

/// Runs the tests; `FILTER`, when given, runs only the cargo tests whose names contain it and none of the other checks.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let (stock, rest) = Stock::parse(arguments)?;
    let filter = match &rest[..] {
        [] => None,
        [filter] if !filter.starts_with('-') => Some(filter.as_str()),
        _ => bail!("usage: cargo xtask test [--ztunnel PATH] [--istiod PATH] [FILTER]"),
    };
    let mut tally = Tally::default();
    if filter.is_none() {
        check_tidy(&mut tally)?;
        step(&mut tally, "format", cargo::command().args(["fmt", "--all", "--check"]))?;
        let mut clippy = cargo::command();
        clippy.args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ]);
        step(&mut tally, "clippy", &mut clippy)?;
    }
    let bin = cargo::build_binaries(&["--locked"])?;
    if filter.is_none() {
        step(
            &mut tally,
            "conformance",
            &mut Command::new(bin.join("corten-conformance")),
        )?;
    }
    cargo_tests(&mut tally, filter, &bin, &stock)?;

    if !tally.skips.is_empty() {
        println!("\nskipped, because this machine lacks what they need:");
        for skip in &tally.skips {
            println!("  {skip}");
        }
    }
    println!(
        "\n{} passed, {} failed, {} skipped",
        tally.passed,
        tally.failed,
        tally.skips.len()
    );
    Ok(if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// `cargo xtask tidy`: the checks that need no build.
pub(crate) fn tidy() -> Result<ExitCode> {
    let mut tally = Tally::default();
    check_tidy(&mut tally)?;
    Ok(if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn check_tidy(tally: &mut Tally) -> Result<()> {
    let root = cargo::root();
    let read = |name: &str| std::fs::read_to_string(root.join(name)).with_context(|| name.to_owned());
    judge(
        tally,
        "layers",
        &layers::check(&read("layers.toml")?, &cargo::metadata(false)?)?,
    );
    judge(
        tally,
        "licences",
        &licences::check(&read("deny.toml")?, &cargo::metadata(true)?)?,
    );
    judge(tally, "docs", &broken_links(&root)?);
    Ok(())
}

fn judge(tally: &mut Tally, name: &str, problems: &[String]) {
    if problems.is_empty() {
        println!("ok      {name}");
        tally.passed += 1;
        return;
    }
    println!("FAILED  {name}");
    for problem in problems {
        println!("        {problem}");
    }
    tally.failed += 1;
}

fn step(tally: &mut Tally, name: &str, command: &mut Command) -> Result<()> {
    println!("--      {name}");
    let status = command
        .current_dir(cargo::root())
        .status()
        .with_context(|| format!("running {name}"))?;
    let problem = (!status.success()).then(|| format!("{status}"));
    judge(tally, name, problem.as_slice());
    Ok(())
}

/// Runs cargo's tests, echoing their output, and adds up the summaries of all test binaries.
fn cargo_tests(tally: &mut Tally, filter: Option<&str>, bin: &Path, stock: &Stock) -> Result<()> {
    let skip_log = tempfile_path();
    let mut command = cargo::command();
    command
        .args(["test", "--workspace", "--no-fail-fast", "--locked"])
        .args(filter);
    let mut child = command
        .env("CORTEN_SKIP_LOG", &skip_log)
        // Already built, with the features of the whole workspace: end-to-end tests need not build them again.
        .env("CORTEN_BIN", bin)
        .envs(stock.environment())
        // Property tests try the same inputs each time, so that a change is judged by what it changes; another seed tries others.
        .env(
            "PROPTEST_RNG_SEED",
            std::env::var("PROPTEST_RNG_SEED").unwrap_or_else(|_| "1".to_owned()),
        )
        .stdout(Stdio::piped())
        .spawn()
        .context("running cargo test")?;
    let output = child.stdout.take().context("cargo test has no standard output")?;
    let mut summaries = 0;
    let failed_before = tally.failed;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if let Some((passed, failed)) = summary(&line) {
            summaries += 1;
            tally.passed += passed;
            tally.failed += failed;
        }
        // Test binaries without any test would only push the rest off the screen.
        if !line.is_empty() && line != "running 0 tests" {
            println!("{line}");
        }
    }
    let status = child.wait()?;
    if !status.success() && tally.failed == failed_before {
        // A test binary that crashed or did not compile prints no summary.
        judge(
            tally,
            "cargo test",
            &[format!("{status} after {summaries} test binaries")],
        );
    }
    if let Ok(skips) = std::fs::read_to_string(&skip_log) {
        tally.skips.extend(skips.lines().map(str::to_owned));
        tally.passed = tally.passed.saturating_sub(tally.skips.len());
        let _ = std::fs::remove_file(&skip_log);
    }
    Ok(())
}

fn tempfile_path() -> std::path::PathBuf {
    std::env::temp_dir().join(format!("corten-skips-{}", std::process::id()))
}

/// The passed and failed counts in a test binary's closing line.
fn summary(line: &str) -> Option<(usize, usize)> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let mut counts = counts.split("; ");
    let passed = counts.next()?.strip_suffix(" passed")?.parse().ok()?;
    let failed = counts.next()?.strip_suffix(" failed")?.parse().ok()?;
    Some((passed, failed))
}

/// Relative links in the project's Markdown pages that lead nowhere.
fn broken_links(root: &Path) -> Result<Vec<String>> {
    let mut pages: Vec<_> = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"]
        .iter()
        .map(|page| root.join(page))
        .collect();
    let docs = root.join("docs");
    if docs.is_dir() {
        for entry in std::fs::read_dir(docs)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    let mut problems = Vec::new();
    for page in pages {
        let name = page.strip_prefix(root).unwrap_or(&page).display().to_string();
        let text = std::fs::read_to_string(&page).with_context(|| name.clone())?;
        for link in links(&text) {
            let target = link.split('#').next().unwrap_or(link);
            if !target.is_empty() && !page.parent().unwrap_or(root).join(target).exists() {
                problems.push(format!("{name}: the link {link:?} leads nowhere"));
            }
        }
    }
    Ok(problems)
}

/// The targets of a page's inline links that stay in the repository.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
        .filter(|target| !target.contains("://") && !target.contains(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s";
        assert_eq!(summary(line), Some((12, 3)));
        assert_eq!(summary("running 3 tests"), None);
    }

    #[test]
    fn links_inside_the_repository() {
        let text = "see [a](docs/a.md#b), [c](https://example.org/x) and [d](#here)";
        assert_eq!(links(text).collect::<Vec<_>>(), ["docs/a.md#b", "#here"]);
    }
}
