//! `corten reset`.

use std::process::ExitCode;

use anyhow::{Context, bail};

use corten_local::instance::Instance;

use crate::output;
use crate::place::{Name, home};

/// Forget everything an instance kept: objects, keys, kubeconfig, logs. It must not be running.
#[derive(Debug, clap::Args)]
pub(crate) struct Reset {
    #[command(flatten)]
    name: Name,
}

impl Reset {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let instance = self.name.instance()?;
        let name = instance.name();
        if !instance.exists() {
            bail!("there is no instance {name:?}{}", others(&instance)?);
        }
        if let Some(holder) = instance.holder() {
            bail!(
                "{name:?} is running as process {}: stop it first, with `corten down --name {name}`",
                holder.pid
            );
        }
        let dir = instance.dir().display();
        instance.remove().with_context(|| format!("cannot remove {dir}"))?;
        output::line(format!("{name:?} is forgotten"))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Names the instances there are, for an error about one that is not.
pub(crate) fn others(unknown: &Instance) -> anyhow::Result<String> {
    let all = Instance::all(&home()?);
    let names: Vec<&str> = all
        .iter()
        .map(Instance::name)
        .filter(|name| *name != unknown.name())
        .collect();
    Ok(if names.is_empty() {
        "; `corten up` starts one".into()
    } else {
        format!("; there is {}", names.join(", "))
    })
}
