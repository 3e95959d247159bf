//! The command tree: one module a command, each with its arguments and a `run`.

mod analyze;
mod apply;
mod compile;
mod crds;
mod delete;
mod doctor;
mod down;
mod exec;
mod experimental;
mod explain;
mod get;
mod install;
mod kube_inject;
mod label;
mod logs;
mod manifest;
mod plan;
mod proxy_config;
mod proxy_status;
mod reset;
mod rollout;
mod run;
mod status;
mod tag;
mod uninstall;
mod up;
mod validate;
mod verify_install;
mod wait;
mod waypoint;
mod ztunnel_config;

use std::process::ExitCode;

use anyhow::Context as _;
pub(crate) use apply::Files;

/// What the user can ask for.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Start a small Kubernetes on this machine
    Up(up::Up),
    /// Stop it; its objects are kept
    Down(down::Down),
    /// Show what runs and what is wrong
    Status(status::Status),
    /// Check whether this machine can run it
    Doctor(doctor::Doctor),
    /// Print the definitions of all custom resources
    Crds(crds::Crds),
    /// Forget all objects of an instance that is not running
    Reset(reset::Reset),
    /// Make a pod of a process of this machine, and follow it
    Run(run::Run),
    /// Install the mesh on Kubernetes
    Install(install::Install),
    /// Bring an installation to this version
    Upgrade(install::Install),
    /// Take the mesh out of a cluster
    Uninstall(uninstall::Uninstall),
    /// Check that what was installed is there and works
    VerifyInstall(verify_install::VerifyInstall),
    /// Give revisions further names
    #[command(subcommand)]
    Tag(tag::Tag),
    /// Print the objects of an installation on Kubernetes
    #[command(subcommand)]
    Manifest(manifest::Manifest),
    /// Put the proxies of pods into manifests
    KubeInject(kube_inject::KubeInject),
    /// Look for what is wrong with the mesh's configuration, in a cluster or in files
    Analyze(analyze::Analyze),
    /// Judge objects of files one by one
    #[command(visible_alias = "v")]
    Validate(validate::Validate),
    /// Show objects
    Get(get::Get),
    /// Make objects as files say they should be
    Apply(apply::Apply),
    /// Delete objects
    Delete(delete::Delete),
    /// Set or remove labels
    Label(label::Mark),
    /// Set or remove annotations
    Annotate(label::Mark),
    /// Print what a container has written
    Logs(logs::Logs),
    /// Run a command in a container
    Exec(exec::Exec),
    /// Follow and steer the rollout of a Deployment, StatefulSet or DaemonSet
    #[command(subcommand)]
    Rollout(rollout::Rollout),
    /// Wait until something holds of objects
    Wait(wait::Wait),
    /// Show what the node proxies know and do
    #[command(subcommand, visible_alias = "zc")]
    ZtunnelConfig(ztunnel_config::ZtunnelConfig),
    /// Show what an Envoy was told: clusters, listeners, routes, endpoints, certificates
    #[command(subcommand, visible_alias = "pc")]
    ProxyConfig(proxy_config::ProxyConfig),
    /// Show which proxies the control plane serves, and whether they have taken what it sent
    #[command(visible_alias = "ps")]
    ProxyStatus(proxy_status::ProxyStatus),
    /// Show what a proxy would be sent
    Compile(compile::Compile),
    /// Follow one call through the proxies of both sides, and say why it goes where it goes
    Explain(explain::Explain),
    /// Make waypoints, and show whether they run
    #[command(subcommand)]
    Waypoint(waypoint::Waypoint),
    /// Say which calls change their outcome between two configurations, and which object is the reason
    Plan(plan::Plan),
    /// Say who may call whom, and why
    #[command(subcommand)]
    Authz(experimental::Authz),
    /// Look into the mesh: describe, authz
    #[command(subcommand, visible_aliases = ["x", "exp"])]
    Experimental(experimental::Experimental),
}

/// The form of output, in istioctl's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// A table.
    #[value(alias = "table")]
    Short,
    Json,
    Yaml,
}

/// The content of a file, or of standard input for `-`.
fn read_file(file: &std::path::Path) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    if file.as_os_str() == "-" {
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut text).context("reading standard input")?;
    } else {
        text = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    }
    Ok(text)
}

impl Command {
    /// Runs it to its end.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Up(up) => up.run(),
            Self::Down(down) => down.run(),
            Self::Status(status) => status.run(),
            Self::Doctor(doctor) => doctor.run(),
            Self::Crds(crds) => crds.run(),
            Self::Reset(reset) => reset.run(),
            Self::Run(run) => run.run(),
            Self::Compile(compile) => compile.run(),
            Self::Explain(explain) => explain.run(),
            Self::Plan(plan) => plan.run(),
            Self::Waypoint(waypoint) => waypoint.run(),
            Self::Install(install) => install.run(),
            Self::Upgrade(install) => install.upgrade(),
            Self::Uninstall(uninstall) => uninstall.run(),
            Self::VerifyInstall(verify) => verify.run(),
            Self::Tag(tag) => tag.run(),
            Self::Manifest(manifest) => manifest.run(),
            Self::KubeInject(inject) => inject.run(),
            Self::Analyze(analyze) => analyze.run(),
            Self::Validate(validate) => validate.run(),
            Self::Get(get) => get.run(),
            Self::Apply(apply) => apply.run(),
            Self::Delete(delete) => delete.run(),
            Self::Label(mark) => mark.run(label::Field::Labels),
            Self::Annotate(mark) => mark.run(label::Field::Annotations),
            Self::Logs(logs) => logs.run(),
            Self::Exec(exec) => exec.run(),
            Self::Rollout(rollout) => rollout.run(),
            Self::Wait(wait) => wait.run(),
            Self::ZtunnelConfig(config) => config.run(),
            Self::ProxyConfig(config) => config.run(),
            Self::ProxyStatus(status) => status.run(),
            Self::Authz(authz) => authz.run(),
            Self::Experimental(experimental) => experimental.run(),
        }
    }
}
