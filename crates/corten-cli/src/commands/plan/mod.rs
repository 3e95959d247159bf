//! `corten plan`: which calls end otherwise under another configuration, and which of the objects that differ is the reason.
//!
//! Every kind of pod calls every port of every service with the requests that tell conditions apart; each call is followed in both worlds.
//! The reason is found by trying: each difference alone put on what was before, then each alone taken from what is after.

mod difference;
mod fate;
mod sample;
mod show;
mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;
use serde_json::Value;

use self::difference::{Difference, differences};
use self::fate::Fate;
use self::witness::Witness;
use crate::commands::Form;
use crate::commands::explain::tokens;
use crate::mesh::following::{Asked, Follower};
use crate::mesh::world::{Given, Known, Objects, Pod};
use crate::output;

/// The exit code where some call ends otherwise.
const CHANGES: u8 = 3;
/// How many differences are tried one by one.
const TRIED_MAX: usize = 24;
/// Of how many changes each request is asked for its own reason.
const EXPLAINED_MAX: usize = 300;

/// Say which calls change their outcome between two configurations, and which object is the reason
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The first -f is what is before, the second what is after; each is a file, a directory, or - for standard input.
With one -f, the cluster is what is before, and the cluster with the file's objects put into it what is after.
Exit code 0: no call that was tried ends otherwise, 3: some do, 1: it failed, or the time was over before all were tried. Examples:
  corten plan -f before/ -f after/
  corten get virtualservices,destinationrules -A -o yaml | corten plan -f - -f after/
  corten plan -f new-policy.yaml -o json"
)]
pub(crate) struct Plan {
    #[command(flatten)]
    objects: Objects,
    /// Only calls of this pod, POD.NAMESPACE, or the name of a Deployment in place of the pod's
    #[arg(long, value_name = "POD.NAMESPACE")]
    from: Option<String>,
    /// Only calls to hosts that begin so
    #[arg(long, value_name = "HOST")]
    to: Option<String>,
    /// How long calls are tried
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
    /// Take every pod to have a sidecar, whatever its labels and its namespace's say
    #[arg(long)]
    all_sidecars: bool,
    /// The form
    #[arg(short, long, value_name = "FORM", default_value = "short")]
    output: Form,
}

/// Who calls: pods of which configuration thinks the same.
type Caller = (String, String, Vec<(String, String)>);

/// A call.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    caller: Caller,
    host: String,
    port: u16,
    request: Witness,
}

/// Calls that change in the same way.
#[derive(Clone, Debug, Serialize)]
struct Change {
    host: String,
    port: u16,
    /// One of the calls.
    #[serde(skip)]
    call: Call,
    /// In words: `all of namespace x`, or names of workloads.
    callers: Vec<String>,
    requests: Vec<String>,
    before: Fate,
    after: Fate,
    /// The differences that are the reason.
    because: Vec<String>,
    /// Where none is so alone: what does not happen without each of them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    together: bool,
}

/// What the command says.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Planned {
    /// The objects that differ.
    differences: Vec<String>,
    changes: Vec<Change>,
    /// Objects that differ, and no call that was tried is otherwise because of them.
    without_effect: Vec<String>,
    /// How many calls there are, how many were tried, and how many of those change.
    calls: usize,
    tried: usize,
    changed: usize,
    /// What could not be tried.
    notes: Vec<String>,
}

impl Plan {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let (before, after) = self.worlds()?;
        let planned = self.plan(&before, &after)?;
        match self.output {
            Form::Short => output::text(show::text(&planned))?,
            Form::Json => output::text(output::json(&planned)?)?,
            Form::Yaml => output::text(corten_api::yaml::document(&serde_json::to_value(&planned)?))?,
        }
        if planned.tried < planned.calls {
            bail!(
                "only {} of {} calls were tried in {} s; --timeout, --from and --to help",
                planned.tried,
                planned.calls,
                self.timeout
            );
        }
        Ok(if planned.changes.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(CHANGES)
        })
    }

    /// The objects of both sides.
    fn worlds(&self) -> Result<(Given, Given)> {
        let one = |file: &PathBuf| self.objects.of_files(std::slice::from_ref(file));
        match self.objects.files() {
            [] => bail!(
                "say what is after with -f AFTER, and before it, unless that is the cluster, what is before with -f BEFORE"
            ),
            [after] => {
                let (before, change) = (self.objects.of_cluster()?, one(after)?);
                let mut after = before.clone();
                for difference in difference::put(&change, &before.namespace) {
                    difference.make(&mut after.objects);
                }
                Ok((before, after))
            }
            [before, after] => {
                ensure!(
                    before.as_os_str() != "-" || after.as_os_str() != "-",
                    "only one side can come from standard input"
                );
                Ok((one(before)?, one(after)?))
            }
            more => bail!(
                "there are {} -f, and two configurations are compared: put the files of each into a directory",
                more.len()
            ),
        }
    }

    fn plan(&self, before: &Given, after: &Given) -> Result<Planned> {
        let until = Instant::now() + Duration::from_secs(self.timeout);
        let differences = differences(before, after);
        let mut planned = Planned {
            differences: differences.iter().map(ToString::to_string).collect(),
            ..Planned::default()
        };
        let worlds = [self.objects.world(before.clone())?, self.objects.world(after.clone())?];
        for (world, side) in worlds.iter().zip(["before", "after"]) {
            planned
                .notes
                .extend(world.diagnostics.iter().map(|it| format!("{side}: {it}")));
        }
        if differences.is_empty() {
            return Ok(planned);
        }
        let followers = worlds.each_ref().map(|world| Side::new(world, self.all_sidecars));
        let calls = self.calls(&followers, &mut planned.notes)?;
        planned.calls = calls.len();
        let mut changed: Vec<(Call, Fate, Fate)> = Vec::new();
        for call in calls {
            if Instant::now() > until {
                break;
            }
            planned.tried += 1;
            let [one, other] = followers.each_ref().map(|side| side.fate(&call));
            if let (Some(one), Some(other)) = (one?, other?)
                && one != other
            {
                changed.push((call, one, other));
            }
        }
        planned.changed = changed.len();
        let everybody = everybody(&followers);
        planned.changes = show::grouped(changed, &everybody);
        if planned.changes.len() > EXPLAINED_MAX {
            planned.changes = show::merged(std::mem::take(&mut planned.changes));
        }
        self.explain(before, after, &differences, &mut planned)?;
        planned.changes = show::merged(planned.changes);
        Ok(planned)
    }

    /// All calls that both worlds have a caller for.
    fn calls(&self, sides: &[Side<'_>; 2], notes: &mut Vec<String>) -> Result<Vec<Call>> {
        let [before, after] = sides;
        let only = self.from.as_deref().map(|from| {
            let found = after
                .follower
                .known
                .pod(from)
                .or_else(|_| before.follower.known.pod(from));
            found.map(|pod| pod.kind())
        });
        let only = only.transpose()?;
        let callers: Vec<&Caller> = after
            .callers
            .keys()
            .filter(|caller| before.callers.contains_key(*caller))
            .collect();
        let callers = callers
            .into_iter()
            .filter(|caller| only.as_ref().is_none_or(|only| only == *caller));
        let callers: Vec<&Caller> = callers.collect();
        ensure!(
            !callers.is_empty(),
            "no pod is in both configurations, so nobody calls: files need Pods or Deployments on both sides"
        );
        for (one, other, word) in [(before, after, "is gone"), (after, before, "is new")] {
            for (caller, pod) in &one.callers {
                if !other.callers.contains_key(caller) {
                    notes.push(format!("{} {word}; its calls are not compared", fate::workload(pod)));
                }
            }
        }
        let mut calls = Vec::new();
        for ((host, port), (namespace, is_http)) in targets(sides) {
            if self.to.as_ref().is_some_and(|to| !host.starts_with(to)) {
                continue;
            }
            let requests = if is_http {
                let root = &after.follower.known.snapshot.catalog.settings.root_namespace;
                let objects: Vec<&Value> = sides.iter().flat_map(|side| &side.follower.known.objects).collect();
                let (requests, more) = witness::of_service(&objects, &host, &namespace, root);
                if more {
                    notes.push(format!("{host} has more conditions than are tried"));
                }
                requests
            } else {
                vec![Witness::default()]
            };
            for request in requests {
                calls.extend(callers.iter().map(|caller| Call {
                    caller: (*caller).clone(),
                    host: host.clone(),
                    port,
                    request: request.clone(),
                }));
            }
        }
        Ok(calls)
    }

    /// Finds the reason of each change, by one call of each.
    fn explain(&self, before: &Given, after: &Given, differences: &[Difference], planned: &mut Planned) -> Result<()> {
        let tried = &differences[..differences.len().min(TRIED_MAX)];
        if differences.len() > TRIED_MAX {
            let text = format!(
                "of {} objects that differ, {TRIED_MAX} were tried for the reason",
                differences.len()
            );
            planned.notes.push(text);
        }
        // Each alone, put on what was before: whether it does the whole, or something.
        let mut something = vec![BTreeSet::new(); planned.changes.len()];
        for (number, difference) in tried.iter().enumerate() {
            let mut given = before.clone();
            difference.make(&mut given.objects);
            let world = self.objects.world(given)?;
            let side = Side::new(&world, self.all_sidecars);
            for (change, moved) in planned.changes.iter_mut().zip(&mut something) {
                let Some(fate) = side.fate(&change.call)? else { continue };
                if fate == change.after {
                    change.because.push(difference.name());
                } else if fate != change.before {
                    moved.insert(number);
                }
            }
        }
        // Where none does the whole: each alone, taken from what is after.
        let is_open = |change: &Change| change.because.is_empty();
        if planned.changes.iter().any(is_open) {
            for (number, difference) in tried.iter().enumerate() {
                let mut given = after.clone();
                difference.unmake(&mut given.objects);
                let world = self.objects.world(given)?;
                let side = Side::new(&world, self.all_sidecars);
                for (change, moved) in planned
                    .changes
                    .iter()
                    .zip(&mut something)
                    .filter(|(change, _)| is_open(change))
                {
                    if side.fate(&change.call)?.is_some_and(|fate| fate != change.after) {
                        moved.insert(number);
                    }
                }
            }
            for (change, moved) in planned
                .changes
                .iter_mut()
                .zip(&something)
                .filter(|(change, _)| is_open(change))
            {
                change.together = moved.len() > 1;
                change.because = moved.iter().map(|number| tried[*number].name()).collect();
            }
        }
        let effective: BTreeSet<&String> = planned.changes.iter().flat_map(|change| &change.because).collect();
        let idle = tried.iter().filter(|it| !effective.contains(&it.name()));
        planned.without_effect = idle.map(ToString::to_string).collect();
        Ok(())
    }
}

/// One of the two worlds, and who calls in it.
struct Side<'a> {
    follower: Follower<'a>,
    callers: BTreeMap<Caller, Pod>,
}

impl<'a> Side<'a> {
    fn new(world: &'a Known, all_sidecars: bool) -> Self {
        let mut callers = BTreeMap::new();
        for pod in world.pods() {
            callers.entry(pod.kind()).or_insert(pod);
        }
        Self {
            follower: Follower::new(world, all_sidecars),
            callers,
        }
    }

    /// What becomes of a call; nothing where nobody makes it.
    fn fate(&self, call: &Call) -> Result<Option<Fate>> {
        let Some(pod) = self.callers.get(&call.caller) else {
            return Ok(None);
        };
        let request = &call.request;
        let mut headers: Vec<(String, String)> = request.headers.clone().into_iter().collect();
        headers.extend(request.host.iter().map(|host| ("host".to_owned(), host.clone())));
        let asked = Asked {
            host: call.host.clone(),
            port: call.port,
            address: None,
            speaks: None,
            method: request.method.clone().unwrap_or_else(|| "GET".to_owned()),
            path: request.path.clone().unwrap_or_else(|| "/".to_owned()),
            headers,
            token: request.claims.as_deref().map(tokens::token).transpose()?,
        };
        let followed = self.follower.follow(pod, &asked);
        let followed = followed.with_context(|| format!("following {} to {}:{}", pod.place(), call.host, call.port))?;
        Ok(Some(fate::of(&followed.trace, self.follower.known)))
    }
}

/// Every port of every service of either world, with the namespace of the service and whether requests are read there.
fn targets(sides: &[Side<'_>; 2]) -> BTreeMap<(String, u16), (String, bool)> {
    let mut found = BTreeMap::new();
    for side in sides {
        for service in side.follower.known.snapshot.catalog.services.iter() {
            // Nobody calls a host with a wildcard; one that it stands for is as good as another.
            let host = match service.host.to_string() {
                host if host.starts_with("*.") => host.replacen('*', "any", 1),
                host => host,
            };
            for port in &service.ports {
                let target = (service.namespace.to_string(), !port.protocol.is_tcp());
                found.entry((host.clone(), port.number)).or_insert(target);
            }
        }
    }
    found
}

/// All callers with the names of their workloads.
fn everybody(sides: &[Side<'_>; 2]) -> BTreeMap<Caller, String> {
    let [before, after] = sides;
    let both = after
        .callers
        .iter()
        .filter(|(caller, _)| before.callers.contains_key(*caller));
    both.map(|(caller, pod)| (caller.clone(), fate::workload(pod)))
        .collect()
}

#[cfg(test)]
mod tests;
