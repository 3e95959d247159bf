//! Benchmark `control`: the control plane on a mesh of 10,000 pods, from start to a change that reaches a thousand node proxies,
//! and the same with a thousand sidecars.
//!
//! The API server runs in this process and is filled directly; the control plane is the shipped binary, measured from outside.
//! "Baseline" is the same on a mesh of a tenth of the size, in the same run: what grows with the mesh, and what does not.

mod clients;
mod mesh;
mod process;
mod sidecars;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::figure::Figure;
use clients::Clients;
use mesh::Mesh;
use process::Control;
use sidecars::Shape;

const PODS: usize = 10_000;
const PODS_SMALL: usize = 1_000;
/// Where sidecars see everything, what each holds grows with the mesh.
const PODS_VISIBLE: usize = 2_000;
const CLIENTS: usize = 1_000;
/// Changes for the cost of one, and a second in the sustained part.
const CHANGES: usize = 2_000;
const SUSTAINED: Duration = Duration::from_secs(5);
/// Single endpoint changes whose way to all clients is measured.
const ROUNDS: usize = 20;

const FIGURES: [(&str, &str); 14] = [
    ("first start to ready, keys included", "s"),
    ("start to ready", "s"),
    ("CPU until ready", "s"),
    ("resident when ready", "MB"),
    ("CPU a pod change, no clients", "ms"),
    ("CPU share of a core at 2,000 changes/s", "%"),
    ("changes/s taken in while sustained", "1/s"),
    ("1,000 clients have everything", "s"),
    ("CPU for 1,000 clients to have everything", "s"),
    ("resident with 1,000 clients", "MB"),
    ("endpoint change to all clients, median", "ms"),
    ("endpoint change to all clients, worst", "ms"),
    ("CPU an endpoint change, 1,000 clients", "ms"),
    ("bytes an endpoint change sends a client", "B"),
];

/// Measures both sizes, or, with an istiod, what it does of that, too.
pub(crate) async fn run(only: &[String], pods: Option<usize>, istiod: Option<&Path>) -> Result<Vec<Figure>> {
    const NAMES: [&str; 2] = ["sidecars", "visible"];
    if let Some(other) = only.iter().find(|name| !NAMES.contains(&name.as_str())) {
        bail!("there is no measurement {other:?}; there are {}", NAMES.join(", "));
    }
    let wants = |name: &str| only.iter().any(|wanted| wanted == name);
    let mut all = Vec::new();
    if only.is_empty() {
        let small = measure(PODS_SMALL).await.context("on the small mesh")?;
        let large = measure(pods.unwrap_or(PODS)).await.context("on the large mesh")?;
        let names = FIGURES.iter().map(|(name, unit)| ((*name).to_owned(), *unit));
        all.extend(figures(names, &large, &small));
    }
    let isolated = |pods| Shape { pods, isolated: true };
    let visible = |pods| Shape { pods, isolated: false };
    if only.is_empty() || wants("sidecars") {
        let (large, small) = (isolated(pods.unwrap_or(PODS)), isolated(PODS_SMALL));
        all.extend(sidecars(large, small, istiod).await?);
    }
    if only.is_empty() || wants("visible") {
        let (large, small) = (visible(pods.unwrap_or(PODS_VISIBLE)), visible(PODS_VISIBLE / 4));
        all.extend(sidecars(large, small, istiod).await?);
    }
    Ok(all)
}

/// What sidecars cost in a mesh, beside what they cost an istiod there, or else us in a smaller one.
async fn sidecars(large: Shape, small: Shape, istiod: Option<&Path>) -> Result<Vec<Figure>> {
    let baseline = match istiod {
        Some(binary) => large.measure_anew(Some(binary)).await.context("with istiod")?,
        None => small.measure_anew(None).await.context("on the small mesh")?,
    };
    let values = large.measure_anew(None).await.context("on the large mesh")?;
    Ok(figures(large.figures(), &values, &baseline))
}

fn figures(of: impl Iterator<Item = (String, &'static str)>, values: &[f64], baseline: &[f64]) -> Vec<Figure> {
    let figures = of.zip(values.iter().zip(baseline));
    figures
        .map(|((figure, unit), (value, baseline))| Figure {
            figure,
            value: *value,
            unit,
            baseline: Some(*baseline),
        })
        .collect()
}

async fn measure(pods: usize) -> Result<Vec<f64>> {
    println!("filling an API server with {pods} pods ...");
    let mesh = Mesh::fill(pods).await?;

    println!("starting ...");
    let first = Control::start(&mesh).await?;
    let first_start = first.start;
    first.stop().await?;
    let control = Control::start(&mesh).await?;
    let cpu_ready = control.cpu_at_ready;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let resident = control.resident_mb()?;

    println!("changing pods, without clients ...");
    let before = control.cpu()?;
    mesh.change(CHANGES, None).await?;
    control.settled().await?;
    let change = (control.cpu()? - before) / CHANGES as f64;
    let (before, began) = (control.cpu()?, Instant::now());
    let changed = mesh.change(usize::MAX, Some((SUSTAINED, CHANGES))).await?;
    let rate = changed as f64 / began.elapsed().as_secs_f64();
    control.settled().await?;
    let share = (control.cpu()? - before) / changed as f64 * CHANGES as f64;

    println!("connecting {CLIENTS} clients ...");
    let before = control.cpu()?;
    let began = Instant::now();
    let mut clients = Clients::connect(&mesh, &control, CLIENTS).await?;
    clients.everything().await?;
    let everything = began.elapsed();
    let everything_cpu = control.cpu()? - before;
    control.settled().await?;
    let resident_clients = control.resident_mb()?;

    println!("changing endpoints ...");
    let mut times = Vec::new();
    let (before, received) = (control.cpu()?, clients.received());
    for round in 0..ROUNDS {
        let began = Instant::now();
        mesh.change_one(round).await?;
        clients.all_have_one_more().await?;
        times.push(began.elapsed().as_secs_f64());
        // Longer than the interval of pushes, so that each is a change of its own.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let one = (control.cpu()? - before) / ROUNDS as f64;
    let bytes = (clients.received() - received) as f64 / (ROUNDS * CLIENTS) as f64;
    times.sort_by(f64::total_cmp);
    drop(clients);
    let start = control.start;
    control.stop().await?;
    Ok(vec![
        first_start.as_secs_f64(),
        start.as_secs_f64(),
        cpu_ready,
        resident,
        change * 1e3,
        share * 100.0,
        rate,
        everything.as_secs_f64(),
        everything_cpu,
        resident_clients,
        times[times.len() / 2] * 1e3,
        times[times.len() - 1] * 1e3,
        one * 1e3,
        bytes,
    ])
}
