//! `corten install` and `corten upgrade`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use corten_analysis::beside::Objects;
use corten_install::charts::{Component, VERSION};
use corten_install::install::{self, Options, Progress};
use corten_install::operator::{self, Plan, Request};
use corten_install::render::{self, Rendered};
use corten_install::{adopt, beside, precheck, record};

use super::verify_install;
use crate::cluster::Cluster;
use crate::installation::{Asked, Target, confirm, gate, remembered, told};
use crate::output;

/// Install the mesh on Kubernetes, or bring an installation up to date.
#[derive(Debug, clap::Args)]
pub(crate) struct Install {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    asked: Asked,
    /// Do not ask
    #[arg(short = 'y', long)]
    skip_confirmation: bool,
    /// Let the server judge everything, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Check afterwards that all is as it should be
    #[arg(long)]
    verify: bool,
    /// Take over from another Istio that is installed
    #[arg(long)]
    adopt: bool,
    /// How long to wait until everything is ready
    #[arg(long, value_name = "DURATION", default_value = "300s")]
    readiness_timeout: corten_core::Duration,
}

impl Install {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let request = self.asked.request()?;
        let plan = told(&request)?;
        self.target
            .run(async |cluster| self.go(&cluster, &request, &plan, "installed").await)
    }

    /// Brings an installation to this version, as it was asked for then.
    pub(crate) fn upgrade(self) -> Result<ExitCode> {
        self.target.run(async |cluster| {
            let place = cluster.place(self.dry_run);
            let (request, known) = remembered(&place, &self.asked).await?;
            let plan = told(&request)?;
            let before = record::read(&place, &plan.namespace, &plan.revision).await?;
            match before {
                Some(before) if before.version == VERSION => {
                    eprintln!("version {VERSION} is installed already; everything is checked again")
                }
                Some(before) => {
                    if let Some(warning) = skew(&before.version, VERSION) {
                        eprintln!("warning: {warning}");
                    }
                    eprintln!("from version {} to {VERSION}", before.version);
                }
                None => bail!(
                    "no installation of this command is in namespace {}; `corten install` makes one{}",
                    plan.namespace,
                    if known {
                        ""
                    } else {
                        ", and -i and -r name another namespace or revision"
                    }
                ),
            }
            self.go(&cluster, &request, &plan, "upgraded").await
        })
    }

    async fn go(&self, cluster: &Cluster, request: &Request, plan: &Plan, done: &str) -> Result<ExitCode> {
        let place = cluster.place(self.dry_run);
        let mut request = request.clone();
        let mut plan = plan.clone();
        if self.adopt {
            let objects = render::objects(&plan, render::Options::default())?;
            let adopted = install::check_foreign(&place, &plan, &objects, true).await?;
            if let Some((file, names)) = adopt::mesh_config(&place, &plan, &adopted).await? {
                eprintln!("note: the mesh's configuration is kept: {}", names.join(", "));
                request
                    .files
                    .insert(0, ("the mesh's configuration before".to_owned(), file));
                plan = operator::plan(&request)?;
            }
        }
        let (request, plan) = (&request, &plan);
        let fitted = beside::fit(
            &place,
            request,
            plan,
            &render::objects(plan, render::Options::default())?,
        )
        .await?;
        for note in &fitted.notes {
            eprintln!("note: {note}");
        }
        let request = &fitted.request;
        let plan = &operator::plan(request)?;
        let objects = render::objects(plan, render::Options::default())?;
        if plan.parts.is_empty() {
            output::line("the profile brings nothing to install")?;
            return Ok(ExitCode::SUCCESS);
        }
        gate(&place, plan, &objects).await?;
        install::check_foreign(&place, plan, &objects, self.adopt).await?;
        let namespaces = place.list("Namespace", None, "").await?;
        let objects_there = Objects {
            namespaces: &namespaces,
            ..Objects::default()
        };
        for message in precheck::analyzed(objects_there) {
            eprintln!("warning: {}: {}", message.origin, message.text);
        }
        let what = format!(
            "The profile {} ({}) will be {done} in {}, namespace {}.",
            plan.profile,
            titles(plan).join(", "),
            cluster.server(),
            plan.namespace
        );
        if !confirm(&format!("{what} Proceed?"), self.skip_confirmation || self.dry_run)? {
            output::line("nothing was changed")?;
            return Ok(ExitCode::FAILURE);
        }
        let options = Options {
            adopt: self.adopt,
            timeout: self.readiness_timeout.to_std().unwrap_or(Duration::from_secs(300)),
        };
        let mut view = View::new(self.dry_run, done);
        install::install(&place, plan, request, &objects, &options, &mut |progress| {
            view.show(progress)
        })
        .await?;
        if self.dry_run {
            output::line("nothing was changed: this was a dry run")?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.verify && !verify_install::look(cluster, &place, plan, &objects).await? {
            return Ok(ExitCode::FAILURE);
        }
        output::line(next(plan, &objects, fitted.beside.as_deref()))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What a plan brings; several gateways are one thing.
fn titles(plan: &Plan) -> Vec<&'static str> {
    let mut titles: Vec<&str> = plan.parts.iter().map(|part| part.component.title()).collect();
    titles.dedup();
    titles
}

/// Whether versions are so far apart that they are not meant to work together.
fn skew(from: &str, to: &str) -> Option<String> {
    let minor = |version: &str| {
        let mut parts = version.split('.').map(|part| part.parse::<i64>().ok());
        Some((parts.next()??, parts.next()??))
    };
    let (from_minor, to_minor) = (minor(from)?, minor(to)?);
    let near = from_minor.0 == to_minor.0 && (from_minor.1 - to_minor.1).abs() <= 1;
    (!near).then(|| {
        format!("{from} and {to} are more than one minor version apart, and while nodes are replaced both run; go by way of the versions between")
    })
}

/// What to do next.
fn next(plan: &Plan, objects: &[Rendered], beside: Option<&str>) -> String {
    let has = |component| objects.iter().any(|rendered| rendered.component == component);
    let mut text = String::from("\nThe mesh is ready.\n");
    let injects = objects
        .iter()
        .any(|it| it.object["kind"] == "MutatingWebhookConfiguration");
    if has(Component::Ztunnel) && has(Component::Cni) {
        text += "  put a namespace into it:  kubectl label namespace NAME istio.io/dataplane-mode=ambient\n";
    } else if let Some(other) = beside {
        text += &format!("  the node proxies are revision {other}'s, and ask its control plane\n");
    } else if injects {
        let label = match plan.revision.as_str() {
            "" => "istio-injection=enabled".to_owned(),
            revision => format!("istio.io/rev={revision}"),
        };
        text += &format!("  give its pods proxies:    kubectl label namespace NAME {label}; then make them anew\n");
        text += "  node proxies instead:     corten install --set profile=ambient\n";
    } else {
        text += "  no node proxies are installed, so no workload joins; install them with --set profile=ambient\n";
    }
    let revision = if plan.revision.is_empty() {
        String::new()
    } else {
        format!(" --revision {}", plan.revision)
    };
    text += &format!("  check the installation:   corten verify-install{revision}\n");
    text += &format!(
        "  take it out again:        corten uninstall --purge{}",
        if revision.is_empty() {
            ""
        } else {
            "  (or this revision alone: corten uninstall -r NAME)"
        }
    );
    text
}

/// What the user sees while it goes on.
struct View {
    begin: Instant,
    dry_run: bool,
    done: String,
    /// What was last said of a component, and when.
    said: Vec<(Component, Vec<String>, Instant)>,
}

/// What is waited for is told when it lasts.
const SILENT_FOR: Duration = Duration::from_secs(3);

impl View {
    fn new(dry_run: bool, done: &str) -> Self {
        Self {
            begin: Instant::now(),
            dry_run,
            done: done.to_owned(),
            said: Vec::new(),
        }
    }

    fn show(&mut self, progress: Progress) {
        let seconds = self.begin.elapsed().as_secs_f64();
        match progress {
            Progress::Applied(component, all, changed) if self.dry_run => {
                eprintln!(
                    "✔ {}: the server takes its {all} objects; {changed} would change",
                    component.title()
                );
            }
            Progress::Applied(..) => {}
            Progress::Ready(component) => eprintln!("✔ {} {} ({seconds:.1} s)", component.title(), self.done),
            Progress::NotServed(object) => {
                eprintln!("  the cluster has no such objects, so the mesh goes without {object}")
            }
            Progress::Removed(object) => eprintln!("- {object} is no longer part of it and was removed"),
            Progress::Waiting(component, what) => {
                let last = self.said.iter().position(|(known, ..)| *known == component);
                let due = match last.map(|at| &self.said[at]) {
                    Some((_, said, last)) => *said != what && last.elapsed() >= SILENT_FOR,
                    None => self.begin.elapsed() >= SILENT_FOR,
                };
                if due {
                    eprintln!("  {} waits:", component.title());
                    what.iter().for_each(|what| eprintln!("    {what}"));
                    if let Some(at) = last {
                        self.said.swap_remove(at);
                    }
                    self.said.push((component, what, Instant::now()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_more_than_one_apart_are_named() {
        assert_eq!(skew("1.2.3", "1.3.0"), None);
        assert_eq!(skew("1.3.0", "1.2.9"), None);
        assert!(skew("1.1.0", "1.3.0").is_some());
        assert!(skew("1.9.0", "2.0.0").is_some());
        assert_eq!(skew("odd", "1.0.0"), None);
    }

    #[test]
    fn what_is_next_is_what_was_installed() {
        let next = |sets: &[&str]| {
            let request = Request {
                sets: sets.iter().map(|set| ((*set).to_owned(), false)).collect(),
                ..Request::default()
            };
            let plan = operator::plan(&request).unwrap();
            next(
                &plan,
                &render::objects(&plan, render::Options::default()).unwrap(),
                None,
            )
        };
        assert!(next(&["profile=ambient"]).contains("istio.io/dataplane-mode=ambient"));
        assert!(next(&["profile=default"]).contains("istio-injection=enabled"));
        assert!(next(&["profile=default", "revision=blue"]).contains("istio.io/rev=blue"));
    }
}
