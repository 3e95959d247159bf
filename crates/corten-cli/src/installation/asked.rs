//! The flags that say what is to be installed, as istioctl has them.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{ArgMatches, FromArgMatches, parser::ValueSource};
use corten_install::operator::{Plan, Request, plan};

/// What is to be installed.
#[derive(Clone, Debug, clap::Args)]
struct Flags {
    /// An IstioOperator file, - for standard input; later ones count more
    #[arg(short, long = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A setting, such as profile=ambient, hub=..., values.global.proxy.clusterDomain=...
    #[arg(short, long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// The same, whose value is a text whatever it looks like
    #[arg(long, value_name = "PATH=VALUE")]
    set_string: Vec<String>,
    /// The revision; several may stand side by side
    #[arg(short, long, value_name = "NAME")]
    revision: Option<String>,
    /// The control plane's namespace
    #[arg(short = 'i', long = "istioNamespace", value_name = "NAMESPACE")]
    istio_namespace: Option<String>,
    /// Go on with values that are unknown
    #[arg(long)]
    force: bool,
    /// Charts of one's own; ours are built in
    #[arg(short = 'd', long, hide = true, value_name = "PATH")]
    manifests: Option<PathBuf>,
}

/// The flags, with settings of both forms in the order in which they were given.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    flags: Flags,
    sets: Vec<(String, bool)>,
}

impl FromArgMatches for Asked {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flags = Flags::from_arg_matches(matches)?;
        let mut sets: Vec<(usize, String, bool)> = Vec::new();
        for (id, text) in [("set", false), ("set_string", true)] {
            if matches.value_source(id) == Some(ValueSource::CommandLine) {
                let indices = matches.indices_of(id).into_iter().flatten();
                let values = matches.get_many::<String>(id).into_iter().flatten();
                sets.extend(indices.zip(values).map(|(at, value)| (at, value.clone(), text)));
            }
        }
        sets.sort();
        Ok(Self {
            flags,
            sets: sets.into_iter().map(|(_, value, text)| (value, text)).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Asked {
    fn augment_args(command: clap::Command) -> clap::Command {
        Flags::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Flags::augment_args_for_update(command)
    }
}

impl Asked {
    /// Whether anything is said of what to install, besides where and as which revision.
    pub(crate) fn says_something(&self) -> bool {
        !self.flags.files.is_empty() || !self.sets.is_empty()
    }

    /// What that means. Warnings are told.
    pub(crate) fn plan(&self) -> Result<Plan> {
        told(&self.request()?)
    }

    /// What is asked for.
    pub(crate) fn request(&self) -> Result<Request> {
        anyhow::ensure!(
            self.flags.manifests.is_none(),
            "--manifests: the charts are built into this program; to change objects use components.*.k8s.overlays in a file, or Helm with the charts in deploy/"
        );
        let files = self.flags.files.iter().map(|path| {
            let name = path.display().to_string();
            let text = if name == "-" {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).map(|_| text)
            } else {
                std::fs::read_to_string(path)
            };
            Ok((name.clone(), text.with_context(|| format!("reading {name}"))?))
        });
        Ok(Request {
            files: files.collect::<Result<_>>()?,
            sets: self.sets.clone(),
            revision: self.flags.revision.clone(),
            namespace: self.flags.istio_namespace.clone(),
            force: self.flags.force,
        })
    }
}

/// What is to be installed for a request. Warnings are told.
pub(crate) fn told(request: &Request) -> Result<Plan> {
    let plan = plan(request)?;
    for warning in &plan.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(plan)
}
