//! What proxies are sent of one service, made once for all that see the service alike.
//!
//! The generator is given nothing but what a unit is kept under: a proxy without what does not count, a view of the one service, and
//! of the catalog only the policies of the service's namespace.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use corten_envoy_gen::{
    Context,
    parts::{self, Nearness},
};
use corten_model::{Name, input::PeerAuthentication};
use corten_routing::{Catalog, Configs, DestinationRule, Proxy, Scope, Service, Snapshot};

use super::contents::Contents;
use super::members::{Members, Memberships};

/// A value by its identity.
#[derive(Debug, Clone)]
struct Same<T>(Arc<T>);

impl<T> PartialEq for Same<T> {
    fn eq(&self, other: &Same<T>) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Eq for Same<T> {}

impl<T> Hash for Same<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    seen: Same<Proxy>,
    service: Same<Service>,
    rule: Option<Same<DestinationRule>>,
    by_server_name: bool,
}

#[derive(Debug)]
struct Unit {
    ground: Arc<Catalog>,
    members: Arc<Members>,
    contents: Arc<Contents>,
}

/// The units that somebody uses.
#[derive(Debug, Default)]
pub(crate) struct Units {
    made: HashMap<Key, Unit>,
    /// How many there were after the last sweep.
    swept: usize,
    /// The catalog as units of a namespace see it.
    grounds: HashMap<Name, Arc<Catalog>>,
    /// Proxies as units see them.
    seen: HashMap<String, Arc<Proxy>>,
    /// How many times something was generated.
    pub(crate) generated: u64,
}

impl Units {
    /// Follows the catalog: what a namespace's services see of it stays the same value while it is equal.
    pub(crate) fn follow(&mut self, catalog: &Catalog) {
        self.grounds.retain(|namespace, ground| {
            let same = Arc::ptr_eq(&ground.settings, &catalog.settings)
                && Arc::ptr_eq(&ground.mesh, &catalog.mesh)
                && ground.local_hosts == catalog.local_hosts;
            let held = ground.configs.peer_authentications.values();
            same && held.eq(policies(catalog, namespace))
        });
    }

    /// Forgets everything: the model is another one.
    pub(crate) fn clear(&mut self) {
        self.made.clear();
        self.grounds.clear();
    }

    fn ground(&mut self, catalog: &Catalog, namespace: &Name) -> Arc<Catalog> {
        let ground = self.grounds.entry(Arc::clone(namespace)).or_insert_with(|| {
            let all = policies(catalog, namespace).map(|policy| {
                let meta = &policy.meta;
                (
                    (Name::clone(&meta.namespace), Name::clone(&meta.name)),
                    Arc::clone(policy),
                )
            });
            Arc::new(Catalog {
                settings: Arc::clone(&catalog.settings),
                mesh: Arc::clone(&catalog.mesh),
                local_hosts: Arc::clone(&catalog.local_hosts),
                configs: Arc::new(Configs {
                    peer_authentications: Arc::new(all.collect()),
                    ..Configs::default()
                }),
                ..Catalog::default()
            })
        });
        Arc::clone(ground)
    }

    /// A proxy as a unit sees it, one value for all that are equal.
    pub(crate) fn seen(&mut self, proxy: &Proxy) -> Arc<Proxy> {
        let known = self.seen.entry(format!("{proxy:?}"));
        Arc::clone(known.or_insert_with(|| Arc::new(proxy.clone())))
    }

    /// How far it counts for a service where its clients are.
    pub(crate) fn nearness(snapshot: &Snapshot, scope: &Scope, proxy: &Proxy, service: &Service) -> Nearness {
        let cx = Context { snapshot, proxy, scope };
        parts::nearness(&cx, service)
    }

    /// What is sent of a service to proxies like `seen` that follow a rule.
    pub(crate) fn of(
        &mut self,
        snapshot: &Snapshot,
        members: &mut Memberships,
        seen: &Arc<Proxy>,
        service: &Arc<Service>,
        rule: Option<&Arc<DestinationRule>>,
        by_server_name: bool,
    ) -> Arc<Contents> {
        let ground = self.ground(&snapshot.catalog, &service.namespace);
        let members = members.of(&snapshot.model, &service.key);
        let key = Key {
            seen: Same(Arc::clone(seen)),
            service: Same(Arc::clone(service)),
            rule: rule.cloned().map(Same),
            by_server_name,
        };
        let known = self.made.get(&key);
        if let Some(unit) = known
            && Arc::ptr_eq(&unit.ground, &ground)
            && Arc::ptr_eq(&unit.members, &members)
        {
            return Arc::clone(&unit.contents);
        }
        self.generated += 1;
        let scope = Scope::narrowed(&ground, service, rule.cloned());
        let narrowed = Snapshot {
            model: snapshot.model.clone(),
            catalog: Arc::clone(&ground),
            keys: Arc::default(),
        };
        let cx = Context {
            snapshot: &narrowed,
            proxy: seen,
            scope: &scope,
        };
        let made = parts::of_service(&cx, service, by_server_name);
        let contents = Arc::new(Contents::of(&made, known.map(|unit| &*unit.contents)));
        let unit = Unit {
            ground,
            members,
            contents: Arc::clone(&contents),
        };
        self.made.insert(key, unit);
        contents
    }

    /// Drops what nobody uses, now and then.
    pub(crate) fn sweep(&mut self) {
        if self.made.len() > 2 * self.swept + 1024 {
            self.made.retain(|_, unit| Arc::strong_count(&unit.contents) > 1);
            self.seen.retain(|_, seen| Arc::strong_count(seen) > 1);
            self.made.shrink_to_fit();
            self.swept = self.made.len();
        }
    }
}

/// The PeerAuthentications that count for services of a namespace.
fn policies<'a>(catalog: &'a Catalog, namespace: &'a str) -> impl Iterator<Item = &'a Arc<PeerAuthentication>> {
    let root = &*catalog.settings.root_namespace;
    let all = catalog.configs.peer_authentications.values();
    all.filter(move |policy| [namespace, root].contains(&&*policy.meta.namespace))
}
