//! Benchmark `local`: the small Kubernetes beside a real one, measured by the same code over the same client.

mod ground;
mod measure;

use std::path::PathBuf;

use anyhow::Result;

use crate::figure::Figure;
use ground::Ground;

/// What is measured, in the order in which [`measure::all`] gives it.
const FIGURES: [(&str, &str); 8] = [
    ("start to both nodes Ready", "s"),
    ("idle memory, all processes (Pss)", "MB"),
    ("apply to one pod Ready, median of 10", "s"),
    ("small writes, 8 writers", "1/s"),
    ("event to 100 watchers, median", "ms"),
    ("event to 100 watchers, 99th percentile", "ms"),
    ("200 pods Ready", "s"),
    ("memory a pod, at 200 (Pss)", "MB"),
];

/// Measures our runtime, then the baseline when it can be had.
pub(crate) async fn run(lab: Option<PathBuf>) -> Result<Vec<Figure>> {
    println!("measuring corten up ...");
    let ours = Ground::corten()?;
    let values = measure::all(&ours).await?;
    drop(ours);
    let baseline = match Ground::lab(lab)? {
        Some(ground) => {
            println!("measuring Kubernetes ...");
            Some(measure::all(&ground).await?)
        }
        None => {
            println!(
                "no baseline: there is no lab.sh with built binaries beside the repository (--lab SCRIPT names it)"
            );
            None
        }
    };
    Ok(FIGURES
        .iter()
        .enumerate()
        .map(|(index, (figure, unit))| Figure {
            figure: (*figure).to_owned(),
            value: values[index],
            unit,
            baseline: baseline.as_ref().map(|values| values[index]),
        })
        .collect())
}
