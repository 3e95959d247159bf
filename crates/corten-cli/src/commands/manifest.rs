//! `corten manifest`: the objects of an installation, without a cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use corten_api::yaml;
use corten_install::charts::Component;
use corten_install::render::{self, Options, Rendered};

use crate::installation::Asked;
use crate::output;

/// What there is.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Manifest {
    /// Print the objects that an installation makes, for `kubectl apply -f -`
    Generate(Generate),
}

/// Print the objects that an installation makes.
#[derive(Debug, clap::Args)]
pub(crate) struct Generate {
    #[command(flatten)]
    asked: Asked,
    /// Write a file for each component into this directory instead
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Only these components: base, pilot, cni, ztunnel
    #[arg(long, value_name = "COMPONENT", value_delimiter = ',')]
    component: Vec<String>,
}

impl Manifest {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Generate(generate) => generate.run(),
        }
    }
}

impl Generate {
    fn run(self) -> Result<ExitCode> {
        for name in &self.component {
            anyhow::ensure!(
                Component::ALL.iter().any(|component| component.key() == name),
                "--component {name:?}: there are base, pilot, cni and ztunnel"
            );
        }
        let plan = self.asked.plan()?;
        let objects = render::objects(&plan, Options::default())?;
        let wanted = |rendered: &&Rendered| {
            self.component.is_empty() || self.component.iter().any(|name| name == rendered.component.key())
        };
        let objects: Vec<&Rendered> = objects.iter().filter(wanted).collect();
        let Some(dir) = self.output else {
            output::text(documents(objects.into_iter()))?;
            return Ok(ExitCode::SUCCESS);
        };
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        for component in Component::ALL {
            let text = documents(
                objects
                    .iter()
                    .copied()
                    .filter(|rendered| rendered.component == component),
            );
            if !text.is_empty() {
                let path = dir.join(format!("{}.yaml", component.key()));
                std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn documents<'a>(objects: impl Iterator<Item = &'a Rendered>) -> String {
    let documents: Vec<String> = objects.map(|rendered| yaml::document(&rendered.object)).collect();
    documents.join("---\n")
}
