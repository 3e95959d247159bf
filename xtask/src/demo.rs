//! `cargo xtask demo`: the main job on this machine, and the proof that each claim it prints holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cargo;

/// The name of the demo's instance.
const NAME: &str = "demo";
/// How often each pod calls each service.
const CALLS: u64 = 10;

/// Runs the demo; with `--check`, fails when a claim does not hold.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("usage: cargo xtask demo [--check]"),
    };
    println!("building ...");
    let bin = cargo::build_binaries(&[])?;
    let state = std::env::temp_dir().join(format!("corten-demo-{}", std::process::id()));
    let stage = Stage { bin, state };
    let mut claims = Claims::default();
    let outcome = play(&stage, &mut claims);
    stage.stop();
    outcome?;
    claims.add("nothing is left behind", !stage.is_running());
    println!();
    if claims.broken == 0 {
        println!("every one of the {} claims above held", claims.made);
        if !check {
            println!(
                "\nto look around yourself:\n  export PATH={}:$PATH\n  corten up",
                stage.bin.display()
            );
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

/// The instance that the demo plays on, with a state directory of its own.
#[derive(Debug)]
struct Stage {
    bin: PathBuf,
    state: PathBuf,
}

impl Stage {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.bin.join("corten"));
        command
            .args(arguments)
            .env("XDG_STATE_HOME", &self.state)
            .env("KUBECONFIG", self.state.join("corten").join(NAME).join("kubeconfig"))
            .stdin(Stdio::null());
        command
    }

    /// Runs a command that must succeed; its output.
    fn corten(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output().context("running corten")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "corten {}: {}",
            arguments.join(" "),
            said.trim()
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Shows a command as one would type it, and what it prints.
    fn show(&self, arguments: &[&str]) -> Result<()> {
        println!("\n$ corten {}", arguments.join(" "));
        print!("{}", self.corten(arguments)?);
        Ok(())
    }

    fn pods(&self) -> Result<Vec<Pod>> {
        let list: Value = serde_json::from_str(&self.corten(&["get", "pods", "-A", "-o", "json"])?)?;
        list["items"].as_array().into_iter().flatten().map(Pod::read).collect()
    }

    fn is_running(&self) -> bool {
        self.command(&["status", "--name", NAME])
            .output()
            .is_ok_and(|output| output.status.success())
    }

    fn stop(&self) {
        // Stopping what does not run is no failure, and what is left of the state is in a temporary directory.
        let _ = self.command(&["down", "--name", NAME]).output();
        let _ = std::fs::remove_dir_all(&self.state);
    }
}

#[derive(Clone, Debug)]
struct Pod {
    name: String,
    namespace: String,
    node: String,
    service: String,
}

impl Pod {
    fn read(value: &Value) -> Result<Self> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned();
        Ok(Self {
            name: text("/metadata/name"),
            namespace: text("/metadata/namespace"),
            node: text("/spec/nodeName"),
            service: text("/metadata/labels/app"),
        })
    }
}

fn play(stage: &Stage, claims: &mut Claims) -> Result<()> {
    println!("\n$ corten up --name {NAME} --detach");
    let begin = Instant::now();
    print!("{}", stage.corten(&["up", "--name", NAME, "--detach", "--no-mesh"])?);
    println!("  (took {:.2?})", begin.elapsed());

    let example = cargo::root().join("examples/echo.yaml");
    let relative = Path::new("examples/echo.yaml").display().to_string();
    println!("\n$ corten apply -f {relative}");
    let begin = Instant::now();
    print!("{}", stage.corten(&["apply", "-f", &example.to_string_lossy()])?);
    for namespace in ["payments", "orders"] {
        let wait = [
            "wait",
            "--for=condition=Available",
            "deployment",
            "--all",
            "-n",
            namespace,
            "--timeout=60s",
        ];
        stage.corten(&wait)?;
    }
    println!("  (all pods ready after {:.2?})", begin.elapsed());
    stage.show(&["get", "pods", "-A", "-o", "wide"])?;

    let pods = stage.pods()?;
    println!();
    claims.add("four pods run", pods.len() == 4);
    let nodes: BTreeSet<&str> = pods.iter().map(|pod| pod.node.as_str()).collect();
    claims.add("they run on two nodes", nodes.len() == 2);
    calls(stage, &pods, claims)
}

/// Every pod calls both services by name, and a table says who answered.
fn calls(stage: &Stage, pods: &[Pod], claims: &mut Claims) -> Result<()> {
    let load = stage.bin.join("corten-load").display().to_string();
    let mut answered = BTreeMap::<&str, BTreeSet<String>>::new();
    let mut all_answered = true;
    let mut across_nodes = false;
    println!("\n{CALLS} calls from every pod to each service, by its name:\n");
    println!(
        "  {:<32} {:<7} {:<30} {:>8}  answered by",
        "from", "node", "to", "answered"
    );
    for pod in pods {
        for (service, namespace) in [("payments-api", "payments"), ("orders-api", "orders")] {
            let url = format!("http://{service}.{namespace}:8080/");
            let calls = CALLS.to_string();
            let command = [
                "exec",
                "-n",
                &pod.namespace,
                &pod.name,
                "--",
                &load,
                &url,
                "--rate",
                "0",
                "-n",
                &calls,
                "--close",
                "-o",
                "json",
            ];
            // A call without an answer makes the client fail; what it printed says which.
            let output = stage.command(&command).output()?;
            let report: Value = serde_json::from_slice(&output.stdout)
                .with_context(|| format!("{}: {}", command.join(" "), String::from_utf8_lossy(&output.stderr)))?;
            let good = report["codes"]["200"].as_u64().unwrap_or(0);
            all_answered &= good == CALLS;
            let by: Vec<&String> = report["pods"]
                .as_object()
                .into_iter()
                .flat_map(serde_json::Map::keys)
                .collect();
            across_nodes |= pods
                .iter()
                .any(|other| other.node != pod.node && by.contains(&&other.name));
            answered
                .entry(service)
                .or_default()
                .extend(by.iter().map(|name| (*name).clone()));
            let from = format!("{}/{}", pod.namespace, pod.service);
            let to = format!("{service}.{namespace}:8080");
            let by: Vec<&str> = by.iter().map(|name| name.rsplit('-').next().unwrap_or(name)).collect();
            println!(
                "  {from:<32} {:<7} {to:<30} {good:>5}/{CALLS}  {}",
                pod.node,
                by.join(", ")
            );
        }
    }
    println!();
    claims.add("every call by service name was answered", all_answered);
    claims.add(
        "every pod of both services took part",
        answered.values().all(|pods| pods.len() == 2),
    );
    claims.add("pods answered callers on the other node", across_nodes);
    Ok(())
}
