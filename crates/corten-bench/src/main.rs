//! `corten-bench`: named benchmarks. Each prints its figures beside a baseline taken in the same run on the same machine.
//!
//! Figures are for people to judge: nothing here fails because a number is large.

mod control;
mod figure;
mod l4;
mod local;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::figure::Figure;

/// Run a benchmark beside its baseline.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which benchmark; without a name, they are listed
    name: Option<String>,
    /// Also write the figures, as a JSON array of {figure, value, unit, baseline}
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The script that starts a real Kubernetes for the baseline [default: ../shared/kubernetes/lab.sh beside the repository]
    #[arg(long, value_name = "SCRIPT")]
    lab: Option<PathBuf>,
    /// A stock ztunnel to measure beside ours
    #[arg(long, value_name = "BINARY")]
    ztunnel: Option<PathBuf>,
    /// A stock istiod to measure beside our control plane, with the same sidecars
    #[arg(long, value_name = "BINARY")]
    istiod: Option<PathBuf>,
    /// How many pods the mesh of the benchmark control has [default: 10000; 2000 where sidecars see everything]
    #[arg(long, value_name = "COUNT")]
    pods: Option<usize>,
    /// How often each is measured; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these measurements; of the benchmark l4: many, one, bulk, opening, beside, fair, idle; of control: sidecars, visible
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.name.as_deref() == Some("l4") {
        return l4::isolated(std::env::args()).unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let outcome = runtime
        .context("starting the runtime")
        .and_then(|runtime| runtime.block_on(run(&arguments)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    let figures: Vec<Figure> = match arguments.name.as_deref() {
        None => {
            println!("l4       calls between two pods: directly, through our node proxies, and through stock ones");
            println!(
                "local    the small Kubernetes of `corten up` beside a real one: start, pods, memory, writes, watches"
            );
            println!(
                "control  the control plane on 10,000 pods beside 1,000: start, memory, changes, 1,000 node proxies, 1,000 sidecars"
            );
            return Ok(());
        }
        Some("control") => {
            let istiod = arguments.istiod.as_deref();
            Box::pin(control::run(&arguments.only, arguments.pods, istiod)).await?
        }
        Some("local") => Box::pin(local::run(arguments.lab.clone())).await?,
        Some(l4::INSIDE) => Box::pin(l4::run(arguments.ztunnel.clone(), arguments.rounds, &arguments.only)).await?,
        Some(other) => bail!("there is no benchmark {other:?}; without a name, they are listed"),
    };
    println!("\n{:44} {:>12} {:>12} {:>8}", "figure", "corten", "baseline", "ratio");
    for figure in &figures {
        println!("{figure}");
    }
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&figures)?)
            .with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}
