//! The loop around the [machine](crate::machine): hears of pods, namespaces, proxies and the plugin, has jobs done, waits for the next.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_rt::{Drain, TaskGroup};
use corten_store_kube::{Change, Event, kinds};
use tokio::sync::{mpsc, watch};

use crate::machine::{Job, Machine, Outcome, Stage, Task, Verdict};
use crate::metrics::{Heard, Metrics};
use crate::plugin::Asked;
use crate::pod::{Pod, Redirection, labels};
use crate::repair::{self, Repair};
use crate::worker::{Place, Worker};

/// How often is looked whether somebody changed what is ours.
const REPAIR_INTERVAL: Duration = Duration::from_secs(2);
/// Every so many looks are thorough.
const THOROUGH: u32 = 10;
/// At this look the start is over.
const RESTED: u32 = 2;
/// Jobs under way at once.
const JOBS_MAX: usize = 32;

/// What the driver hears.
pub struct Sources {
    /// Pods of the node and namespaces.
    pub objects: mpsc::Receiver<Event>,
    /// The plugin.
    pub questions: mpsc::Receiver<Asked>,
    /// How many proxies are connected.
    pub proxies: watch::Receiver<usize>,
}

/// What the driver says.
pub struct Signals {
    /// Every pod that was there at the start has been taken up: proxies may be told.
    pub adopted: watch::Sender<bool>,
    /// Problems of pods, for whoever looks.
    pub problems: watch::Sender<Vec<String>>,
    /// Namespaces outside of the mesh, for the plugin in times without an agent.
    pub outside: watch::Sender<BTreeSet<String>>,
}

/// The plugin's question, waiting.
struct Waiting {
    asked: Asked,
    until: Instant,
}

/// A job that has ended.
struct Ended {
    task: Task,
    outcome: Outcome,
    /// The plugin's, whose answer it is.
    plugin: Option<Asked>,
}

/// The loop.
pub struct Driver {
    machine: Machine,
    worker: Arc<Worker>,
    metrics: Arc<Metrics>,
    signals: Signals,
    waiting: Vec<Waiting>,
    running: usize,
    queued: std::collections::VecDeque<Task>,
    ended: mpsc::Sender<Ended>,
    ended_receiver: mpsc::Receiver<Ended>,
    problems: std::collections::BTreeMap<String, String>,
    patience: Duration,
    repair: Option<Repair>,
    repaired: repair::Seen,
    repairs: u32,
    tasks: TaskGroup,
}

impl Driver {
    /// Begins with a machine that knows nothing. The plugin's questions wait with this patience for a pod to be known, and for a proxy.
    pub fn new(
        machine: Machine,
        worker: Arc<Worker>,
        metrics: Arc<Metrics>,
        signals: Signals,
        patience: Duration,
    ) -> Driver {
        let (ended, ended_receiver) = mpsc::channel(JOBS_MAX);
        Driver {
            machine,
            worker,
            metrics,
            signals,
            waiting: Vec::new(),
            running: 0,
            queued: std::collections::VecDeque::new(),
            ended,
            ended_receiver,
            problems: std::collections::BTreeMap::new(),
            patience,
            repair: None,
            repaired: repair::Seen::default(),
            repairs: 0,
            tasks: TaskGroup::new("jobs"),
        }
    }

    /// Sees to pods that were started without the redirection to their sidecar, too.
    #[must_use]
    pub fn with_repair(mut self, repair: Option<Repair>) -> Driver {
        self.repair = repair;
        self
    }

    /// Runs until the drain.
    pub async fn run(mut self, mut sources: Sources, mut drain: Drain) {
        let mut synced = false;
        let mut repair = tokio::time::interval(REPAIR_INTERVAL);
        repair.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if synced {
                self.step();
            }
            let wake = self.wake_at();
            tokio::select! {
                () = drain.wait() => break,
                event = sources.objects.recv() => match event {
                    Some(Event::Changes(changes)) => changes.into_iter().for_each(|change| self.hear(change)),
                    Some(Event::Synced) => synced = true,
                    None => break,
                },
                Some(ended) = self.ended_receiver.recv() => self.finish(ended),
                Some(asked) = sources.questions.recv() => {
                    let until = Instant::now() + self.patience;
                    self.waiting.push(Waiting { asked, until });
                }
                Ok(()) = sources.proxies.changed() => {
                    let count = *sources.proxies.borrow_and_update();
                    self.metrics.proxies.set(i64::try_from(count).unwrap_or(i64::MAX));
                    self.machine.proxies(count);
                }
                _ = repair.tick() => self.repair(),
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
        // What is under way would be torn in the middle; it is short.
        self.tasks.shutdown(Duration::from_secs(2)).await;
    }

    fn hear(&mut self, change: Change) {
        let is_pod = |kind: &corten_store_kube::Kind| kind.plural == kinds::PODS.plural;
        let count = |kind: &'static str| {
            self.metrics.events.get_or_create(&Heard { r#type: kind }).inc();
        };
        match change {
            Change::Put { kind, object } if is_pod(&kind) => {
                count("update");
                if let Some(pod) = Pod::from_object(&object) {
                    self.see_to(&pod, &object);
                    self.machine.pod(pod);
                }
            }
            Change::Put { object, .. } => {
                count("update");
                if let Some(name) = object["metadata"]["name"].as_str() {
                    self.machine.namespace(name, labels(&object));
                }
            }
            Change::Removed { kind, key } => {
                count("delete");
                if is_pod(&kind) {
                    self.machine.pod_removed(&key.namespace, &key.name);
                } else {
                    self.machine.namespace_removed(&key.name);
                }
            }
        }
    }

    /// Sees to a pod that was started without the redirection to its sidecar.
    fn see_to(&mut self, pod: &Pod, object: &serde_json::Value) {
        let broken = self.repair.as_ref().filter(|repair| repair.is_broken(object));
        let Some(action) = broken.map(|repair| repair.action.clone()) else {
            return;
        };
        if self.repaired.is_due(&pod.uid, Instant::now()) {
            let (worker, pod) = (self.worker.clone(), pod.clone());
            self.tasks
                .spawn("repair pod", async move { worker.see_to(&pod, &action).await });
        }
    }

    /// Gives out what can be done, and says when the start is over.
    fn step(&mut self) {
        let now = Instant::now();
        self.answer(now);
        self.queued.extend(self.machine.tasks(now));
        while self.running < JOBS_MAX
            && let Some(task) = self.queued.pop_front()
        {
            self.start(task, None);
        }
        // Those that are given up on for now are tried again; proxies need not wait for them.
        let inspecting = |task: &Task| matches!(task.job, Job::Inspect { .. });
        let adopted = *self.signals.adopted.borrow();
        if !adopted && self.running == 0 && !self.queued.iter().any(inspecting) {
            self.machine.start();
            self.worker.adopted();
            let known = self
                .machine
                .all()
                .filter(|(_, stage)| *stage == Stage::Enrolled)
                .count();
            tracing::info!(pods = known, "pods of this node taken up");
            self.signals.adopted.send_replace(true);
        }
    }

    /// Answers the plugin's questions that can be answered.
    fn answer(&mut self, now: Instant) {
        for waiting in std::mem::take(&mut self.waiting) {
            let question = &waiting.asked.question;
            let adopted = *self.signals.adopted.borrow();
            let verdict = if adopted {
                self.machine
                    .plugin(&question.namespace, &question.name, &question.uid, true)
            } else {
                Verdict::Later
            };
            match verdict {
                Verdict::NotOurs => drop(waiting.asked.answer.send(Ok(()))),
                Verdict::Ours(pod) => {
                    let task = Task {
                        pod: *pod,
                        job: Job::Join,
                    };
                    self.start(task, Some(waiting.asked));
                }
                Verdict::Later if waiting.until > now => self.waiting.push(waiting),
                Verdict::Later => self.expire(waiting.asked),
            }
        }
    }

    /// The patience with a question is over: what is missing is said, and the pod does not start.
    fn expire(&mut self, asked: Asked) {
        let question = &asked.question;
        let verdict = self
            .machine
            .plugin(&question.namespace, &question.name, &question.uid, false);
        let problem = match verdict {
            Verdict::NotOurs => return drop(asked.answer.send(Ok(()))),
            // There is no proxy, which the job will say, to the user as well.
            Verdict::Ours(pod) => {
                let task = Task {
                    pod: *pod,
                    job: Job::Join,
                };
                return self.start(task, Some(asked));
            }
            Verdict::Later => format!(
                "the node agent does not know pod {}/{} yet; can it reach the API server?",
                question.namespace, question.name
            ),
        };
        drop(asked.answer.send(Err(problem)));
    }

    fn start(&mut self, task: Task, plugin: Option<Asked>) {
        self.running += 1;
        let (worker, ended) = (self.worker.clone(), self.ended.clone());
        self.tasks
            .spawn(format!("{}/{}", task.pod.namespace, task.pod.name), async move {
                let outcome = match &plugin {
                    Some(asked) => {
                        let place = Place::Given {
                            path: asked.question.netns.clone(),
                            addresses: asked.question.addresses.clone(),
                        };
                        match worker.join(&task.pod, place).await {
                            Ok(()) => Outcome::Done,
                            Err(error) => {
                                worker.abandon(&task.pod).await;
                                Outcome::Failed(error.to_string())
                            }
                        }
                    }
                    None => worker.work(&task).await,
                };
                // The driver is gone only when this task is about to be, too.
                ended.send(Ended { task, outcome, plugin }).await.ok();
            });
    }

    fn finish(&mut self, ended: Ended) {
        self.running -= 1;
        let Ended { task, outcome, plugin } = ended;
        let pod = &task.pod;
        let is_new = self.machine.done(&pod.uid, &outcome, Instant::now());
        let id = format!("{}/{}", pod.namespace, pod.name);
        match &outcome {
            Outcome::Failed(problem) => {
                self.metrics.failed.inc();
                if is_new {
                    tracing::warn!(pod = pod.name, namespace = pod.namespace, job = ?task.job, problem, "a step failed and is tried again");
                    let (worker, task, problem) = (self.worker.clone(), task.clone(), problem.clone());
                    self.tasks.spawn("report", async move {
                        worker.report(&task.pod, &task.job, &problem).await;
                    });
                }
                self.problems.insert(id, problem.clone());
            }
            _ => drop(self.problems.remove(&id)),
        }
        let problems = self.problems.iter().map(|(pod, problem)| format!("{pod}: {problem}"));
        self.signals.problems.send_replace(problems.collect());
        if let Some(asked) = plugin {
            let answer = match &outcome {
                Outcome::Failed(problem) => Err(problem.clone()),
                _ => Ok(()),
            };
            drop(asked.answer.send(answer));
        }
        if outcome == Outcome::Done && task.job == Job::Annotate(Redirection::Pending) {
            let worker = self.worker.clone();
            self.tasks.spawn("report", async move {
                let problem = "no node proxy is connected; is ztunnel running on this node?";
                worker.report(&task.pod, &task.job, problem).await;
            });
        }
    }

    fn wake_at(&self) -> Instant {
        let questions = self.waiting.iter().map(|waiting| waiting.until).min();
        let next = self.machine.wake_at().into_iter().chain(questions).min();
        // Far away rather than never: there is a repair before.
        next.unwrap_or_else(|| Instant::now() + REPAIR_INTERVAL)
    }

    fn repair(&mut self) {
        // Before all pods are known, what belongs to those that are not would be taken for foreign.
        if !*self.signals.adopted.borrow() {
            return;
        }
        // The times of these rounds are often enough: what counts is what was there when the agent went.
        let outside = self.machine.outside();
        self.signals
            .outside
            .send_if_modified(|before| std::mem::replace(before, outside.clone()) != outside);
        self.repairs = self.repairs.wrapping_add(1);
        let (worker, thorough) = (self.worker.clone(), self.repairs.is_multiple_of(THOROUGH));
        // What the start took (lists, the plugin's program twice) and what ran only then; on a node that rests there is nothing else.
        let rests = self.running == 0 && (thorough || self.repairs == RESTED);
        self.tasks.spawn("repair", async move {
            worker.repair(thorough).await;
            if rests {
                corten_linux::memory::trim();
                corten_linux::memory::forget_program();
            }
        });
    }
}
