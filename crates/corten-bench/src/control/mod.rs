//! Benchmark `control`: the control plane on a mesh of 10,000 pods, from start to a change that reaches a thousand node proxies,
//! and the same with a thousand sidecars.
//!
//! The API server runs in this process and is filled directly; the control plane is the shipped binary, measured from outside.
//! "Baseline" is the same on a mesh of a tenth of the size, in the same run: what grows with the mesh, and what does not.

mod clients;
mod mesh;
mod process;
mod sidecars;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::figure::Figure;
use clients::Clients;
use mesh::Mesh;
use process::Control;

const PODS: usize = 10_000;
const PODS_SMALL: usize = 1_000;
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

/// Measures both sizes.
pub(crate) async fn run(only: &[String]) -> Result<Vec<Figure>> {
    if only.iter().any(|name| name == "sidecars") {
        let small = only_sidecars(PODS_SMALL).await.context("on the small mesh")?;
        let large = only_sidecars(PODS).await.context("on the large mesh")?;
        return Ok(figures(&sidecars::FIGURES, &large, &small));
    }
    let small = measure(PODS_SMALL).await.context("on the small mesh")?;
    let large = measure(PODS).await.context("on the large mesh")?;
    let all: Vec<(&'static str, &'static str)> = FIGURES.iter().chain(&sidecars::FIGURES).copied().collect();
    Ok(figures(&all, &large, &small))
}

async fn only_sidecars(pods: usize) -> Result<Vec<f64>> {
    println!("filling an API server with {pods} pods ...");
    let mesh = Mesh::fill(pods).await?;
    sidecars::measure(&mesh, pods / mesh::PODS_PER_SERVICE).await
}

fn figures(of: &[(&'static str, &'static str)], large: &[f64], small: &[f64]) -> Vec<Figure> {
    let figures = of.iter().zip(large.iter().zip(small));
    figures
        .map(|((figure, unit), (value, baseline))| Figure {
            figure: (*figure).to_owned(),
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
    let of_sidecars = sidecars::measure(&mesh, pods / mesh::PODS_PER_SERVICE).await?;
    let mut figures = vec![
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
    ];
    figures.extend(of_sidecars);
    Ok(figures)
}
