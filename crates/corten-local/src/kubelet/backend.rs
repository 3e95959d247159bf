//! What the API server asks of running pods: logs, exec, attach, port-forward.
//!
//! One directory of pods for all nodes of the runtime; a pod's task keeps its [`Entry`] true.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use corten_apiserver::{Duplex, ExecExit, ExecOptions, ExecStreams, LogOptions, PodBackend, Status, TerminalSize};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};

use super::lifecycle::{Lifecycle, State};
use super::logs::{self, Alive};
use super::machine::PodSandbox;
use crate::sandbox::Exec;

/// The pods that run on this runtime's nodes.
#[derive(Default)]
pub struct Pods {
    entries: Mutex<HashMap<String, Arc<Entry>>>,
}

impl std::fmt::Debug for Pods {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pods").finish_non_exhaustive()
    }
}

/// What can be reached of one pod.
pub(super) struct Entry {
    log_dir: PathBuf,
    sandbox: Mutex<Option<Arc<dyn PodSandbox>>>,
    containers: watch::Sender<BTreeMap<String, Run>>,
}

/// The latest run of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Run {
    /// Which one it is: 0 for the first; also the name of its log.
    attempt: u32,
    alive: bool,
}

impl Pods {
    /// A directory without pods.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn enter(&self, uid: &str, log_dir: PathBuf) -> Arc<Entry> {
        let entry = Arc::new(Entry {
            log_dir,
            sandbox: Mutex::default(),
            containers: watch::Sender::default(),
        });
        self.lock().insert(uid.to_owned(), entry.clone());
        entry
    }

    pub(super) fn leave(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Entry>>> {
        self.entries.lock().expect("no panic while the pods are locked")
    }

    fn entry(&self, pod: &Value) -> Result<Arc<Entry>, Status> {
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let found = self.lock().get(uid).cloned();
        found.ok_or_else(|| Status::not_found("", "pods", pod["metadata"]["name"].as_str().unwrap_or_default()))
    }

    fn sandbox(&self, pod: &Value) -> Result<Arc<dyn PodSandbox>, Status> {
        let entry = self.entry(pod)?;
        let sandbox = entry.sandbox.lock().expect("no panic while it is locked").clone();
        let phase = pod["status"]["phase"].as_str().unwrap_or("Pending").to_owned();
        sandbox.ok_or_else(|| Status::bad_request(format!("pod has no running containers: its phase is {phase}")))
    }
}

impl Entry {
    pub(super) fn set_sandbox(&self, sandbox: Option<Arc<dyn PodSandbox>>) {
        *self.sandbox.lock().expect("no panic while it is locked") = sandbox;
    }

    /// A container is about to run for the `attempt`-th time (from 0); the logs of all runs but the one before go.
    pub(super) fn begin(&self, container: &str, attempt: u32) {
        // Still older ones went when their time came.
        if let Some(old) = attempt.checked_sub(2) {
            let log = self.attempt_path(container, old);
            let _ = std::fs::remove_file(logs::rotated(&log));
            let _ = std::fs::remove_file(log);
        }
        self.containers.send_modify(|of| {
            of.insert(container.to_owned(), Run { attempt, alive: true });
        });
    }

    /// The log of a container's latest run, or of the one before.
    pub(super) fn log_path(&self, container: &str, previous: bool) -> PathBuf {
        let attempt = self.containers.borrow().get(container).map_or(0, |of| of.attempt);
        self.attempt_path(container, if previous { attempt.saturating_sub(1) } else { attempt })
    }

    fn attempt_path(&self, container: &str, attempt: u32) -> PathBuf {
        self.log_dir.join(container).join(format!("{attempt}.log"))
    }

    /// Takes over which containers live.
    pub(super) fn update(&self, life: &Lifecycle) {
        self.containers.send_if_modified(|runs| {
            let mut changed = false;
            for of in &life.containers {
                if let Some(run) = runs.get_mut(&of.plan.name) {
                    let ended = matches!(of.state, State::Terminated(_)) && !of.is_starting();
                    changed |= std::mem::replace(&mut run.alive, !ended) == ended;
                }
            }
            changed
        });
    }
}

/// A followed log's container.
struct Following {
    container: String,
    attempt: u32,
    runs: watch::Receiver<BTreeMap<String, Run>>,
}

impl Alive for Following {
    fn is_alive(&self) -> bool {
        let runs = self.runs.borrow();
        runs.get(&self.container)
            .is_some_and(|run| run.alive && run.attempt == self.attempt)
            && self.runs.has_changed().is_ok()
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // An error means that the pod is gone, which is a change too; the next look sees it.
            let _ = self.runs.changed().await;
        })
    }
}

impl PodBackend for Pods {
    fn logs(
        &self,
        pod: &Value,
        options: LogOptions,
    ) -> BoxFuture<'_, Result<BoxStream<'static, io::Result<Bytes>>, Status>> {
        let opened = self.entry(pod).and_then(|entry| {
            readable(pod, &options)?;
            let path = entry.log_path(&options.container, options.previous);
            let follow = (options.follow && !options.previous).then(|| -> Box<dyn Alive> {
                let runs = entry.containers.subscribe();
                let attempt = runs.borrow().get(&options.container).map_or(0, |run| run.attempt);
                Box::new(Following {
                    container: options.container.clone(),
                    attempt,
                    runs,
                })
            });
            Ok(logs::read(path, &options, follow))
        });
        Box::pin(std::future::ready(opened))
    }

    fn exec(&self, pod: &Value, options: ExecOptions, io: ExecStreams) -> BoxFuture<'_, Result<ExecExit, Status>> {
        if options.attach {
            return attach(self.entry(pod), pod, options, io);
        }
        let sandbox = self.sandbox(pod);
        Box::pin(async move {
            let sandbox = sandbox?;
            let started = sandbox.exec(&options.container, options.command, options.tty, options.stdin);
            let started = tokio::time::timeout(EXEC_START_MAX, started).await.map_err(|_| {
                Status::internal(format!(
                    "error executing command in container: the pod has not started it after {EXEC_START_MAX:?}"
                ))
            })?;
            let exec =
                started.map_err(|error| Status::internal(format!("error executing command in container: {error}")))?;
            pump(exec, io).await
        })
    }

    fn port_forward(&self, pod: &Value, port: u16) -> BoxFuture<'_, Result<Box<dyn Duplex>, Status>> {
        let sandbox = self.sandbox(pod);
        Box::pin(async move {
            let stream = sandbox?.dial(port).await;
            let stream = stream.map_err(|error| {
                Status::internal(format!("failed to connect to localhost:{port} inside the pod: {error}"))
            })?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        })
    }
}

/// Whether there is a log to read; if not, why, as the real kubelet says it.
fn readable(pod: &Value, options: &LogOptions) -> Result<(), Status> {
    let container = options.container.as_str();
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let of = format!("container {container:?} in pod {name:?}");
    let lists = ["containerStatuses", "initContainerStatuses"];
    let status = lists
        .iter()
        .filter_map(|list| pod["status"][*list].as_array())
        .flatten()
        .find(|status| status["name"] == container);
    let Some(status) = status else {
        return Err(Status::bad_request(format!("{of} is not available")));
    };
    if options.previous {
        if status["lastState"]["terminated"].is_object() {
            return Ok(());
        }
        return Err(Status::bad_request(format!("previous terminated {of} not found")));
    }
    if !status["state"]["waiting"].is_object() || status["lastState"]["terminated"].is_object() {
        return Ok(());
    }
    let why = match status["state"]["waiting"]["reason"].as_str().unwrap_or_default() {
        "ErrImagePull" => "image can't be pulled",
        "ImagePullBackOff" => "trying and failing to pull image",
        reason => reason,
    };
    Err(Status::bad_request(format!("{of} is waiting to start: {why}")))
}

/// Joins a container's output by following its log; its input cannot be joined.
fn attach(
    entry: Result<Arc<Entry>, Status>,
    pod: &Value,
    options: ExecOptions,
    io: ExecStreams,
) -> BoxFuture<'static, Result<ExecExit, Status>> {
    let wanted = LogOptions {
        container: options.container.clone(),
        tail_lines: Some(0),
        ..LogOptions::default()
    };
    let ready = entry.and_then(|entry| readable(pod, &wanted).map(|()| entry));
    Box::pin(async move {
        let entry = ready?;
        if options.stdin {
            return Err(Status::bad_request(
                "the input of a running container cannot be joined here: use exec, or attach without -i",
            ));
        }
        let runs = entry.containers.subscribe();
        let attempt = runs.borrow().get(&options.container).map_or(0, |run| run.attempt);
        let follow = Following {
            container: options.container.clone(),
            attempt,
            runs,
        };
        let mut lines = logs::read(
            entry.log_path(&options.container, false),
            &wanted,
            Some(Box::new(follow)),
        );
        while let Some(block) = lines.next().await {
            let block = block.map_err(Status::internal)?;
            if io.stdout.send(block).await.is_err() {
                break;
            }
        }
        Ok(ExecExit::default())
    })
}

/// Moves bytes between a program and its client until the program ends.
async fn pump(mut exec: Exec, mut io: ExecStreams) -> Result<ExecExit, Status> {
    let mut input = exec.stdin.take();
    let stdin = async {
        while let Some(block) = io.stdin.recv().await {
            let Some(to) = &mut input else { continue };
            if to.write_all(&block).await.is_err() || to.flush().await.is_err() {
                break;
            }
        }
        input = None;
        std::future::pending().await
    };
    let terminal = exec.terminal.take();
    let resize = async {
        while let Some(TerminalSize { width, height }) = io.resize.recv().await {
            if let Some(terminal) = &terminal
                && let Err(error) = terminal.resize(width, height)
            {
                tracing::debug!(%error, "the terminal was not resized");
            }
        }
        std::future::pending::<()>().await
    };
    let stderr = exec.stderr.take();
    let output = async {
        let errors = async {
            if let Some(stderr) = stderr {
                copy(stderr, &io.stderr).await;
            }
        };
        tokio::join!(copy(exec.stdout, &io.stdout), errors);
    };
    tokio::pin!(output);
    let mut exited = exec.exit;
    let both = async {
        tokio::select! {
            // All that it printed first; but what it left running may keep its output open.
            () = &mut output => (&mut exited).await,
            exit = &mut exited => {
                let _ = tokio::time::timeout(LAST_OUTPUT, &mut output).await;
                exit
            }
        }
    };
    // Input and sizes are served for as long as the program lives; they never end it.
    let exit = tokio::select! {
        exit = both => exit,
        exit = async { tokio::join!(stdin, resize).0 } => exit,
    };
    match exit {
        Ok(exit) => Ok(ExecExit { code: exit.code }),
        Err(_) => Err(Status::internal("the container went away")),
    }
}

/// How long a pod may take to start a further program.
const EXEC_START_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// How long output is waited for after the program itself has ended.
const LAST_OUTPUT: std::time::Duration = std::time::Duration::from_millis(200);

async fn copy(mut from: impl AsyncRead + Unpin, to: &mpsc::Sender<Bytes>) {
    let mut block = vec![0; 32 * 1024];
    // A terminal whose program is gone reads as an error; that is its end.
    while let Ok(read @ 1..) = from.read(&mut block).await {
        if to.send(Bytes::copy_from_slice(&block[..read])).await.is_err() {
            break;
        }
    }
}
