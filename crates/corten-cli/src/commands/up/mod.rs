//! `corten up`.

mod background;
pub(crate) mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use corten_local::instance::Instance;
use corten_local::mesh::Stock;
use corten_local::up::{self, UpOptions};

use crate::place::Name;

/// Start a small Kubernetes with the mesh on this machine: an API that kubectl can use, nodes, and pods that are processes here.
///
/// Needs no root. Prints the line that points kubectl at it. In the foreground it shows what happens until Ctrl-C stops it.
/// Objects are kept in $XDG_STATE_HOME/corten/NAME (~/.local/state/corten/NAME) for the next `up`; `corten reset` forgets them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Environment: CORTEN_LOG sets what is logged, e.g. \"info,corten_local=debug\"; `corten status` says where.\n\
Exit codes: 0 stopped as asked (with --detach: ready), 1 failed, 2 wrong usage."
)]
pub(crate) struct Up {
    #[command(flatten)]
    name: Name,
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=100))]
    nodes: u8,
    /// Return when it is ready, and leave it running
    #[arg(long, short)]
    detach: bool,
    /// The API's port on 127.0.0.1 [default: the last one, or any that is free]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Run COMMAND for containers of this image that have no command of their own (repeatable)
    #[arg(long, value_name = "NAME=COMMAND", value_parser = image)]
    image: Vec<(String, String)>,
    /// Leave the mesh out: only the small Kubernetes
    #[arg(long)]
    no_mesh: bool,
    /// Run this ztunnel of Istio's as the node proxy
    #[arg(long, value_name = "PATH", conflicts_with = "no_mesh", value_parser = program)]
    ztunnel: Option<PathBuf>,
    /// Run this pilot-discovery of Istio's as the control plane
    #[arg(long, value_name = "PATH", conflicts_with = "no_mesh", value_parser = program)]
    istiod: Option<PathBuf>,
    /// The Envoy that sidecars and gateways run [default: envoy on the PATH]
    #[arg(long, value_name = "PATH", conflicts_with = "no_mesh", value_parser = program)]
    envoy: Option<PathBuf>,
    /// The process that --detach leaves behind; speaks to the one that started it
    #[arg(long, hide = true)]
    background: bool,
}

/// Parses `NAME=COMMAND`.
fn image(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, command)) if !name.is_empty() && !command.trim().is_empty() => Ok((name.into(), command.into())),
        _ => Err(
            "give an image and the command to run for it, like example.org/web=\"python3 -m http.server 8080\"".into(),
        ),
    }
}

/// Finds a program by its path; pods are started elsewhere, so a relative one is made absolute.
fn program(text: &str) -> Result<PathBuf, String> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = std::path::absolute(text).map_err(|error| error.to_string())?;
    match std::fs::metadata(&path) {
        Ok(file) if file.is_file() && file.permissions().mode() & 0o111 != 0 => Ok(path),
        Ok(_) => Err("it is not a program".into()),
        Err(error) => Err(error.to_string()),
    }
}

impl Up {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let instance = self.name.instance()?;
        if self.background {
            return background::run(&instance, self.options());
        }
        if self.detach {
            return background::start(&instance);
        }
        let mut view = view::Live::new();
        run(&instance, self.options(), |status| view.show(status))?;
        view.end(&instance)?;
        Ok(ExitCode::SUCCESS)
    }

    fn options(&self) -> UpOptions {
        UpOptions {
            nodes: self.nodes.into(),
            port: self.port,
            mesh: !self.no_mesh,
            stock: Stock {
                ztunnel: self.ztunnel.clone(),
                istiod: self.istiod.clone(),
                envoy: self.envoy.clone(),
            },
            images: self.image.iter().cloned().collect::<BTreeMap<_, _>>(),
            log_levels: std::env::var("CORTEN_LOG").ok().filter(|levels| !levels.is_empty()),
        }
    }
}

/// Runs the outer process's part on this, the main, thread.
fn run(
    instance: &Instance,
    options: UpOptions,
    watch: impl FnMut(&corten_local::status::RuntimeStatus),
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(up::run(instance, options, watch))?)
}
