//! Who can call whom: every pod calls every service, and what got through becomes a table.

use std::fmt;

use anyhow::{Context, Result};
use serde_json::Value;

use super::stage::{Pod, Stage};

/// What the calls ask for: nothing else says this, so that it can be looked for on the wire.
pub(super) const SECRET: &str = "invoice-4711";
/// How often each pod calls each service.
const CALLS: u64 = 4;

/// A service of `services.yaml`.
pub(super) struct Service {
    pub(super) name: &'static str,
    pub(super) namespace: &'static str,
}

pub(super) const SERVICES: [Service; 3] = [
    Service {
        name: "payments-api",
        namespace: "payments",
    },
    Service {
        name: "orders-api",
        namespace: "orders",
    },
    Service {
        name: "legacy-app",
        namespace: "legacy",
    },
];

/// Calls that were answered, of those made, from service to service.
pub(super) struct Matrix([[(u64, u64); 3]; 3]);

impl Matrix {
    /// Makes the calls, those of different pods at the same time.
    pub(super) fn of(stage: &Stage) -> Result<Self> {
        let pods = stage.pods()?;
        let mut matrix = Self([[(0, 0); 3]; 3]);
        let outcomes: Vec<Result<_>> = std::thread::scope(|scope| {
            let callers: Vec<_> = pods
                .iter()
                .filter_map(|pod| Some((SERVICES.iter().position(|of| of.name == pod.service)?, pod)))
                .map(|(from, pod)| scope.spawn(move || Ok((from, each_service(stage, pod)?))))
                .collect();
            let join = |caller: std::thread::ScopedJoinHandle<'_, _>| caller.join().expect("a caller does not panic");
            callers.into_iter().map(join).collect()
        });
        for outcome in outcomes {
            let (from, answered) = outcome?;
            for (cell, answered) in matrix.0[from].iter_mut().zip(answered) {
                cell.0 += answered;
                cell.1 += CALLS;
            }
        }
        Ok(matrix)
    }

    /// Whether exactly the promised calls got through: all of them or none.
    pub(super) fn is(&self, promised: impl Fn(&str, &str) -> bool) -> bool {
        SERVICES.iter().zip(&self.0).all(|(from, row)| {
            SERVICES.iter().zip(row).all(|(to, (answered, made))| {
                let wanted = if promised(from.name, to.name) { *made } else { 0 };
                *made > 0 && *answered == wanted
            })
        })
    }
}

fn each_service(stage: &Stage, pod: &Pod) -> Result<Vec<u64>> {
    SERVICES.iter().map(|to| call(stage, pod, to, CALLS)).collect()
}

/// Calls a service from a pod, over a new connection each time; how many calls were answered.
pub(super) fn call(stage: &Stage, pod: &Pod, to: &Service, calls: u64) -> Result<u64> {
    let load = stage.bin().join("corten-load").display().to_string();
    let url = format!("http://{}.{}:8080/{SECRET}", to.name, to.namespace);
    let calls = calls.to_string();
    let program = [
        &*load,
        &url,
        "--rate",
        "0",
        "-n",
        &calls,
        "--close",
        "--timeout",
        "2s",
        "-o",
        "json",
    ];
    let command = [&["exec", "-n", &pod.namespace, &pod.name, "--"][..], &program].concat();
    // A call without an answer makes the client fail; what it printed says which.
    let output = stage.command(&command).output()?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{}: {}", command.join(" "), String::from_utf8_lossy(&output.stderr)))?;
    Ok(report["codes"]["200"].as_u64().unwrap_or(0))
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {:<14}", "from \\ to")?;
        for to in &SERVICES {
            write!(f, "  {:<14}", to.name)?;
        }
        for (from, row) in SERVICES.iter().zip(&self.0) {
            write!(f, "\n  {:<14}", from.name)?;
            for (answered, made) in row {
                let mark = match answered {
                    0 => "✗",
                    all if all == made => "✓",
                    _ => "~",
                };
                let cell = format!("{mark} {answered}/{made}");
                write!(f, "  {cell:<14}")?;
            }
        }
        writeln!(f)
    }
}
