//! `corten verify-install`: whether what runs is what was installed.

mod identity;

use std::process::ExitCode;

use anyhow::Result;
use corten_install::charts::Component;
use corten_install::cluster::Cluster as Place;
use corten_install::install;
use corten_install::operator::Plan;
use corten_install::render::{self, Rendered};
use corten_install::verify::{self, Check};
use http::Method;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::installation::{Asked, Target, remembered, told};
use crate::output;

/// Check that everything that was installed is there, as it should be, and works.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 all is well, 1 something is not; the reasons are printed.")]
pub(crate) struct VerifyInstall {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    asked: Asked,
}

impl VerifyInstall {
    pub(crate) fn run(self) -> Result<ExitCode> {
        self.target.run(async |cluster| {
            let place = cluster.place(false);
            let (request, _) = remembered(&place, &self.asked).await?;
            let plan = told(&request)?;
            let objects = render::objects(&plan, render::Options::default())?;
            let well = look(&cluster, &place, &plan, &objects).await?;
            Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        })
    }
}

/// Looks at everything and prints what was found; whether all is well.
pub(crate) async fn look(cluster: &Cluster, place: &Place, plan: &Plan, objects: &[Rendered]) -> Result<bool> {
    let mut well = true;
    let mut tell = |check: &Check| {
        well &= check.found.is_ok();
        output::line(text(check))
    };
    tell(&verify::objects(place, objects).await?)?;
    let mut components: Vec<Component> = plan.parts.iter().map(|part| part.component).collect();
    components.dedup();
    for component in components {
        tell(&verify::component(place, objects, component).await?)?;
    }
    if plan.parts.iter().any(|part| part.component == Component::Pilot) {
        tell(&verify::roots(place, &plan.namespace, jiff::Timestamp::now()).await?)?;
    }
    if let Some(check) = verify::webhook(place, plan, objects).await? {
        tell(&check)?;
    }
    if let Some(check) = verify::injection(place, plan, objects).await? {
        tell(&check)?;
    }
    let control = objects
        .iter()
        .find(|it| it.component == Component::Pilot && it.object["kind"] == "Deployment");
    if let Some(control) = control
        && let Some(pod) = install::pods(place, &control.object).await?.first()
    {
        tell(&identity::issued(cluster, place, plan, pod).await)?;
    }
    let ask = async |pod: &Value, port: u16, path: &str| {
        let word = |key: &str| pod["metadata"][key].as_str().unwrap_or_default();
        let answer = cluster
            .ask_pod(word("namespace"), word("name"), port, Method::GET, path)
            .await;
        match answer {
            Ok(answer) => Ok(String::from_utf8_lossy(&answer.body).into_owned()),
            Err(error) => Err(format!("{error:#}")),
        }
    };
    if let Some(check) = verify::nodes(place, plan, objects, ask).await? {
        tell(&check)?;
    }
    Ok(well)
}

fn text(check: &Check) -> String {
    match &check.found {
        Ok(found) => format!("✔ {}: {found}", check.what),
        Err(problem) => {
            let lines: Vec<&str> = problem.lines().collect();
            match &lines[..] {
                [one] => format!("✘ {}: {one}", check.what),
                many => format!("✘ {}:\n    {}", check.what, many.join("\n    ")),
            }
        }
    }
}
