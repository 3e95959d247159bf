//! Developer commands: `cargo xtask COMMAND`.
//!
//! This crate depends on no product crate, so that it builds at once; what needs product code is a binary of its own
//! (`corten-conformance`, `corten-fields`, `corten-bench`) that a command here builds and runs.

mod cargo;
mod demo;
mod fuzz;
mod image;
mod kubernetes;
mod layers;
mod licences;
mod stock;
mod test;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  demo [--check]                         build what it needs, start a small Kubernetes, run the main job and show what happened;
                                         --check runs unattended and fails if a printed claim did not hold
       [--ztunnel PATH] [--istiod PATH]  play it with Istio's own node proxy, or control plane, in place of ours
  test [FILTER]                          everything that must hold: format, lints, layers, licences, conformance, tests
       [--ztunnel PATH] [--istiod PATH]  play the scenarios of the mesh with Istio's own programs
  test --kubernetes [--load-image COMMAND] [--node-shell COMMAND] [--envoy PATH] [FILTER]
                                         the mesh's scenarios on the cluster of KUBECONFIG (the first COMMAND gets the image archive
                                         onto its nodes, the second runs a node's name, a program, arguments there), without one on a
                                         two-node cluster of ../shared/kubernetes/lab.sh; PATH is the Envoy of sidecars and gateways
  conformance [--data DIR] [--area A] [--json FILE] [--verbose]
                                         judge the product by the data in DIR (default ../shared/testdata)
  fields [--check] [KIND...]             judge every field of every resource and write docs/fields.md; with --check, or for some kinds,
                                         only say what is ignored
  bench NAME [--json FILE]               run a benchmark beside its baseline; without NAME, list them
  image [--output FILE] [--envoy PATH]   the container images as one OCI archive; --help lists the rest
  fuzz [TARGET] [--seconds N]            run the fuzz targets (default: each for 60 s)
  tidy                                   only the checks that need no build: layers, licences
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode> {
    let Some((command, rest)) = arguments.split_first() else {
        print!("{USAGE}");
        return Ok(ExitCode::from(2));
    };
    match command.as_str() {
        "demo" => demo::run(rest),
        "test" => match rest.split_first() {
            Some((first, rest)) if first == "--kubernetes" => kubernetes::run(&kubernetes::parse(rest)?),
            _ => test::run(rest),
        },
        "fields" => cargo::run_tool("corten-fields", &[], rest),
        "conformance" => cargo::run_tool("corten-conformance", &[], rest),
        "bench" => cargo::run_tool("corten-bench", &["--release"], rest),
        "image" => image::run(rest),
        "fuzz" => fuzz::run(rest),
        "tidy" => test::tidy(),
        "help" | "-h" | "--help" => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        other => bail!("there is no command {other:?}; `cargo xtask help` lists them"),
    }
}
