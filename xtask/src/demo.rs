//! `cargo xtask demo`: the main job on this machine, and the proof that each claim it prints holds.
//!
//! Applies the files of `examples/mesh` in their order; after each step every service calls every other one, and the table of who got
//! through is compared with what the step promises.

mod calls;
mod stage;
mod wire;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::cargo;
use crate::stock::Stock;
use calls::{Matrix, SERVICES};
use stage::Stage;

/// How long a step may take to be seen everywhere.
const SETTLING_MAX: Duration = Duration::from_secs(10);

/// Runs the demo; with `--check`, fails when a claim does not hold.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let (stock, rest) = Stock::parse(arguments)?;
    let check = match &rest[..] {
        [] => false,
        [flag] if *flag == "--check" => true,
        _ => bail!("usage: cargo xtask demo [--check] [--ztunnel PATH] [--istiod PATH]"),
    };
    println!("building ...");
    let stage = Stage::new(cargo::build_binaries(&[])?, &stock);
    let begin = Instant::now();
    let mut claims = Claims::default();
    let outcome = play(&stage, &mut claims);
    if outcome.is_err() {
        stage.explain();
    }
    stage.stop();
    outcome?;
    claims.add(
        "nothing is left behind",
        !stage.is_running() && stage.processes_left() == 0,
    );
    println!("\n  (the whole demo took {:.1?})\n", begin.elapsed());
    if claims.broken == 0 {
        println!("every one of the {} claims above held", claims.made);
        if !check {
            let bin = stage.bin().display();
            println!("\nto look around yourself:\n  export PATH={bin}:$PATH\n  corten up");
        }
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} of {} claims did not hold", claims.broken, claims.made);
    Ok(ExitCode::FAILURE)
}

/// What the demo says of itself, and whether it was true.
#[derive(Debug, Default)]
struct Claims {
    made: usize,
    broken: usize,
}

impl Claims {
    fn add(&mut self, claim: &str, holds: bool) {
        println!("  {} {claim}", if holds { "✓" } else { "✗" });
        self.made += 1;
        self.broken += usize::from(!holds);
    }
}

fn play(stage: &Stage, claims: &mut Claims) -> Result<()> {
    println!("\n# A small Kubernetes with the mesh, two nodes\n");
    stage.up()?;
    println!("\n# Three namespaces; nobody is in the mesh yet\n");
    stage.apply("services.yaml")?;
    stage.start_captures()?;
    stage.settle_services()?;
    stage.show(&["get", "pods", "-A", "-o", "wide"])?;
    let before = stage.pods()?;
    claims.add(
        "every service has a pod on each of two nodes",
        SERVICES.iter().all(|service| {
            let nodes: std::collections::BTreeSet<_> = before
                .iter()
                .filter(|pod| pod.service == service.name)
                .map(|pod| &pod.node)
                .collect();
            nodes.len() == 2
        }),
    );
    step(stage, claims, "everybody can call everybody", |_, _| true)?;
    let readable = wire::watch(stage)?;
    claims.add("and what they say can be read between the nodes", readable.secrets > 0);

    println!("\n# Two namespaces join: a label, no restart\n");
    for namespace in ["payments", "orders"] {
        stage.show(&["label", "namespace", namespace, "istio.io/dataplane-mode=ambient"])?;
    }
    claims.add("their running pods are in the mesh", stage.enrolled(4, SETTLING_MAX)?);
    claims.add("none of them was restarted", stage.pods()? == before);
    step(stage, claims, "still everybody can call everybody", |_, _| true)?;
    let tunnelled = wire::watch(stage)?;
    claims.add(
        "between the nodes nothing of what payments and orders say can be read",
        tunnelled.secrets == 0,
    );
    claims.add("it travels in mutual TLS, on port 15008", tunnelled.tunnel_bytes > 0);

    println!("\n# payments accepts mutual TLS only\n");
    stage.apply("strict-payments.yaml")?;
    step(
        stage,
        claims,
        "legacy, which has no identity, cannot call payments any more",
        |from, to| !(from == "legacy-app" && to == "payments-api"),
    )?;

    println!("\n# The whole mesh does\n");
    stage.apply("strict-mesh.yaml")?;
    step(
        stage,
        claims,
        "nor orders; and it can still be called itself",
        |from, to| from != "legacy-app" || to == "legacy-app",
    )?;
    claims.add("the nodes' probes still reach the pods", stage.all_ready()?);

    println!("\n# Nobody may call payments\n");
    stage.apply("deny-all.yaml")?;
    step(stage, claims, "not even payments itself", |from, to| {
        (from != "legacy-app" || to == "legacy-app") && to != "payments-api"
    })?;

    println!("\n# orders-api may\n");
    stage.apply("allow-orders.yaml")?;
    step(
        stage,
        claims,
        "orders can call payments again, nobody else can",
        |from, to| match to {
            "payments-api" => from == "orders-api",
            _ => from != "legacy-app" || to == "legacy-app",
        },
    )
}

/// Shows who can call whom, and claims that it is as promised once the step has been seen everywhere.
fn step(stage: &Stage, claims: &mut Claims, claim: &str, promised: impl Fn(&str, &str) -> bool) -> Result<()> {
    let begin = Instant::now();
    let (matrix, holds) = loop {
        let matrix = Matrix::of(stage)?;
        let holds = matrix.is(&promised);
        if holds || begin.elapsed() > SETTLING_MAX {
            break (matrix, holds);
        }
    };
    println!("\n{matrix}");
    claims.add(claim, holds);
    Ok(())
}
