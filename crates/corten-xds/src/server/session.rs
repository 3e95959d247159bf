//! The server's session with one client: pure. Requests and the store's changes go in, responses come out.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use corten_proto::discovery::{self, DeltaDiscoveryRequest, DiscoveryRequest};

use super::Resource;
use super::drive::{Answer, Variant};
use super::look::{Look, TableLook};
use super::response::{Resources, Response};
use super::store::Change;
use crate::WILDCARD;

/// Responses whose acknowledgement is awaited. Older ones are taken as lost: their resources' state is then unknown, not wrong.
const OUTSTANDING_MAX: usize = 16;
/// How much of a client's reason for a rejection is kept.
const REASON_CHARS_MAX: usize = 2000;

/// What a client knows and wants.
#[derive(Debug)]
pub struct Session {
    variant: Variant,
    node: String,
    watches: Vec<Watch>,
    /// Number of responses so far; part of each nonce.
    responses: u64,
    /// Position in the order of types at which the next push goes on, so that a type that changes all the time does not keep others waiting.
    turn: usize,
}

/// The client's interest in one type.
#[derive(Debug)]
struct Watch {
    type_url: Box<str>,
    wildcard: bool,
    /// Names asked for, which may be other than those of the resources they lead to.
    asked: BTreeSet<Arc<str>>,
    /// The same, as they are shown, once somebody has looked.
    shown: OnceLock<Arc<[Arc<str>]>>,
    /// Names sent because something asked for led to them.
    implied: BTreeSet<Arc<str>>,
    /// Number of the latest change that the client has been told of.
    cursor: u64,
    /// Names asked for whose resources are to be sent again, changed or not.
    again: BTreeSet<Arc<str>>,
    outstanding: VecDeque<Outstanding>,
    sent: Option<Box<str>>,
    acked: Option<Box<str>>,
    error: Option<String>,
    rejected: BTreeMap<Arc<str>, String>,
}

#[derive(Debug)]
struct Outstanding {
    nonce: Box<str>,
    resources: Resources,
}

/// What a request was, for logs and counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The first request for the type, or a change of what is wanted.
    Subscribed,
    /// A response was accepted.
    Accepted,
    /// A response was rejected, at least in part.
    Rejected {
        /// The client's reason.
        reason: String,
        /// The resources that the reason speaks of; none: it does not say.
        names: Vec<Arc<str>>,
    },
    /// It answers a response that is not the last one; nothing follows from it.
    Stale,
}

/// A client's state for one type, in the words of istiod's `syncz`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Nothing has been sent.
    NotSent,
    /// All that was sent has been accepted.
    Synced,
    /// Something sent is not acknowledged yet.
    Stale,
    /// The last answer was a rejection.
    Error,
}

/// A client's state for one type, to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchView {
    /// The type.
    pub type_url: String,
    /// Whether it wants everything.
    pub wildcard: bool,
    /// The names it asked for.
    pub names: Arc<[Arc<str>]>,
    /// Nonce of the last response sent.
    pub sent: Option<String>,
    /// Nonce of the last response accepted.
    pub acked: Option<String>,
    /// Reason of the last rejection, if nothing was accepted since.
    pub error: Option<String>,
    /// Resources that the client rejected and has not accepted since, with its reason.
    pub rejected: Vec<(String, String)>,
}

impl WatchView {
    /// In one word.
    pub fn status(&self) -> Status {
        match (&self.sent, &self.acked, &self.error) {
            (_, _, Some(_)) => Status::Error,
            (None, _, None) => Status::NotSent,
            (sent, acked, None) if sent == acked => Status::Synced,
            _ => Status::Stale,
        }
    }
}

/// The session has missed removals that are no longer remembered; the client must connect anew and say what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too far behind to be told the difference; connect again")]
pub struct Behind;

impl Session {
    /// A session with a client on a node (whose resources an on-demand client always gets; empty for none).
    pub fn new(variant: Variant, node: impl Into<String>) -> Session {
        Session {
            variant,
            node: node.into(),
            watches: Vec::new(),
            responses: 0,
            turn: 0,
        }
    }

    /// A delta request. Yields what it was and, if it is to be answered, the answer.
    pub fn delta<'s>(
        &mut self,
        store: impl Into<Look<'s>>,
        request: DeltaDiscoveryRequest,
    ) -> (Event, Option<Response>) {
        let store = store.into();
        let position = self
            .watches
            .iter()
            .position(|watch| *watch.type_url == *request.type_url);
        let Some(position) = position else {
            return (Event::Subscribed, Some(self.begin(store, request)));
        };
        let watch = &mut self.watches[position];
        let mut event = match &*request.response_nonce {
            "" => Event::Subscribed,
            nonce => watch.answered(nonce, request.error_detail.as_ref()),
        };
        // Names are added and dropped by whatever request carries them: unlike acknowledgements, they do not speak of a response.
        let table = store.table(&request.type_url);
        let mut wanted = shared(table, request.resource_names_subscribe);
        let mut all = wanted.remove(WILDCARD) && !watch.wildcard;
        watch.wildcard |= all;
        if !wanted.is_empty() || !request.resource_names_unsubscribe.is_empty() {
            watch.shown = OnceLock::new();
        }
        watch.asked.extend(wanted.iter().cloned());
        for name in &request.resource_names_unsubscribe {
            if name == WILDCARD {
                (watch.wildcard, all) = (false, false);
            }
            wanted.remove(&**name);
            watch.asked.remove(&**name);
            watch.implied.remove(&**name);
        }
        if !all && wanted.is_empty() {
            return (event, None);
        }
        event = match event {
            Event::Accepted | Event::Stale => Event::Subscribed,
            other => other,
        };
        let (resources, removed) = match table {
            Some(table) if all => {
                watch.cursor = store.version();
                (Resources::All(table.all()), Vec::new())
            }
            Some(table) => watch.find(table, &self.node, &wanted, &HashMap::new()),
            None => (Resources::Some(Vec::new()), wanted.into_iter().collect()),
        };
        let response = self.respond(store, position, resources, removed);
        (event, Some(response))
    }

    /// The first delta request for a type; it is answered even if there is nothing to tell, since clients wait for that.
    fn begin(&mut self, store: Look<'_>, request: DeltaDiscoveryRequest) -> Response {
        let versions = request.initial_resource_versions;
        let subscribes_nothing = request.resource_names_subscribe.is_empty();
        let dropped: BTreeSet<String> = request.resource_names_unsubscribe.into_iter().collect();
        let table = store.table(&request.type_url);
        let mut asked = shared(table, request.resource_names_subscribe);
        asked.retain(|name| !dropped.contains(&**name));
        let wildcard = asked.remove(WILDCARD) || subscribes_nothing;
        if !wildcard {
            let held = versions.keys().filter(|name| !dropped.contains(*name));
            asked.append(&mut shared(table, held.cloned()));
        }
        let mut watch = Watch::new(&request.type_url, wildcard, asked);
        watch.cursor = store.version();
        let (resources, removed) = match table {
            Some(table) if wildcard && versions.is_empty() => (Resources::All(table.all()), Vec::new()),
            Some(table) if wildcard => {
                // An empty version says nothing about the content.
                let held = |resource: &Resource| {
                    !resource.version().is_empty()
                        && versions
                            .get(&**resource.name())
                            .is_some_and(|version| **version == *resource.version())
                };
                let news = table.resources().filter(|resource| !held(resource));
                let news = news.map(|resource| (resource.clone(), Vec::new())).collect();
                let gone = versions.keys().filter(|name| table.get(name).is_none());
                (Resources::Some(news), names(gone.cloned()))
            }
            Some(table) => {
                let asked = watch.asked.clone();
                watch.find(table, &self.node, &asked, &versions)
            }
            None => (Resources::Some(Vec::new()), names(versions.into_keys())),
        };
        let position = self.insert(store, watch);
        self.respond(store, position, resources, removed)
    }

    /// A state-of-the-world request, likewise.
    pub fn state<'s>(&mut self, store: impl Into<Look<'s>>, request: DiscoveryRequest) -> (Event, Option<Response>) {
        let store = store.into();
        let position = self
            .watches
            .iter()
            .position(|watch| *watch.type_url == *request.type_url);
        if let (Some(position), Some(error)) = (position, &request.error_detail) {
            return (
                self.watches[position].answered(&request.response_nonce, Some(error)),
                None,
            );
        }
        let table = store.table(&request.type_url);
        let has_wildcard = table.is_some_and(|table| table.config().state_wildcard);
        let mut asked = shared(table, request.resource_names);
        if asked.is_empty() && !has_wildcard {
            // No names mean no interest. In a first request, too.
            self.watches.retain(|watch| *watch.type_url != *request.type_url);
            return (Event::Subscribed, None);
        }
        let wildcard = has_wildcard && (asked.remove(WILDCARD) || asked.is_empty());
        let position = match position.filter(|_| !request.response_nonce.is_empty()) {
            None => {
                self.watches.retain(|watch| *watch.type_url != *request.type_url);
                self.insert(store, Watch::new(&request.type_url, wildcard, asked))
            }
            Some(position) => {
                let watch = &mut self.watches[position];
                if watch.sent.as_deref() != Some(&*request.response_nonce) {
                    return (Event::Stale, None);
                }
                let event = watch.answered(&request.response_nonce, None);
                let added: BTreeSet<Arc<str>> = asked.difference(&watch.asked).cloned().collect();
                let changed = watch.asked != asked || watch.wildcard != wildcard;
                let fewer_only = added.is_empty() && !wildcard;
                watch.asked = asked;
                watch.shown = OnceLock::new();
                watch.wildcard = wildcard;
                if let Some(table) = table.filter(|_| changed) {
                    // The names replace those before, and with them goes what only those led to.
                    watch.implied.clear();
                    let asked = watch.asked.clone();
                    watch.find(table, &self.node, &asked, &HashMap::new());
                }
                if !changed || (fewer_only && !has_wildcard) {
                    return (event, None);
                }
                if !has_wildcard && let Some(table) = table {
                    // Types asked for by name are answered with what is new; the rest the client has.
                    let (resources, _) = watch.find(table, &self.node, &added, &HashMap::new());
                    return (
                        Event::Subscribed,
                        Some(self.respond(store, position, resources, Vec::new())),
                    );
                }
                position
            }
        };
        (Event::Subscribed, Some(self.whole(store, position)))
    }

    /// All that a state-of-the-world client has asked for.
    fn whole(&mut self, store: Look<'_>, position: usize) -> Response {
        let watch = &mut self.watches[position];
        watch.cursor = store.version();
        let resources = match store.table(&watch.type_url) {
            Some(table) if watch.wildcard => Resources::All(table.all()),
            Some(table) => {
                let asked = watch.asked.clone();
                watch.implied.clear();
                watch.find(table, &self.node, &asked, &HashMap::new()).0
            }
            None => Resources::Some(Vec::new()),
        };
        self.respond(store, position, resources, Vec::new())
    }

    /// The next response that the store's changes call for; none: the client has been told everything.
    pub fn push<'s>(&mut self, store: impl Into<Look<'s>>) -> Result<Option<Response>, Behind> {
        let store = store.into();
        for _ in 0..self.watches.len() {
            let position = self.turn % self.watches.len();
            self.turn = position + 1;
            let watch = &mut self.watches[position];
            let Some(table) = store.table(&watch.type_url) else {
                continue;
            };
            if table.changed() <= watch.cursor && watch.again.is_empty() {
                continue;
            }
            let (resources, removed) = watch.news(table, &self.node).ok_or(Behind)?;
            watch.cursor = store.version();
            if resources.is_empty() && removed.is_empty() {
                continue;
            }
            let response = match self.variant {
                Variant::Delta => self.respond(store, position, Resources::Some(resources), removed),
                // Whoever asks by name takes what is not in the response for unchanged; removals cannot be told.
                Variant::State if !table.config().state_wildcard => {
                    if resources.is_empty() {
                        continue;
                    }
                    self.respond(store, position, Resources::Some(resources), Vec::new())
                }
                Variant::State => self.whole(store, position),
            };
            return Ok(Some(response));
        }
        self.turn = 0;
        Ok(None)
    }

    /// Each type's state.
    pub fn view(&self) -> Vec<WatchView> {
        self.watches.iter().map(Watch::view).collect()
    }

    /// One type's state.
    pub fn view_of(&self, type_url: &str) -> Option<WatchView> {
        let watch = self.watches.iter().find(|watch| *watch.type_url == *type_url)?;
        Some(watch.view())
    }

    /// Adds a watch where its type belongs in the order of pushes.
    fn insert(&mut self, store: Look<'_>, watch: Watch) -> usize {
        let rank = |type_url: &str| store.types().position(|known| known == type_url).unwrap_or(usize::MAX);
        let rank_new = rank(&watch.type_url);
        let position = self.watches.partition_point(|other| rank(&other.type_url) <= rank_new);
        self.watches.insert(position, watch);
        self.turn = 0;
        position
    }

    fn respond(&mut self, store: Look<'_>, position: usize, resources: Resources, removed: Vec<Arc<str>>) -> Response {
        self.responses += 1;
        let nonce: Box<str> = format!("{}/{}", store.version_info(), self.responses).into();
        self.send_again(store, position, &resources);
        let watch = &mut self.watches[position];
        for name in &removed {
            // It is gone, and with it what was wrong with it.
            watch.rejected.remove(name);
        }
        watch.sent = Some(nonce.clone());
        watch.outstanding.push_back(Outstanding {
            nonce: nonce.clone(),
            resources: resources.clone(),
        });
        if watch.outstanding.len() > OUTSTANDING_MAX {
            watch.outstanding.pop_front();
        }
        Response {
            variant: self.variant,
            type_url: watch.type_url.clone(),
            nonce,
            version_info: store.version_info().clone(),
            resources,
            removed,
            control_plane: Box::default(),
        }
    }

    /// Resources of a type that follows another are sent again with those of the other.
    fn send_again(&mut self, store: Look<'_>, position: usize, resources: &Resources) {
        let sent = self.watches[position].type_url.clone();
        let follows = |watch: &&mut Watch| {
            let table = store.table(&watch.type_url);
            table.is_some_and(|table| table.config().follows == Some(&*sent))
        };
        for watch in self.watches.iter_mut().filter(follows) {
            let asked = resources.names().filter(|name| watch.asked.contains(*name));
            watch.again.extend(asked.cloned());
        }
    }

    /// The answer to a question that is no subscription.
    pub(super) fn answer(&mut self, store: Look<'_>, type_url: &str, answer: Answer) -> Response {
        self.responses += 1;
        let resources = answer.resources.into_iter();
        Response {
            variant: self.variant,
            type_url: type_url.into(),
            nonce: format!("{}/{}", store.version_info(), self.responses).into(),
            version_info: store.version_info().clone(),
            resources: Resources::Some(resources.map(|resource| (Arc::new(resource), Vec::new())).collect()),
            removed: Vec::new(),
            control_plane: answer.control_plane.into(),
        }
    }
}

impl Watch {
    fn new(type_url: &str, wildcard: bool, asked: BTreeSet<Arc<str>>) -> Watch {
        Watch {
            type_url: type_url.into(),
            wildcard,
            asked,
            shown: OnceLock::new(),
            implied: BTreeSet::new(),
            cursor: 0,
            again: BTreeSet::new(),
            outstanding: VecDeque::new(),
            sent: None,
            acked: None,
            error: None,
            rejected: BTreeMap::new(),
        }
    }

    /// An acknowledgement, or a rejection if there is an error; the error's code is of no importance.
    fn answered(&mut self, nonce: &str, error: Option<&discovery::Status>) -> Event {
        let Some(position) = self.outstanding.iter().position(|sent| *sent.nonce == *nonce) else {
            return Event::Stale;
        };
        let Some(answered) = self.outstanding.drain(..=position).next_back() else {
            return Event::Stale;
        };
        let names = answered.resources.names();
        match error {
            None => {
                self.acked = Some(answered.nonce);
                self.error = None;
                if !self.rejected.is_empty() {
                    names.for_each(|name| {
                        self.rejected.remove(name);
                    });
                }
                Event::Accepted
            }
            Some(error) => {
                let reason: String = error.message.chars().take(REASON_CHARS_MAX).collect();
                let (mut blamed, mut fine): (Vec<_>, Vec<_>) =
                    names.cloned().partition(|name| reason.contains(&**name));
                if blamed.is_empty() && fine.len() == 1 {
                    // There was nothing else that it could be about.
                    blamed.append(&mut fine);
                }
                for name in &fine {
                    self.rejected.remove(name);
                }
                for name in &blamed {
                    self.rejected.insert(name.clone(), reason.clone());
                }
                self.error = Some(reason.clone());
                Event::Rejected { reason, names: blamed }
            }
        }
    }

    /// What the names lead to, with what belongs to it, and the names that lead nowhere. All of it is subscribed from here on.
    ///
    /// What the client has in the present version is left out, unless it asks by another name and waits to learn which resource that is.
    fn find(
        &mut self,
        table: TableLook<'_>,
        node: &str,
        wanted: &BTreeSet<Arc<str>>,
        versions: &HashMap<String, String>,
    ) -> (Resources, Vec<Arc<str>>) {
        let mut found = Found::new(table);
        let mut unknown = Vec::new();
        for key in wanted {
            if !found.key(key) {
                unknown.push(Arc::clone(key));
            }
        }
        if !self.wildcard {
            found.node(node, &self.implied);
        }
        let held = |resource: &Resource, by_alias: bool| {
            let version = versions.get(&**resource.name());
            !by_alias
                && !resource.version().is_empty()
                && version.is_some_and(|version| **version == *resource.version())
        };
        let mut resources = Vec::new();
        for (resource, by_alias) in found.resources.into_values() {
            if !held(resource, by_alias) {
                resources.push((resource.clone(), aliases(table, resource)));
            }
            self.implied.insert(resource.name().clone());
        }
        (Resources::Some(resources), unknown)
    }

    /// What has changed since the client was last told, as far as it is interested; none if that is no longer known.
    #[expect(
        clippy::type_complexity,
        reason = "resources with their aliases, and removed names, as `find` has them"
    )]
    fn news(&mut self, table: TableLook<'_>, node: &str) -> Option<(Vec<(Arc<Resource>, Vec<String>)>, Vec<Arc<str>>)> {
        let changes = table.changes(self.cursor)?;
        let again = std::mem::take(&mut self.again);
        let (mut resources, mut removed) = (Vec::new(), Vec::new());
        if self.wildcard {
            for change in changes {
                match change {
                    Change::Present(resource) => resources.push((resource.clone(), Vec::new())),
                    Change::Removed(name) => removed.push(name.clone()),
                }
            }
            return Some((resources, removed));
        }
        let mut found = Found::new(table);
        for change in changes {
            match change {
                Change::Present(resource) => {
                    let name = &**resource.name();
                    let keys = table.keys(name);
                    let known = |name: &String| self.asked.contains(&**name) || self.implied.contains(&**name);
                    let asked = self.asked.contains(name)
                        || keys.is_some_and(|keys| keys.aliases.iter().any(|alias| self.asked.contains(&**alias)));
                    if asked {
                        found.with_members(resource, &self.implied);
                    } else if self.implied.contains(name)
                        || keys.is_some_and(|keys| {
                            keys.groups.iter().any(known) || (!node.is_empty() && keys.node == node)
                        })
                    {
                        found.add(resource, false);
                    }
                }
                Change::Removed(name) => {
                    if self.implied.remove(name) || self.asked.contains(&**name) {
                        removed.push(name.clone());
                    }
                }
            }
        }
        for resource in again.iter().filter_map(|name| table.get(name)) {
            found.add(resource, false);
        }
        for (resource, _) in found.resources.into_values() {
            self.implied.insert(resource.name().clone());
            resources.push((resource.clone(), aliases(table, resource)));
        }
        Some((resources, removed))
    }

    fn view(&self) -> WatchView {
        WatchView {
            type_url: self.type_url.to_string(),
            wildcard: self.wildcard,
            names: Arc::clone(self.shown.get_or_init(|| self.asked.iter().cloned().collect())),
            sent: self.sent.as_deref().map(str::to_owned),
            acked: self.acked.as_deref().map(str::to_owned),
            error: self.error.clone(),
            rejected: self
                .rejected
                .iter()
                .map(|(name, reason)| (name.to_string(), reason.clone()))
                .collect(),
        }
    }
}

/// Resources found for an on-demand client, each once; and whether one was asked for by another name.
struct Found<'a> {
    table: TableLook<'a>,
    resources: BTreeMap<&'a str, (&'a Arc<Resource>, bool)>,
}

impl<'a> Found<'a> {
    fn new(table: TableLook<'a>) -> Self {
        Self {
            table,
            resources: BTreeMap::new(),
        }
    }

    fn add(&mut self, resource: &'a Arc<Resource>, by_alias: bool) {
        self.resources.entry(resource.name()).or_insert((resource, by_alias)).1 |= by_alias;
    }

    /// Adds what a key leads to, and the members of that; says whether it leads anywhere.
    fn key(&mut self, key: &str) -> bool {
        let none = BTreeSet::new();
        let mut led = false;
        if let Some(resource) = self.table.get(key) {
            self.with_members(resource, &none);
            led = true;
        }
        for name in self.table.by_alias(key) {
            if let Some(resource) = self.table.get(name) {
                self.with_members(resource, &none);
                self.add(resource, true);
                led = true;
            }
        }
        led
    }

    /// Adds a resource and those it brings along that the client does not have.
    fn with_members(&mut self, resource: &'a Arc<Resource>, had: &BTreeSet<Arc<str>>) {
        self.add(resource, false);
        for member in self.table.by_group(resource.name()) {
            if let Some(member) = self.table.get(member).filter(|_| !had.contains(member)) {
                self.add(member, false);
            }
        }
    }

    /// Adds what is on a node and the client does not have.
    fn node(&mut self, node: &str, had: &BTreeSet<Arc<str>>) {
        if node.is_empty() {
            return;
        }
        for name in self.table.by_node(node) {
            if let Some(resource) = self.table.get(name).filter(|_| !had.contains(name)) {
                self.add(resource, false);
            }
        }
    }
}

fn aliases(table: TableLook<'_>, resource: &Resource) -> Vec<String> {
    let keys = table.keys(resource.name());
    keys.map(|keys| keys.aliases.clone()).unwrap_or_default()
}

/// Names that a client asks for; of resources that there are they are these resources' own, which all clients share.
fn shared(table: Option<TableLook<'_>>, names: impl IntoIterator<Item = String>) -> BTreeSet<Arc<str>> {
    let known = |name: &str| Some(Arc::clone(table?.get(name)?.name()));
    let names = names.into_iter();
    names
        .map(|name| known(&name).unwrap_or_else(|| Arc::from(name)))
        .collect()
}

fn names(names: impl IntoIterator<Item = String>) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = names.into_iter().map(Arc::from).collect();
    names.sort();
    names
}
