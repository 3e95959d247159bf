//! `corten manifest`: the objects of an installation, without a cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use corten_api::{decode, yaml};
use corten_install::charts::Component;
use corten_install::cluster::title;
use corten_install::render::{self, Options, Rendered};
use corten_install::verify::differences;
use serde_json::Value;

use crate::installation::Asked;
use crate::output;

/// What there is.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Manifest {
    /// Print the objects that an installation makes, for `kubectl apply -f -`
    Generate(Generate),
    /// Compare the objects of two files
    Diff(Diff),
}

/// Compare the objects of two files.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 they are equal, 1 they are not.")]
pub(crate) struct Diff {
    /// A file of objects, as `manifest generate` prints them
    #[arg(value_name = "FILE")]
    left: PathBuf,
    /// The other one
    #[arg(value_name = "FILE")]
    right: PathBuf,
}

/// Print the objects that an installation makes.
#[derive(Debug, clap::Args)]
pub(crate) struct Generate {
    #[command(flatten)]
    asked: Asked,
    /// Write a file for each component into this directory instead
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Only these components: base, pilot, cni, ztunnel, ingressGateways, egressGateways
    #[arg(long, value_name = "COMPONENT", value_delimiter = ',')]
    component: Vec<String>,
}

impl Manifest {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Generate(generate) => generate.run(),
            Self::Diff(diff) => diff.run(),
        }
    }
}

impl Diff {
    fn run(self) -> Result<ExitCode> {
        let (left, right) = (objects_of(&self.left)?, objects_of(&self.right)?);
        let mut lines = Vec::new();
        for (title, object) in &left {
            match right.get(title) {
                None => lines.push(format!("- {title}")),
                Some(other) => {
                    let fields = differences(object, other);
                    if !fields.is_empty() {
                        lines.push(format!("~ {title}: {}", fields.join(", ")));
                    }
                }
            }
        }
        let new = right.keys().filter(|title| !left.contains_key(*title));
        lines.extend(new.map(|title| format!("+ {title}")));
        if lines.is_empty() {
            output::line("the objects are equal")?;
            return Ok(ExitCode::SUCCESS);
        }
        output::line(lines.join("\n"))?;
        Ok(ExitCode::FAILURE)
    }
}

/// The objects of a file, by kind, namespace and name.
fn objects_of(path: &std::path::Path) -> Result<BTreeMap<String, Value>> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {name}"))?;
    let (objects, problems) = decode::objects(&name, &text);
    if let Some(problem) = problems.first() {
        anyhow::bail!("{problem}");
    }
    let values = objects.iter().map(decode::SpannedObject::to_value);
    Ok(values.map(|object| (title(&object), object)).collect())
}

impl Generate {
    fn run(self) -> Result<ExitCode> {
        for name in &self.component {
            anyhow::ensure!(
                Component::ALL.iter().any(|component| component.key() == name),
                "--component {name:?}: there are base, pilot, cni, ztunnel, ingressGateways and egressGateways"
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
