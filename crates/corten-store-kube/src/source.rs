//! Objects as they change: one list and watch per kind, all of them told through one bounded queue.
//!
//! A watch that breaks, expires or falls behind is taken up again; what vanished meanwhile is told as removed. A custom
//! kind is watched as soon as its definition is served, and all its objects are gone when the definition is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use corten_core::NamespacedName;
use corten_rt::{Drain, TaskGroup};
use futures_util::{FutureExt, Stream, StreamExt};
use kube::api::ApiResource;
use kube::runtime::watcher::{self, Event as WatchEvent, watcher};
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::definitions::{Definitions, Served, ServedKinds};
use crate::kinds::{DEFINITIONS, Kind};
use crate::known::Known;
use crate::object::{self, Form, Object};
use crate::prune::Part;
use crate::refused::{Refusal, Refusals, Teller, forbidden};

/// Changes told together at most.
const BATCH_MAX: usize = 256;
/// Batches that wait for the reader; more, and the watches wait. A pod takes about 5 KB while it waits, so this bounds what the first
/// list takes beyond what is kept of it.
const QUEUE_MAX: usize = 4;
/// Objects per page of a list: 500 pods are about 3 MB of JSON, and so are 20 definitions.
const PAGE_SIZE: u32 = 500;
const PAGE_SIZE_DEFINITIONS: u32 = 20;
/// Pauses between attempts to reach the API server.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Longest pause between attempts to read what may not be read.
const REFUSED_MAX: Duration = Duration::from_secs(30);
/// A watch that has not been refused for so long is allowed.
const ALLOWED_AFTER: Duration = Duration::from_secs(5);

/// Pause before a kind is looked for again that the API server does not have.
const NOT_SERVED_PAUSE: Duration = Duration::from_secs(30);

/// What happened to one object.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It is there, or different.
    Put {
        /// The kind it was asked for by.
        kind: Kind,
        /// The object, without what [`Kind::part`] leaves out; `apiVersion` and `kind` may be missing, too.
        object: Value,
    },
    /// It is gone.
    Removed {
        /// The kind it was asked for by.
        kind: Kind,
        /// Which object.
        key: NamespacedName,
    },
}

/// What a source tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Objects changed.
    Changes(Vec<Change>),
    /// All objects that were there at the start have been told. Comes once.
    Synced,
}

/// Which objects of a kind are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selection {
    /// Only those of a namespace.
    pub namespace: Option<String>,
    /// Only those with these labels (Kubernetes' own syntax).
    pub labels: Option<String>,
    /// Only those with these fields (Kubernetes' own syntax).
    pub fields: Option<String>,
}

/// The watches to be started.
#[derive(Debug, Default)]
pub struct Source {
    kinds: Vec<Asked>,
}

/// Objects that are asked for.
#[derive(Debug)]
struct Asked {
    kind: Kind,
    selection: Selection,
    /// Whether they are waited for where they may not be read.
    needed: bool,
}

/// What comes of started watches.
#[derive(Debug)]
pub struct Started {
    /// What they tell.
    pub events: mpsc::Receiver<Event>,
    /// Which custom kinds are served.
    pub served: ServedKinds,
    /// What may not be read.
    pub refusals: Refusals,
}

impl Source {
    /// Nothing is watched.
    pub fn new() -> Source {
        Source::default()
    }

    /// Watches all objects of a kind.
    #[must_use]
    pub fn watch(self, kind: Kind) -> Source {
        self.select(kind, Selection::default())
    }

    /// Watches some objects of a kind.
    #[must_use]
    pub fn select(mut self, kind: Kind, selection: Selection) -> Source {
        self.kinds.push(Asked {
            kind,
            selection,
            needed: true,
        });
        self
    }

    /// Watches some objects of a kind. Where they may not be read, they are taken for none, and not waited for.
    #[must_use]
    pub fn optional(mut self, kind: Kind, selection: Selection) -> Source {
        self.kinds.push(Asked {
            kind,
            selection,
            needed: false,
        });
        self
    }

    /// Watches the pods of a node, whole: the agent reads more of them than the mesh's model does.
    #[must_use]
    pub fn pods_of_node(self, node: &str) -> Source {
        let kind = Kind {
            part: Part::Whole,
            ..crate::kinds::PODS
        };
        let fields = Some(format!("spec.nodeName={node}"));
        self.select(
            kind,
            Selection {
                fields,
                ..Selection::default()
            },
        )
    }

    /// Starts the watches. They end with the group, or when the receiver is dropped.
    pub fn start(self, client: &Client, tasks: &TaskGroup) -> mpsc::Receiver<Event> {
        self.start_telling(client, tasks).events
    }

    /// As [`start`](Self::start); tells which custom kinds are served, and what may not be read, too.
    pub fn start_telling(self, client: &Client, tasks: &TaskGroup) -> Started {
        let (events, receiver) = mpsc::channel(QUEUE_MAX);
        let (definitions, served) = Definitions::new();
        let (teller, refusals) = Teller::new();
        if self.kinds.iter().any(|asked| asked.kind.custom) {
            let (client, teller) = (client.clone(), teller.clone());
            tasks.vital("watch definitions", |drain| {
                follow_definitions(client, definitions, teller, drain)
            });
        }
        let waiting = Arc::new(AtomicUsize::new(self.kinds.len()));
        for asked in self.kinds {
            let kind = asked.kind;
            let watch = Watch {
                kind,
                selection: asked.selection,
                needed: asked.needed,
                teller: teller.clone(),
                client: client.clone(),
                out: Out {
                    kind,
                    events: events.clone(),
                    waiting: Some(waiting.clone()),
                    batch: Vec::new(),
                },
                known: Known::default(),
            };
            let served = served.clone();
            tasks.vital(format!("watch {}", kind.plural), |drain| watch.run(served, drain));
        }
        Started {
            events: receiver,
            served: ServedKinds(served),
            refusals,
        }
    }
}

/// The reader is gone.
struct Closed;

/// The way of one kind's changes to the reader.
struct Out {
    kind: Kind,
    events: mpsc::Sender<Event>,
    /// How many kinds have not been listed yet; `None`: this one has.
    waiting: Option<Arc<AtomicUsize>>,
    batch: Vec<Change>,
}

impl Out {
    async fn put(&mut self, object: Value) -> Result<(), Closed> {
        let kind = self.kind;
        self.add(Change::Put { kind, object }).await
    }

    async fn removed(&mut self, key: NamespacedName) -> Result<(), Closed> {
        let kind = self.kind;
        self.add(Change::Removed { kind, key }).await
    }

    async fn add(&mut self, change: Change) -> Result<(), Closed> {
        self.batch.push(change);
        if self.batch.len() >= BATCH_MAX {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Closed> {
        if self.batch.is_empty() {
            return Ok(());
        }
        // Only with room in the queue is the batch taken, so that nothing is lost when this is cancelled.
        let room = self.events.reserve().await.map_err(|_| Closed)?;
        room.send(Event::Changes(std::mem::take(&mut self.batch)));
        Ok(())
    }

    /// All objects of this kind have been told.
    async fn synced(&mut self) -> Result<(), Closed> {
        self.flush().await?;
        if let Some(waiting) = self.waiting.take()
            && waiting.fetch_sub(1, Ordering::AcqRel) == 1
        {
            self.events.send(Event::Synced).await.map_err(|_| Closed)?;
        }
        Ok(())
    }
}

/// The watch of one kind.
struct Watch {
    kind: Kind,
    selection: Selection,
    /// Whether it is waited for where it may not be read.
    needed: bool,
    teller: Teller,
    client: Client,
    out: Out,
    known: Known,
}

impl Watch {
    async fn run(mut self, mut served: watch::Receiver<Served>, mut drain: Drain) {
        let events = self.out.events.clone();
        let ended = async {
            if self.kind.custom {
                self.follow_custom(&mut served).await
            } else {
                let version = self.kind.version.to_owned();
                self.follow(&version).await
            }
        };
        // What is in the batch when this is cancelled is lost, which nobody notices: the reader ends, too.
        tokio::select! {
            () = drain.wait() => {}
            () = events.closed() => {}
            Err(Closed) = ended => {}
        }
    }

    /// Watches whenever a version is served. As long as it is not known what is, the usual version is tried.
    async fn follow_custom(&mut self, served: &mut watch::Receiver<Served>) -> Result<(), Closed> {
        let name = self.kind.definition();
        loop {
            let now = served.borrow_and_update().clone();
            let version = match now.as_deref().map(|now| now.get(&name)) {
                None => Some(self.kind.version.to_owned()),
                Some(None) => None,
                Some(Some(versions)) => {
                    let preferred = versions.iter().find(|version| *version == self.kind.version);
                    preferred.or_else(|| versions.first()).cloned()
                }
            };
            let Some(version) = version else {
                for key in self.known.clear() {
                    self.out.removed(key).await?;
                }
                self.out.synced().await?;
                if served.changed().await.is_err() {
                    return Err(Closed);
                }
                continue;
            };
            let gone = served.wait_for(|now| {
                let versions = now.as_deref().map(|now| now.get(&name));
                versions.is_some_and(|versions| !versions.is_some_and(|versions| versions.contains(&version)))
            });
            tokio::select! {
                ended = self.follow(&version) => return ended,
                changed = gone => if changed.is_err() { return Err(Closed) },
            }
        }
    }

    async fn follow(&mut self, version: &str) -> Result<(), Closed> {
        match self.kind.part {
            Part::Whole => self.follow_form::<object::Whole>(version).await,
            Part::Metadata => self.follow_form::<object::Metadata>(version).await,
            Part::Pod => self.follow_form::<object::Pod>(version).await,
            Part::Node => self.follow_form::<object::Node>(version).await,
            Part::EndpointSlice => self.follow_form::<object::EndpointSlice>(version).await,
            Part::Entries => self.follow_form::<object::Entries>(version).await,
            Part::Definition => self.follow_form::<object::Definition>(version).await,
        }
    }

    async fn follow_form<F: Form>(&mut self, version: &str) -> Result<(), Closed> {
        let mut stream = Box::pin(objects::<F>(&self.client, &self.kind, version, &self.selection));
        let mut retry = Retry::default();
        loop {
            // Changes that are there already are told together.
            let event = match stream.next().now_or_never() {
                Some(event) => event,
                None => {
                    self.out.flush().await?;
                    if self.teller.has(&self.kind, &self.selection) {
                        // A watch that is allowed again is silent until something changes.
                        match tokio::time::timeout(ALLOWED_AFTER, stream.next()).await {
                            Ok(event) => event,
                            Err(_) => {
                                self.allowed();
                                continue;
                            }
                        }
                    } else {
                        stream.next().await
                    }
                }
            };
            match event {
                None => return Ok(()),
                Some(Ok(event)) => {
                    // That a list begins does not mean that there is an answer.
                    if !matches!(event, WatchEvent::Init) {
                        retry = Retry::default();
                        self.allowed();
                    }
                    self.see(event).await?;
                }
                Some(Err(error)) if let Some(verb) = forbidden(&error) => {
                    self.refused(verb, &error).await?;
                    tokio::time::sleep(retry.pause(REFUSED_MAX)).await;
                }
                Some(Err(error)) if is_not_served(&error) && !self.awaits_definition() => {
                    // Not every API server has every kind of Kubernetes' own.
                    for key in self.known.clear() {
                        self.out.removed(key).await?;
                    }
                    self.out.synced().await?;
                    tokio::time::sleep(NOT_SERVED_PAUSE).await;
                }
                Some(Err(error)) => {
                    let (plural, pause) = (self.kind.plural, retry.pause(RETRY_MAX));
                    if retry.attempts == 1 {
                        tracing::debug!(kind = plural, %error, "watch interrupted");
                    } else {
                        tracing::warn!(kind = plural, %error, ?pause, "cannot watch; trying again");
                    }
                    self.out.flush().await?;
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Whether it will be known when the kind is served.
    fn awaits_definition(&self) -> bool {
        self.kind.custom && !self.teller.is_refused(&DEFINITIONS)
    }

    /// The objects may be read.
    fn allowed(&self) {
        if self.teller.clear(&self.kind, &self.selection) {
            tracing::info!(kind = self.kind.plural, "can be read now");
        }
    }

    /// The objects may not be read. What is known of them stays as it is: a right that is taken away takes no policy with it.
    async fn refused(&mut self, verb: &'static str, error: &watcher::Error) -> Result<(), Closed> {
        let refusal = Refusal {
            kind: self.kind,
            verb,
            namespace: self.selection.namespace.clone(),
            needed: self.needed,
        };
        if self.teller.tell(&self.selection, &refusal) {
            let needed = self.needed;
            tracing::warn!(
                needed,
                %error,
                "{refusal}: give it to this program's service account; asked again every {} s at most",
                REFUSED_MAX.as_secs()
            );
        }
        self.out.flush().await?;
        if !self.needed {
            self.out.synced().await?;
        }
        Ok(())
    }

    async fn see<F: Form>(&mut self, event: WatchEvent<Object<F>>) -> Result<(), Closed> {
        match event {
            WatchEvent::Init => self.known.begin(),
            WatchEvent::InitApply(object) | WatchEvent::Apply(object) => {
                if self.known.put(&object.key(), object.resource_version()) {
                    self.out.put(object.value).await?;
                }
            }
            WatchEvent::Delete(object) => {
                let key = object.key();
                if self.known.remove(&key) {
                    self.out.removed(key).await?;
                }
            }
            WatchEvent::InitDone => {
                for key in self.known.end() {
                    self.out.removed(key).await?;
                }
                self.out.synced().await?;
            }
        }
        Ok(())
    }
}

/// Whether there is no such kind.
fn is_not_served(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 404,
        _ => false,
    }
}

/// Growing pauses.
#[derive(Debug, Default)]
struct Retry {
    attempts: u32,
}

impl Retry {
    fn pause(&mut self, longest: Duration) -> Duration {
        self.attempts += 1;
        RETRY_MIN.saturating_mul(1 << (self.attempts - 1).min(16)).min(longest)
    }
}

/// The changes of objects of a kind.
pub(crate) fn objects<F: Form>(
    client: &Client,
    kind: &Kind,
    version: &str,
    selection: &Selection,
) -> impl Stream<Item = Result<WatchEvent<Object<F>>, watcher::Error>> + Send + use<F> {
    let api_version = match kind.group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    let resource = ApiResource {
        group: kind.group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.kind.to_owned(),
        plural: kind.plural.to_owned(),
    };
    let api: Api<Object<F>> = match &selection.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let config = watcher::Config {
        label_selector: selection.labels.clone(),
        field_selector: selection.fields.clone(),
        page_size: Some(if kind.part == Part::Definition {
            PAGE_SIZE_DEFINITIONS
        } else {
            PAGE_SIZE
        }),
        ..watcher::Config::default()
    };
    watcher(api, config)
}

/// Keeps the table of served kinds.
async fn follow_definitions(client: Client, mut definitions: Definitions, teller: Teller, mut drain: Drain) {
    let (events, mut changes) = mpsc::channel(QUEUE_MAX);
    let watch = Watch {
        kind: DEFINITIONS,
        selection: Selection::default(),
        // Without it, kinds are found by trying.
        needed: true,
        teller,
        client,
        out: Out {
            kind: DEFINITIONS,
            events,
            waiting: Some(Arc::new(AtomicUsize::new(1))),
            batch: Vec::new(),
        },
        known: Known::default(),
    };
    let read = async {
        let mut synced = false;
        while let Some(event) = changes.recv().await {
            match event {
                Event::Synced => synced = true,
                Event::Changes(changes) => {
                    for change in changes {
                        match change {
                            Change::Put { object, .. } => definitions.put(&object),
                            Change::Removed { key, .. } => definitions.remove(&key),
                        }
                    }
                }
            }
            if synced {
                definitions.publish();
            }
        }
    };
    // Nobody else reads this watch, so that both live in one task; the table itself is dropped with it.
    let (_, nothing) = watch::channel(None);
    let never = drain.clone();
    tokio::select! {
        () = drain.wait() => {}
        () = watch.run(nothing, never) => {}
        () = read => {}
    }
}
