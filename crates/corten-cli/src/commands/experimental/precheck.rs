//! `corten x precheck`: what would keep an installation from working.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use corten_api::yaml;
use corten_install::precheck::{self, Level};
use serde_json::json;

use crate::installation::{Target, line};
use crate::output;
use corten_install::operator::{Request, plan};
use corten_install::render;

/// Check whether the mesh can be installed or upgraded. Nothing is changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 nothing stands in the way, 1 a warning or an error was found.")]
pub(crate) struct Precheck {
    #[command(flatten)]
    target: Target,
    /// Leave out what only matters for installing a control plane
    #[arg(long)]
    skip_controlplane: bool,
    /// Also what changed since this minor version of Istio, as in 1.24
    #[arg(short, long, value_name = "VERSION")]
    from_version: Option<String>,
    /// The form
    #[arg(short, long, value_enum, default_value = "log")]
    output: Form,
    /// The least grave messages to show
    #[arg(long, value_enum, default_value = "info", ignore_case = true)]
    output_threshold: Threshold,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Log,
    Json,
    Yaml,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Threshold {
    Info,
    Warning,
    Error,
}

impl Precheck {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let threshold = match self.output_threshold {
            Threshold::Info => Level::Info,
            Threshold::Warning => Level::Warning,
            Threshold::Error => Level::Error,
        };
        let plan = plan(&Request {
            sets: vec![("profile=ambient".to_owned(), false)],
            ..Request::default()
        })?;
        self.target.run(async |cluster| {
            let place = cluster.place(false);
            let objects = render::objects(&plan, render::Options::default())?;
            let wanted = (!self.skip_controlplane).then_some(&objects[..]);
            let mut messages = precheck::run(&place, &plan, wanted).await?;
            if let Some(version) = &self.from_version {
                let since = precheck::since(&place, version).await?;
                messages.extend(since.map_err(|problem| anyhow!("--from-version: {problem}"))?);
            }
            let grave = messages.iter().any(|message| message.level >= Level::Warning);
            let shown: Vec<_> = messages.iter().filter(|message| message.level >= threshold).collect();
            let list = || {
                let items = shown.iter().map(|message| {
                    json!({"code": message.code, "level": format!("{:?}", message.level), "origin": message.origin, "message": message.text})
                });
                serde_json::Value::from(items.collect::<Vec<_>>())
            };
            match self.output {
                Form::Json => output::line(serde_json::to_string_pretty(&list())?)?,
                Form::Yaml => output::text(yaml::document(&list()))?,
                Form::Log => {
                    for message in &shown {
                        output::line(line(message))?;
                    }
                    if !grave {
                        output::line("✔ nothing stands in the way of an installation; get started with `corten install --set profile=ambient`")?;
                    }
                }
            }
            Ok(if grave { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        })
    }
}
