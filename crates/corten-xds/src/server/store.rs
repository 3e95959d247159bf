//! All resources of all types, each with the number of its latest change, and the ways an on-demand client can ask for them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::{Keys, Resource};

/// Removed names that are remembered for a type. A session further behind than that must begin anew.
const REMOVED_MAX: usize = 16 * 1024;

/// How a type is served.
#[derive(Debug, Clone, Copy)]
pub struct TypeConfig {
    /// The type.
    pub type_url: &'static str,
    /// Whether a state-of-the-world request without names means everything.
    pub state_wildcard: bool,
    /// What on-demand clients can find a resource by. Called only once there is such a client.
    pub keys: fn(&Resource) -> Keys,
    /// Another type that this one is a view of; none: it has resources of its own.
    pub view: Option<View>,
    /// Another type: whenever a resource of that one is sent, the one of this type with the same name is sent again to clients that
    /// ask for it. Envoy waits for the endpoints of a cluster that it is told of anew.
    pub follows: Option<&'static str>,
}

/// What numbers the changes of stores that are read together.
pub type Clock = Arc<AtomicU64>;

/// A type whose resources are made from those of another. That is done from when the first client asks for it.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// The other type.
    pub of: &'static str,
    /// What becomes of a resource of it; none: nothing.
    pub make: fn(&Resource) -> Option<Resource>,
}

/// The resources. One writer changes them; sessions read them.
#[derive(Debug)]
pub struct Store {
    tables: Vec<Table>,
    clock: Clock,
    version: u64,
    version_info: Arc<str>,
}

/// One type's resources.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) config: TypeConfig,
    /// A view that nobody has asked for yet.
    asleep: bool,
    entries: HashMap<Arc<str>, Entry>,
    /// Each name under the number of its latest change.
    log: BTreeMap<u64, Arc<str>>,
    /// Removed names, oldest first, with the number of the removal. Some may exist again.
    removed: VecDeque<(u64, Arc<str>)>,
    /// Removals up to this number may have been forgotten.
    horizon: u64,
    live: usize,
    /// All resources, for the clients that connect while nothing changes.
    all: OnceLock<All>,
    index: OnceLock<Index>,
}

/// All resources of a type, shared by the responses that carry them.
#[derive(Debug, Clone)]
pub(super) struct All {
    pub(super) resources: Arc<[Arc<Resource>]>,
    pub(super) delta_bytes: usize,
}

impl All {
    pub(super) fn of<'a>(resources: impl Iterator<Item = &'a Arc<Resource>>) -> All {
        let resources: Arc<[Arc<Resource>]> = resources.cloned().collect();
        let delta_bytes = resources.iter().map(|resource| resource.delta().len()).sum();
        All { resources, delta_bytes }
    }
}

#[derive(Debug)]
struct Entry {
    /// None: it has been removed.
    resource: Option<Arc<Resource>>,
    changed: u64,
}

/// A change, as a session that is behind sees it.
#[derive(Debug)]
pub(super) enum Change<'a> {
    Present(&'a Arc<Resource>),
    Removed(&'a Arc<str>),
}

impl Store {
    /// Nothing yet, of these types. A session sends them in this order.
    pub fn new(types: impl IntoIterator<Item = TypeConfig>) -> Store {
        Store::with_clock(types, Clock::default())
    }

    /// Nothing yet, and what changes is numbered together with the changes of others that have the clock.
    pub fn with_clock(types: impl IntoIterator<Item = TypeConfig>, clock: Clock) -> Store {
        let tables = types.into_iter().map(Table::new).collect();
        Store {
            tables,
            clock,
            version: 0,
            version_info: "".into(),
        }
    }

    /// The number of the latest change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What responses call the current version, for people to read.
    pub fn set_version_info(&mut self, version_info: impl Into<Arc<str>>) {
        self.version_info = version_info.into();
    }

    pub(super) fn version_info(&self) -> &Arc<str> {
        &self.version_info
    }

    /// The number of a change.
    fn next(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Adds or replaces a resource; says whether that changed anything. A type that the store does not have has no resources.
    pub fn set(&mut self, type_url: &str, resource: impl Into<Arc<Resource>>) -> bool {
        let resource = resource.into();
        let next = self.next();
        let changed = self
            .table_mut(type_url)
            .is_some_and(|table| table.set(next, resource.clone()));
        if changed {
            self.version = next;
            self.show(type_url, &resource);
        }
        changed
    }

    /// What is below this store becomes another one: whoever reads both is told, of every name that either knows or has known, what
    /// is there now.
    pub fn rebase(&mut self, before: Option<&Store>, now: Option<&Store>) {
        for type_url in self.types().collect::<Vec<_>>() {
            let tables = [before, now].into_iter().flatten();
            let names: BTreeSet<Arc<str>> = tables
                .filter_map(|store| store.table(type_url))
                .flat_map(|table| table.entries.keys().cloned())
                .collect();
            for name in names {
                let next = self.next();
                if let Some(table) = self.table_mut(type_url) {
                    table.touch(next, &name);
                    self.version = next;
                }
            }
        }
    }

    /// Brings the views of a type up to date about one of its resources.
    fn show(&mut self, type_url: &str, resource: &Resource) {
        for table in &mut self.tables {
            let Some(view) = table.config.view.filter(|view| view.of == type_url && !table.asleep) else {
                continue;
            };
            let next = self.clock.fetch_add(1, Ordering::Relaxed) + 1;
            let changed = match (view.make)(resource) {
                Some(made) => table.set(next, Arc::new(made)),
                None => table.remove(next, resource.name()),
            };
            if changed {
                self.version = next;
            }
        }
    }

    /// Whether a type is a view that nobody has asked for yet.
    pub(super) fn sleeps(&self, type_url: &str) -> bool {
        self.table(type_url).is_some_and(|table| table.asleep)
    }

    /// From now on a view has resources.
    pub(super) fn wake(&mut self, type_url: &str) {
        let Some(table) = self.table_mut(type_url).filter(|table| table.asleep) else {
            return;
        };
        table.asleep = false;
        let Some(view) = table.config.view else { return };
        let made: Vec<Resource> = self.resources(view.of).filter_map(|found| (view.make)(found)).collect();
        for resource in made {
            self.set(type_url, resource);
        }
    }

    /// Removes a resource; says whether it was there.
    pub fn remove(&mut self, type_url: &str, name: &str) -> bool {
        let mut changed = false;
        let of = |table: &Table| {
            table.config.type_url == type_url || table.config.view.is_some_and(|view| view.of == type_url)
        };
        for table in self.tables.iter_mut().filter(|table| of(table)) {
            let next = self.clock.fetch_add(1, Ordering::Relaxed) + 1;
            if table.remove(next, name) {
                self.version = next;
                changed = true;
            }
        }
        changed
    }

    /// A resource.
    pub fn get(&self, type_url: &str, name: &str) -> Option<&Arc<Resource>> {
        self.table(type_url)?.get(name)
    }

    /// The resources of a type, in no particular order.
    pub fn resources(&self, type_url: &str) -> impl Iterator<Item = &Arc<Resource>> {
        self.table(type_url).into_iter().flat_map(Table::resources)
    }

    /// How many resources a type has.
    pub fn count(&self, type_url: &str) -> usize {
        self.table(type_url).map_or(0, |table| table.live)
    }

    /// The types, in order.
    pub fn types(&self) -> impl Iterator<Item = &'static str> {
        self.tables.iter().map(|table| table.config.type_url)
    }

    /// Whether a resource is here, and not only below.
    pub fn holds(&self, type_url: &str, name: &str) -> bool {
        self.get(type_url, name).is_some()
    }

    pub(super) fn table(&self, type_url: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.config.type_url == type_url)
    }

    fn table_mut(&mut self, type_url: &str) -> Option<&mut Table> {
        self.tables.iter_mut().find(|table| table.config.type_url == type_url)
    }
}

impl Table {
    fn new(config: TypeConfig) -> Table {
        Table {
            asleep: config.view.is_some(),
            config,
            entries: HashMap::new(),
            log: BTreeMap::new(),
            removed: VecDeque::new(),
            horizon: 0,
            live: 0,
            all: OnceLock::new(),
            index: OnceLock::new(),
        }
    }

    fn set(&mut self, number: u64, resource: Arc<Resource>) -> bool {
        let name = resource.name().clone();
        match self.entries.get(&name) {
            Some(entry) => {
                match &entry.resource {
                    Some(old) if Arc::ptr_eq(old, &resource) || old.same(&resource) => return false,
                    Some(_) => {}
                    None => self.live += 1,
                }
                self.log.remove(&entry.changed);
            }
            None => self.live += 1,
        }
        if let Some(index) = self.index.get_mut() {
            index.remove(&name);
            index.add(&resource, (self.config.keys)(&resource));
        }
        self.log.insert(number, name.clone());
        let entry = Entry {
            resource: Some(resource),
            changed: number,
        };
        self.entries.insert(name, entry);
        self.all.take();
        true
    }

    fn remove(&mut self, number: u64, name: &str) -> bool {
        let Some((name, _)) = self
            .entries
            .get_key_value(name)
            .filter(|(_, entry)| entry.resource.is_some())
        else {
            return false;
        };
        let name = name.clone();
        if let Some(entry) = self.entries.get_mut(&name) {
            self.log.remove(&entry.changed);
            entry.resource = None;
            entry.changed = number;
        }
        if let Some(index) = self.index.get_mut() {
            index.remove(&name);
        }
        self.live -= 1;
        self.all.take();
        self.log_absent(number, name);
        true
    }

    /// Notes a change about a name, whatever there is.
    fn touch(&mut self, number: u64, name: &Arc<str>) {
        match self.entries.get_mut(name) {
            Some(entry) => {
                self.log.remove(&entry.changed);
                entry.changed = number;
                if entry.resource.is_some() {
                    self.log.insert(number, name.clone());
                    return;
                }
            }
            None => {
                let entry = Entry {
                    resource: None,
                    changed: number,
                };
                self.entries.insert(name.clone(), entry);
            }
        }
        self.log_absent(number, name.clone());
    }

    /// A change of a name that has no resource here. So many of them are remembered.
    fn log_absent(&mut self, number: u64, name: Arc<str>) {
        self.log.insert(number, name.clone());
        self.removed.push_back((number, name));
        while self.removed.len() > REMOVED_MAX {
            self.forget_oldest_removal();
        }
    }

    fn forget_oldest_removal(&mut self) {
        let Some((number, name)) = self.removed.pop_front() else {
            return;
        };
        // If it exists again, or was removed again later, that is not what is forgotten here.
        let is_that = |entry: &Entry| entry.resource.is_none() && entry.changed == number;
        if self.entries.get(&name).is_some_and(is_that) {
            self.entries.remove(&name);
            self.log.remove(&number);
            self.horizon = number;
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        self.entries.get(name)?.resource.as_ref()
    }

    pub(super) fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.entries.values().filter_map(|entry| entry.resource.as_ref())
    }

    pub(super) fn all(&self) -> &All {
        self.all.get_or_init(|| All::of(self.resources()))
    }

    /// Number of the latest change of this type.
    pub(super) fn changed(&self) -> u64 {
        self.log
            .last_key_value()
            .map_or(0, |(&number, _)| number)
            .max(self.horizon)
    }

    /// The names that have changed after `cursor`; none if that can no longer be told.
    pub(super) fn changed_names(&self, cursor: u64) -> Option<impl Iterator<Item = &Arc<str>>> {
        let log = (cursor >= self.horizon).then(|| self.log.range(cursor + 1..))?;
        Some(log.map(|(_, name)| name))
    }

    /// The number of the latest change of a name.
    pub(super) fn changed_at(&self, name: &str) -> Option<u64> {
        self.entries.get(name).map(|entry| entry.changed)
    }

    pub(super) fn index(&self) -> &Index {
        self.index.get_or_init(|| {
            let mut index = Index::default();
            for resource in self.resources() {
                index.add(resource, (self.config.keys)(resource));
            }
            index
        })
    }
}

/// The ways to find resources that an on-demand client has not named.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: HashMap<Arc<str>, Keys>,
    aliases: HashMap<String, BTreeSet<Arc<str>>>,
    groups: HashMap<String, BTreeSet<Arc<str>>>,
    nodes: HashMap<String, BTreeSet<Arc<str>>>,
}

impl Index {
    fn add(&mut self, resource: &Arc<Resource>, keys: Keys) {
        let name = resource.name();
        let put = |index: &mut HashMap<String, BTreeSet<Arc<str>>>, key: &String| {
            index.entry(key.clone()).or_default().insert(name.clone());
        };
        keys.aliases.iter().for_each(|alias| put(&mut self.aliases, alias));
        keys.groups.iter().for_each(|group| put(&mut self.groups, group));
        if !keys.node.is_empty() {
            put(&mut self.nodes, &keys.node);
        }
        self.keys.insert(name.clone(), keys);
    }

    fn remove(&mut self, name: &str) {
        let Some(keys) = self.keys.remove(name) else { return };
        let take = |index: &mut HashMap<String, BTreeSet<Arc<str>>>, key: &String| {
            if let Some(names) = index.get_mut(key) {
                names.remove(name);
                if names.is_empty() {
                    index.remove(key);
                }
            }
        };
        keys.aliases.iter().for_each(|alias| take(&mut self.aliases, alias));
        keys.groups.iter().for_each(|group| take(&mut self.groups, group));
        take(&mut self.nodes, &keys.node);
    }

    pub(super) fn keys(&self, name: &str) -> Option<&Keys> {
        self.keys.get(name)
    }

    pub(super) fn by_alias(&self, alias: &str) -> impl Iterator<Item = &Arc<str>> {
        self.aliases.get(alias).into_iter().flatten()
    }

    pub(super) fn by_group(&self, group: &str) -> impl Iterator<Item = &Arc<str>> {
        self.groups.get(group).into_iter().flatten()
    }

    pub(super) fn by_node(&self, node: &str) -> impl Iterator<Item = &Arc<str>> {
        self.nodes.get(node).into_iter().flatten()
    }
}
