//! What the commands around an installation have in common.

mod asked;
mod confirm;

use anyhow::{Result, bail};
use corten_install::cluster::Cluster as Place;
use corten_install::operator::{Plan, Request};
use corten_install::precheck::{self, Level, Message};
use corten_install::record;
use corten_install::render::Rendered;

pub(crate) use asked::{Asked, told};
pub(crate) use confirm::confirm;

use crate::cluster::{Cluster, Connection};

/// The cluster to install into.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Target {
    /// The kubeconfig file; by default those in KUBECONFIG, else ~/.kube/config, else that of the running local instance
    #[arg(short = 'c', long, value_name = "FILE")]
    kubeconfig: Option<std::path::PathBuf>,
    /// The kubeconfig's context to use
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

impl Target {
    /// Runs a command's work against it.
    pub(crate) fn run<T>(&self, work: impl AsyncFnOnce(Cluster) -> Result<T>) -> Result<T> {
        Connection::of(self.kubeconfig.clone(), self.context.clone()).run(work)
    }
}

impl Cluster {
    /// As installations see it; with `dry_run` nothing that is written is kept.
    pub(crate) fn place(&self, dry_run: bool) -> Place {
        Place::new(self.client(), self.server(), dry_run)
    }
}

/// Says what stands in the way of making these objects; an error if it does.
pub(crate) async fn gate(place: &Place, plan: &Plan, objects: &[Rendered]) -> Result<()> {
    stop(&precheck::gate(place, plan, objects).await?)
}

/// Says what was found; an error if any of it stands in the way.
pub(crate) fn stop(messages: &[Message]) -> Result<()> {
    for message in messages {
        eprintln!("{}", line(message));
    }
    if messages.iter().any(|message| message.level == Level::Error) {
        bail!("nothing was changed: what stands in the way is above");
    }
    Ok(())
}

/// A message in istioctl's form.
pub(crate) fn line(message: &Message) -> String {
    let level = match message.level {
        Level::Info => "Info",
        Level::Warning => "Warning",
        Level::Error => "Error",
    };
    let origin = if message.origin.is_empty() {
        String::new()
    } else {
        format!(" ({})", message.origin)
    };
    format!("{level} [{}]{origin} {}", message.code, message.text)
}

/// What to look at: what the flags say, or, without flags, what is remembered of the installation.
pub(crate) async fn remembered(place: &Place, asked: &Asked) -> Result<(Request, bool)> {
    let request = asked.request()?;
    if asked.says_something() {
        return Ok((request, false));
    }
    let namespace = request.namespace.as_deref().unwrap_or("istio-system");
    let revision = request.revision.as_deref().unwrap_or_default();
    match record::read(place, namespace, revision).await? {
        Some(record) => Ok((record.request, true)),
        None => Ok((request, false)),
    }
}
