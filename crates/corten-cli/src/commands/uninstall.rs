//! `corten uninstall`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use corten_install::beside::is_of_default;
use corten_install::cluster::title;
use corten_install::operator::Request;
use corten_install::record::{Record, shown};
use corten_install::remove::{self, Progress, Removal};
use corten_install::render;
use corten_install::{found, permissions, record, tags};
use serde_json::{Value, json};

use crate::installation::{Asked, Target, confirm, stop, told};
use crate::output;

/// Take the mesh out of the cluster. Running pods keep talking, without the mesh.
#[derive(Debug, clap::Args)]
pub(crate) struct Uninstall {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    asked: Asked,
    /// Everything: also resource definitions with all objects of theirs, the authority's keys and the namespace
    #[arg(long)]
    purge: bool,
    /// How long open connections through node proxies may take to end; what is left then is cut
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    drain_timeout: corten_core::Duration,
    /// Do not ask
    #[arg(short = 'y', long)]
    skip_confirmation: bool,
    /// Say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Name every object
    #[arg(short, long)]
    verbose: bool,
}

impl Uninstall {
    pub(crate) fn run(self) -> Result<ExitCode> {
        self.target.run(async |cluster| {
            let place = cluster.place(self.dry_run);
            let asked = self.asked.request()?;
            let drain = self.drain_timeout.to_std();
            let drain = drain.context("--drain-timeout has to be a time that is not negative")?;
            let namespace = asked.namespace.clone().unwrap_or_else(|| "istio-system".to_owned());
            let revision = asked.revision.clone().unwrap_or_default();
            let foreign: Vec<String> = found::look(&place)
                .await?
                .iter()
                .filter(|found| !found.is_ours)
                .map(found::Found::describe)
                .collect();
            let records = record::all(&place, &namespace).await?;
            let (own, others): (Vec<Record>, Vec<Record>) =
                records.into_iter().partition(|record| record.revision == revision);
            let remembered = !own.is_empty();
            let mut objects: Vec<Value> = own.into_iter().flat_map(|record| record.objects).collect();
            self.beside(&others, remembered, &objects, &revision)?;
            if self.purge {
                objects.extend(others.iter().flat_map(|other| other.objects.clone()));
            } else {
                objects.retain(|object| !others.iter().any(|other| other.has(object)));
            }
            if !remembered || self.asked.says_something() || self.purge {
                ensure!(
                    foreign.is_empty() || remembered,
                    "another Istio is installed, which this command does not remove:\n  {}",
                    foreign.join("\n  ")
                );
                // Installed by other means, or only in part: everything that an installation may have.
                let request = if self.asked.says_something() {
                    asked.clone()
                } else {
                    Request {
                        sets: vec![("profile=ambient".to_owned(), false)],
                        ..asked.clone()
                    }
                };
                let plan = told(&request)?;
                for object in remove::objects(&render::objects(&plan, render::Options::default())?) {
                    let known = objects.iter().any(|there| title(there) == title(&object));
                    if !known {
                        objects.push(object);
                    }
                }
            }
            let name = if revision.is_empty() {
                "corten-install".to_owned()
            } else {
                format!("corten-install-{revision}")
            };
            objects.push(json!({"kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}}));
            let mut there: Vec<Value> = Vec::new();
            for object in objects {
                if there.iter().any(|known| title(known) == title(&object)) {
                    continue;
                }
                let kept =
                    matches!(object["kind"].as_str(), Some("Namespace" | "CustomResourceDefinition")) && !self.purge;
                if !kept && place.live(&object).await?.is_some() {
                    there.push(object);
                }
            }
            if there.is_empty() {
                output::line(format!("nothing is installed in namespace {namespace}"))?;
                return Ok(ExitCode::SUCCESS);
            }
            let needs = permissions::to_remove(&there);
            stop(&permissions::lacking(&place, &needs, []).await?)?;
            let proxies = there.iter().any(|object| object["kind"] == "DaemonSet");
            let mut question = format!("{} objects will be removed from {}", there.len(), cluster.server());
            if self.purge {
                question += ", with all objects of Istio's kinds";
            }
            if proxies {
                question += &format!(
                    "; pods leave the mesh and talk in plaintext, and connections that are open through node proxies get {} s to end",
                    drain.as_secs()
                );
            }
            let injects = |object: &Value| object["kind"] == "MutatingWebhookConfiguration";
            if there.iter().any(injects) {
                match remove::injected(&place).await? {
                    0 => {}
                    pods => {
                        let pods = match pods {
                            1 => "1 pod has a proxy of its own".to_owned(),
                            many => format!("{many} pods have proxies of their own"),
                        };
                        question += &format!(
                            "; {pods}, which nobody configures any more: make such pods anew (kubectl rollout restart)"
                        );
                    }
                }
            }
            if !confirm(&format!("{question}. Proceed?"), self.skip_confirmation || self.dry_run)? {
                output::line("nothing was changed")?;
                return Ok(ExitCode::FAILURE);
            }
            if !self.dry_run
                && !self.purge
                && let Some(heir) = tags::inherit(&place, &namespace, &there, &others).await?
            {
                eprintln!("objects that name no revision are revision {heir}'s from now on");
                there.retain(|object| !is_of_default(object));
            }
            let removal = Removal {
                objects: there,
                namespace,
                purge: self.purge,
                drain,
            };
            let mut view = View::new(self.verbose || self.dry_run);
            let left = remove::remove(&place, &removal, &mut |progress| view.show(progress)).await?;
            if !left.is_empty() {
                bail!(
                    "not gone yet:\n  {}\nsomething holds them; the same command goes on from here",
                    left.join("\n  ")
                );
            }
            let would = if self.dry_run { "would be" } else { "were" };
            output::line(format!("✔ {} objects {would} removed", view.count))?;
            Ok(if view.stranded {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            })
        })
    }
}

impl Uninstall {
    /// Whether what is asked for can be taken out beside the other revisions.
    fn beside(&self, others: &[Record], remembered: bool, objects: &[Value], revision: &str) -> Result<()> {
        let names: Vec<&str> = others.iter().map(|other| shown(&other.revision)).collect();
        let names = names.join(", ");
        if others.is_empty() {
            return Ok(());
        }
        if self.purge {
            ensure!(
                revision.is_empty(),
                "--purge takes everything, and revision {names} is there as well: leave out -r to take all, or --purge to take revision {revision} alone"
            );
            return Ok(());
        }
        ensure!(
            remembered || self.asked.says_something(),
            "there is no installation of revision {}; there is {names}: name it with -r, or take everything with --purge",
            shown(revision)
        );
        ensure!(
            !objects.iter().any(|object| object["kind"] == "DaemonSet"),
            "the node proxies and agents are revision {}'s, and revision {names} would stay without any; give them to it first \
             (`corten install -r {} --set profile=ambient --set components.cni.enabled=true --set components.ztunnel.enabled=true`), or take \
             everything with --purge",
            shown(revision),
            shown(&others[0].revision)
        );
        Ok(())
    }
}

/// How often is told who is waited for.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// What the user sees while it goes on.
struct View {
    names: bool,
    count: usize,
    stranded: bool,
    waiting: Instant,
}

impl View {
    fn new(names: bool) -> View {
        View {
            names,
            count: 0,
            stranded: false,
            waiting: Instant::now(),
        }
    }

    fn show(&mut self, progress: Progress) {
        match progress {
            Progress::Removed(object) => {
                self.count += 1;
                if self.names {
                    eprintln!("- {object}");
                }
            }
            Progress::Left(agents) => {
                eprintln!("✔ pods of {agents} nodes left the mesh: what they open from now on goes in plaintext");
                self.waiting = Instant::now();
            }
            Progress::Stranded(pods) => {
                self.stranded = true;
                eprintln!(
                    "✘ no agent took these pods out of the mesh; delete them, so that others start without it:\n    {}",
                    pods.join("\n    ")
                );
            }
            Progress::Draining(nodes, left) if self.waiting.elapsed() > TELL_EVERY => {
                self.waiting = Instant::now();
                eprintln!(
                    "  node proxies still serve open connections: {}; these have {} s left (--drain-timeout)",
                    nodes.join(", "),
                    left.as_secs()
                );
            }
            Progress::Draining(..) => {}
        }
    }
}
