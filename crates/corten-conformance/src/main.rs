//! `corten-conformance`: judges the product by the data in a folder and prints, per area, what passed, failed and was skipped.
//!
//! The folder's areas decide what runs: each has a runner in [`areas`], and an area or a table without one is skipped, which is
//! said. Runners never know a case by its name, so the same ones judge data they have not seen.

mod accepted;
mod areas;
mod data;
mod known;
mod outcome;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::known::KnownFailures;
use crate::outcome::{Case, Outcome};

/// Judge the product by test data, one runner per area.
#[derive(Debug, Parser)]
struct Arguments {
    /// The folder with an area in each of its folders [default: ../shared/testdata beside the repository]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Only this area; may be given several times
    #[arg(long, value_name = "AREA")]
    area: Vec<String>,
    /// Also write every case's outcome, as a JSON array of {area, case, outcome, reason}
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also give everything that proxies were sent meanwhile to this Envoy, and fail if it refuses any
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,
    /// Print every case that did not pass, not only the failures
    #[arg(long, short)]
    verbose: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the areas and prints the table; true when nothing failed that is not known to fail.
fn run(arguments: &Arguments) -> Result<bool> {
    let shipped = data::default_dir();
    let dir = arguments.data.clone().unwrap_or_else(|| shipped.clone());
    if !dir.is_dir() {
        println!(
            "no test data at {}: it does not come with a plain clone, so there is nothing to judge (--data DIR names it)",
            dir.display()
        );
        let required =
            arguments.data.is_some() || std::env::var("CORTEN_TEST_REQUIRE").is_ok_and(|value| value == "all");
        ensure!(!required, "the test data is required here");
        return Ok(true);
    }
    // What is known to fail is known of our own data only; foreign data is judged as it is.
    let known = if dir == shipped {
        KnownFailures::shipped()
    } else {
        KnownFailures::default()
    };
    let mut areas = data::areas(&dir)?;
    if !arguments.area.is_empty() {
        let names: Vec<String> = areas.iter().map(|area| area.name.clone()).collect();
        for wanted in &arguments.area {
            ensure!(
                names.contains(wanted),
                "there is no area {wanted:?} in {}; there are: {}",
                dir.display(),
                names.join(", ")
            );
        }
        areas.retain(|area| arguments.area.contains(&area.name));
    }

    if arguments.envoy.is_some() {
        accepted::keep();
    }
    let mut all = Vec::new();
    println!("{:28} {:>7} {:>7} {:>8}", "area", "passed", "failed", "skipped");
    for area in &areas {
        accepted::of_area(&area.name);
        let cases = areas::run(area)?;
        let count = |wanted: fn(&Outcome) -> bool| cases.iter().filter(|case| wanted(&case.outcome)).count();
        let passed = count(|outcome| matches!(outcome, Outcome::Passed));
        let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
        let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
        println!("{:28} {passed:>7} {failed:>7} {skipped:>8}", area.name);
        all.extend(cases);
    }
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&all)?;
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    let mut good = report(&all, &known, arguments);
    if let Some(envoy) = &arguments.envoy {
        let (given, refused) = accepted::ask(envoy)?;
        for said in &refused {
            println!("REFUSED {said}");
        }
        println!("{given} configurations given to Envoy, {} refusals", refused.len());
        good &= refused.is_empty();
    }
    Ok(good)
}

/// Prints what needs attention; true when there is nothing.
fn report(cases: &[Case], known: &KnownFailures, arguments: &Arguments) -> bool {
    let mut good = true;
    let mut skipped = std::collections::BTreeMap::<&str, usize>::new();
    for case in cases {
        match &case.outcome {
            Outcome::Passed if known.contains(case) => {
                println!("PASSES NOW {case}: take it out of known-failures.txt");
                good = false;
            }
            Outcome::Failed(reason) if !known.contains(case) => {
                println!("FAILED {case}: {reason}");
                good = false;
            }
            Outcome::Failed(reason) if arguments.verbose => println!("known failure {case}: {reason}"),
            Outcome::Skipped(feature) => {
                if arguments.verbose {
                    println!("skipped {case}: {feature}");
                }
                *skipped.entry(feature).or_default() += 1;
            }
            Outcome::Passed | Outcome::Failed(_) => {}
        }
    }
    // A known failure that is no longer there at all would hide a lost case.
    if arguments.area.is_empty() {
        for lost in known.missing_from(cases) {
            println!("NOT THERE {lost}: listed in known-failures.txt, but no such case ran");
            good = false;
        }
    }
    for (feature, count) in skipped {
        println!("skipped {count}: {feature}");
    }
    good
}
