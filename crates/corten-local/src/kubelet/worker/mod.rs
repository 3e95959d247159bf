//! One pod's task: does what its [`Lifecycle`] says and tells it what came of that.
//!
//! Decides nothing. It waits for one of: a change of the object, an exit, an answer to something it started, a time the lifecycle or a
//! probe asked for; then it asks the lifecycle again. Idle, it only waits.

mod probing;
mod telling;

use std::sync::Arc;
use std::time::Duration;

use corten_apiserver::{DeleteOptions, Object, Patch, Preconditions, resources};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{self, Pod};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Node;
use super::backend::Entry;
use super::env::SourceKind;
use super::hooks::{self, Target};
use super::lifecycle::{Action, Input, Lifecycle, Plan, Signal, StartFailure};
use super::logs;
use super::machine::PodSandbox;
use super::probes::{Answer, Kind, Probe};
use super::start::{self, Preparation, Prepared, Start};
use super::status;
use super::sysctls;
use super::volumes::{Place, Volumes, all_references};
use crate::sandbox::Exit;
pub(super) use telling::news;

/// The first and the longest pause between attempts to let a pod's object go.
const REMOVE_RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long a pod may take to answer that it has passed a signal on. It takes a millisecond.
const SIGNAL_MAX: Duration = Duration::from_secs(10);

/// What the node tells a pod's task.
#[derive(Clone, Debug)]
pub(super) enum Command {
    /// The object changed.
    Changed(Object),
    /// A ConfigMap or Secret that the pod refers to changed.
    SourceChanged,
    /// The object was deleted over our head.
    Gone,
}

/// Something a task of this pod has finished.
enum Done {
    Prepared(Result<Prepared, start::PrepareError>),
    Started(usize, Result<Start, StartFailure>),
    Hook(Input),
    Answer {
        container: usize,
        kind: Kind,
        run: u64,
        answer: Answer,
    },
    /// Volumes were brought up to date; when a token has to be renewed.
    Refreshed(Result<Option<Timestamp>, String>),
    Written(Result<Object, corten_apiserver::Status>),
    TornDown,
    Removed,
    /// Nothing that anybody waits for.
    Nothing,
}

/// A pod's task.
pub(super) struct Worker {
    node: Arc<Node>,
    pod: Arc<Pod>,
    object: Object,
    life: Lifecycle,
    volumes: Arc<Volumes>,
    sandbox: Option<Arc<dyn PodSandbox>>,
    exits: Option<mpsc::Receiver<Exit>>,
    probes: Vec<(usize, Probe)>,
    /// Counts the runs of each container, so that late answers are told from present ones.
    runs: Vec<u64>,
    pending: FuturesUnordered<BoxFuture<'static, Done>>,
    entry: Arc<Entry>,
    renew_at: Option<Timestamp>,
    /// The status as last written, or on its way.
    written: Value,
    writing: bool,
    write_again_at: Option<Timestamp>,
    write_failures: u32,
    /// The object no longer exists: nothing is written to it any more.
    gone: bool,
    removed: bool,
}

impl Worker {
    /// The task of a pod that is bound to this node.
    pub(super) fn new(node: Arc<Node>, object: Object) -> Result<Self, serde_json::Error> {
        let pod = Arc::new(Pod::deserialize(&*object)?);
        let now = (node.clock)();
        let plan = Plan::of(&pod);
        let containers = plan.containers.len();
        let known = pod.status.clone().unwrap_or_default();
        let life = Lifecycle::restore(plan, &known, now);
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let dir = node.dir.join("pods").join(&uid).join("volumes");
        let volumes = Arc::new(Volumes::new(
            dir,
            node.client.clone(),
            node.tokens.clone(),
            node.host_paths.clone(),
        ));
        let entry = node.pods.enter(&uid, logs::pod_dir(&node.log_dir, &pod));
        telling::tell_ignored(&node, &pod, &known);
        Ok(Self {
            written: json!({}),
            node,
            pod,
            object,
            life,
            volumes,
            sandbox: None,
            exits: None,
            probes: Vec::new(),
            runs: vec![0; containers],
            pending: FuturesUnordered::new(),
            entry,
            renew_at: None,
            writing: false,
            write_again_at: None,
            write_failures: 0,
            gone: false,
            removed: false,
        })
    }

    /// Runs until nothing of the pod is left.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        self.take_deletion();
        self.judge();
        loop {
            let now = self.now();
            let (actions, wake) = self.life.step(now);
            let acted = !actions.is_empty();
            for action in actions {
                self.act(action);
            }
            if acted {
                // Some actions have their outcome at once; ask again before waiting.
                continue;
            }
            if self.removed {
                break;
            }
            let probe_wake = self.ask_due_probes(now);
            self.renew_if_due(now);
            self.write_status(now);
            let wake = [wake, probe_wake, self.renew_at, self.write_again_at]
                .into_iter()
                .flatten()
                .min();
            let pause = wake.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO));
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    // The node is ending: the pod stays as it is in the API, its processes go with the runtime.
                    None => break,
                },
                exit = next_exit(&mut self.exits) => self.exited(exit),
                Some(done) = self.pending.next(), if !self.pending.is_empty() => self.done(done),
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
        if let Some(sandbox) = self.sandbox.take() {
            sandbox.stop().await;
        }
        self.node.pods.leave(self.uid());
    }

    /// The ConfigMaps and Secrets that the pod depends on.
    pub(super) fn sources(&self) -> Vec<(SourceKind, String)> {
        all_references(&self.pod)
    }

    fn now(&self) -> Timestamp {
        (self.node.clock)()
    }

    fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    fn input(&mut self, input: Input) {
        let now = self.now();
        self.life.input(input, now);
    }

    fn place(&self) -> Place {
        Place {
            node: self.node.identity.name.clone(),
            host_ips: self.node.identity.addresses.clone(),
            pod_ips: self.life.ips.clone(),
        }
    }

    fn spec_of(&self, container: usize) -> Option<v1::Container> {
        status::spec_of(&self.pod, &self.life.containers[container].plan.name).cloned()
    }

    // What comes in.

    fn obey(&mut self, command: Command) {
        match command {
            Command::Changed(object) => self.changed(object),
            Command::SourceChanged => {
                self.input(Input::SourceChanged);
                self.refresh();
            }
            Command::Gone => {
                self.gone = true;
                self.input(Input::Delete { grace: 0 });
            }
        }
    }

    fn changed(&mut self, object: Object) {
        let old = std::mem::replace(&mut self.object, object);
        let meta = |object: &Value, field: &str| object["metadata"][field].clone();
        let same = |field: &str| meta(&old, field) == meta(&self.object, field);
        let visible = same("labels") && same("annotations");
        if visible && same("generation") && same("deletionTimestamp") && same("deletionGracePeriodSeconds") {
            return;
        }
        match Pod::deserialize(&*self.object) {
            Ok(pod) => self.pod = Arc::new(pod),
            Err(error) => tracing::warn!(pod = self.life.plan.full_name, %error, "an update of the pod cannot be read"),
        }
        self.life.plan.active_deadline = Plan::of(&self.pod).active_deadline;
        if !visible {
            self.refresh();
        }
        self.take_deletion();
    }

    /// Refuses a pod that asks for what no pod gets here.
    fn judge(&mut self) {
        if let Err(message) = sysctls::requested(self.pod.spec.as_ref()) {
            let reason = sysctls::FORBIDDEN;
            self.input(Input::Rejected { reason, message });
        }
    }

    fn take_deletion(&mut self) {
        let meta = &self.pod.metadata;
        if meta.deletion_timestamp.is_some() {
            let grace = meta.deletion_grace_period_seconds.unwrap_or(30);
            self.input(Input::Delete { grace });
        }
    }

    fn exited(&mut self, exit: Option<Exit>) {
        let Some(exit) = exit else {
            self.exits = None;
            self.probes.clear();
            return self.input(Input::SandboxLost);
        };
        let found = self
            .life
            .containers
            .iter()
            .position(|of| of.plan.name == exit.container);
        let Some(container) = found else { return };
        let message = exit.message.unwrap_or_default();
        let message = self.with_log_fallback(container, exit.code, message);
        self.forget_probes(container);
        self.input(Input::Exited {
            container,
            code: exit.code,
            message,
        });
    }

    /// A container that failed without a message may want the end of its log for one.
    fn with_log_fallback(&self, container: usize, code: i32, message: String) -> String {
        let wanted = self
            .spec_of(container)
            .is_some_and(|of| of.termination_message_policy.as_deref() == Some("FallbackToLogsOnError"));
        if !wanted || code == 0 || !message.is_empty() {
            return message;
        }
        logs::tail_for_message(&self.entry.log_path(&self.life.containers[container].plan.name, false))
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Prepared(Ok(prepared)) => {
                self.sandbox = Some(prepared.made.pod.clone());
                self.exits = Some(prepared.made.exits);
                self.renew_at = prepared.renew_at;
                self.entry.set_sandbox(Some(prepared.made.pod));
                self.input(Input::Prepared { ips: prepared.made.ips });
            }
            Done::Prepared(Err(error)) => {
                self.tell(None, true, error.reason, error.message);
                self.input(Input::PrepareFailed);
            }
            Done::Started(container, Ok(start)) => self.started(container, start),
            Done::Started(container, Err(failure)) => self.input(Input::StartFailed { container, failure }),
            Done::Hook(input) => self.input(input),
            Done::Answer {
                container,
                kind,
                run,
                answer,
            } => self.answered(container, kind, run, &answer),
            Done::Refreshed(Ok(renew_at)) => self.renew_at = renew_at,
            Done::Refreshed(Err(error)) => {
                self.tell(None, true, "FailedMount", error);
                self.renew_at = self.now().checked_add(RETRY).ok();
            }
            Done::Written(outcome) => self.status_written(outcome),
            Done::TornDown => self.input(Input::TornDown),
            Done::Removed => self.removed = true,
            Done::Nothing => {}
        }
    }

    fn started(&mut self, container: usize, start: Start) {
        self.runs[container] += 1;
        self.input(Input::Running {
            container,
            id: start.id,
        });
        self.make_probes(container);
    }

    // What is to be done.

    fn act(&mut self, action: Action) {
        match action {
            Action::Prepare => self.prepare(),
            Action::Start(container) => self.start(container),
            Action::PostStart(container) => self.run_hook(container, true),
            Action::PreStop(container) => self.run_hook(container, false),
            Action::Signal(container, signal) => self.signal(container, signal),
            Action::TearDown => self.tear_down(),
            Action::Remove => self.remove(),
            Action::Report(report) => self.report(report),
        }
    }

    fn prepare(&mut self) {
        let lost = self.sandbox.take();
        self.entry.set_sandbox(None);
        let preparation = Preparation {
            node: self.node.clone(),
            pod: self.pod.clone(),
            volumes: self.volumes.clone(),
            place: self.place(),
        };
        self.pending.push(Box::pin(async move {
            if let Some(lost) = lost {
                lost.stop().await;
            }
            Done::Prepared(preparation.run().await)
        }));
    }

    fn start(&mut self, container: usize) {
        let (Some(spec), Some(sandbox)) = (self.spec_of(container), self.sandbox.clone()) else {
            let message = "the pod's sandbox is gone".to_owned();
            return self.input(Input::StartFailed {
                container,
                failure: StartFailure::Run { message },
            });
        };
        let of = &self.life.containers[container];
        let attempt = of.restarts + u32::from(of.ended().is_some());
        self.entry.begin(&of.plan.name, attempt);
        let starting = start::Starting {
            node: self.node.clone(),
            pod: self.pod.clone(),
            volumes: self.volumes.clone(),
            place: self.place(),
            sandbox,
            container: spec,
            about: self.about(Some(container)),
            log_path: self.entry.log_path(&of.plan.name, false),
        };
        self.pending
            .push(Box::pin(async move { Done::Started(container, starting.run().await) }));
    }

    fn target(&self, container: usize) -> Option<Target> {
        Some(Target {
            container: Arc::new(self.spec_of(container)?),
            pod_ip: self.life.ips.first().copied(),
            connect: self.node.machine.connect(),
            sandbox: self.sandbox.clone()?,
        })
    }

    fn run_hook(&mut self, container: usize, post_start: bool) {
        let hooks = self.spec_of(container).and_then(|of| of.lifecycle);
        let handler = hooks.and_then(|of| if post_start { of.post_start } else { of.pre_stop });
        let target = self.target(container);
        let (node, about) = (self.node.clone(), self.about(Some(container)));
        self.pending.push(Box::pin(async move {
            let outcome = match (target, handler) {
                (Some(target), Some(handler)) => hooks::hook(target, handler).await,
                _ => Ok(()),
            };
            if post_start {
                return Done::Hook(Input::PostStart {
                    container,
                    failure: outcome.err(),
                });
            }
            if let Err(error) = outcome {
                let message = format!("PreStopHook failed: {error}");
                node.recorder.tell(news(about, true, "FailedPreStopHook", message));
            }
            Done::Hook(Input::PreStopDone { container })
        }));
    }

    fn signal(&mut self, container: usize, signal: Signal) {
        let number = match signal {
            Signal::Terminate => rustix::process::Signal::TERM.as_raw(),
            Signal::Kill => rustix::process::Signal::KILL.as_raw(),
        };
        self.probes
            .retain(|(of, probe)| *of != container || probe.kind == Kind::Readiness);
        let name = self.life.containers[container].plan.name.clone();
        let Some(sandbox) = self.sandbox.clone() else { return };
        let pod = self.life.plan.full_name.clone();
        self.pending.push(Box::pin(async move {
            match tokio::time::timeout(SIGNAL_MAX, sandbox.signal(&name, number)).await {
                Ok(Ok(())) => {}
                // It may have exited by itself just now.
                Ok(Err(error)) => tracing::debug!(container = name, %error, "not signalled"),
                // The pod's process 1 passes signals on. Where it does not answer, its own death ends all of them.
                Err(_) if signal == Signal::Kill => {
                    tracing::warn!(pod, container = name, "the pod does not answer; it is ended as a whole");
                    sandbox.stop().await;
                }
                Err(_) => tracing::warn!(pod, container = name, "the pod does not answer to a signal"),
            }
            Done::Nothing
        }));
    }

    fn tear_down(&mut self) {
        self.probes.clear();
        self.renew_at = None;
        self.exits = None;
        self.entry.set_sandbox(None);
        let sandbox = self.sandbox.take();
        let volumes = self.volumes.clone();
        self.pending.push(Box::pin(async move {
            if let Some(sandbox) = sandbox {
                sandbox.stop().await;
            }
            volumes.remove().await;
            Done::TornDown
        }));
    }

    /// Writes how it ended, then lets the object go.
    fn remove(&mut self) {
        let (node, volumes, gone) = (self.node.clone(), self.volumes.clone(), self.gone);
        let (namespace, name, uid) = self.names();
        let status = self.render(self.now());
        let log_dir = logs::pod_dir(&node.log_dir, &self.pod);
        self.pending.push(Box::pin(async move {
            volumes.remove().await;
            if !gone {
                let patch = Patch::Merge(json!({ "metadata": { "uid": uid }, "status": status }));
                // The object may have been deleted by force: then there is nothing left to say.
                let _ = node
                    .client
                    .patch(&resources::PODS, &namespace, &name, Some("status"), patch)
                    .await;
                let options = DeleteOptions {
                    grace_seconds: Some(0),
                    preconditions: Preconditions {
                        uid: Some(uid),
                        ..Preconditions::default()
                    },
                    ..DeleteOptions::default()
                };
                // Whoever deleted it waits until it is gone: what keeps it (a webhook that fails, say) may pass.
                let mut pause = REMOVE_RETRY.0;
                while let Err(status) = node
                    .client
                    .delete(&resources::PODS, &namespace, &name, options.clone())
                    .await
                {
                    if status.is_not_found() {
                        break;
                    }
                    let now = node.client.get(&resources::PODS, &namespace, &name).await;
                    if now.is_ok_and(|now| options.preconditions.uid.as_deref() != now["metadata"]["uid"].as_str()) {
                        break;
                    }
                    tracing::warn!(namespace, pod = name, %status, ?pause, "the pod was not deleted; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(REMOVE_RETRY.1);
                }
            }
            let _ = std::fs::remove_dir_all(log_dir);
            Done::Removed
        }));
    }

    fn names(&self) -> (String, String, String) {
        let meta = &self.pod.metadata;
        let part = |field: &Option<String>| field.clone().unwrap_or_default();
        (part(&meta.namespace), part(&meta.name), part(&meta.uid))
    }

    // Volumes that change.

    fn refresh(&mut self) {
        if self.sandbox.is_none() {
            return;
        }
        let (volumes, pod, place) = (self.volumes.clone(), self.pod.clone(), self.place());
        self.pending.push(Box::pin(async move {
            Done::Refreshed(volumes.make(&pod, &place).await.map_err(|error| error.to_string()))
        }));
    }

    fn renew_if_due(&mut self, now: Timestamp) {
        if self.renew_at.is_some_and(|at| at <= now) {
            self.renew_at = None;
            self.refresh();
        }
    }
}

/// How long something that failed waits before it is tried again.
const RETRY: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);

/// The next exit of a container; never, while there is no sandbox.
async fn next_exit(exits: &mut Option<mpsc::Receiver<Exit>>) -> Option<Exit> {
    match exits {
        Some(exits) => exits.recv().await,
        None => std::future::pending().await,
    }
}
