//! Certificates that gateways serve, from Secrets: who is given which, and the watching of those alone that somebody is to be given.
//!
//! A proxy asks by name. It is given
//!
//! - `kubernetes-gateway://NAMESPACE/NAME` where a Gateway of its own names it, and is in its namespace or has consent (ReferenceGrant);
//! - `kubernetes://NAME` of its own namespace, if its service account may list Secrets there; authorities (`-cacert`) without that;
//! - `configmap://NAMESPACE/NAME`, whose authorities are no secret.
//!
//! Who has not proven to be a service account is given nothing. What is refused is left out, and the rest is served.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use corten_api::gateway_api::ReferenceGrant;
use corten_core::{Identity, NamespacedName};
use corten_envoy_gen::{
    Context, gateway,
    security::secret::{Keeper, Location},
};
use corten_gateway_api::reference::{Grants, Kind};
use corten_routing::{Proxy, ProxyKind, Scope, Snapshot};
use corten_rt::Drain;
use corten_store_kube::{Change, Referred, kinds, may_list_secrets};
use corten_xds::server::Shared;
use futures_util::{StreamExt as _, stream};
use kube::Client;
use serde_json::Value;
use tokio::sync::watch;

use crate::feed::sleep_until;
use crate::secret::{self, AUTHORITIES, SECRET};

/// How often the API server is asked again for an account's rights. Whoever connects is asked for anew, whatever was known before.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// How soon it is asked again after there was no answer.
const RETRY: Duration = Duration::from_secs(10);
/// For so long an answer holds for who connects while the API server cannot be asked.
const HOLDS_MAX: Duration = Duration::from_secs(300);
/// How many credentials a proxy may ask for: each is looked at by a watch of its own.
const NAMES_MAX: usize = 1024;
/// How long the API server may think about an account. Others wait for the answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How many accounts it is asked about at the same time.
const QUESTIONS_MAX: usize = 8;

/// Who asks for which certificates, and what is known of them.
#[derive(Debug)]
pub(crate) struct Credentials {
    state: Mutex<State>,
    /// The Secrets and ConfigMaps that are to be read.
    references: watch::Sender<Arc<BTreeSet<Referred>>>,
    /// The accounts whose rights are to be asked for.
    accounts: watch::Sender<Arc<Accounts>>,
}

/// Accounts whose rights count, each with the number of the proxy that came with it last.
pub(crate) type Accounts = BTreeMap<NamespacedName, u64>;

/// Whether an account may list the Secrets of its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Right {
    /// The API server's answer.
    allowed: bool,
    /// It was asked for when this proxy was there already. For those who came later it says nothing.
    number: u64,
}

#[derive(Debug, Default)]
struct State {
    /// What statuses are made of.
    of_gateways: Arc<BTreeSet<Referred>>,
    clients: HashMap<u64, Asker>,
    /// What has been looked for; none: there is none.
    known: BTreeMap<Referred, Option<Arc<Value>>>,
    /// Consents to references across namespaces.
    grants: Vec<Arc<ReferenceGrant>>,
    /// Who may list the Secrets of its namespace, as far as that is known.
    may_list: BTreeMap<NamespacedName, Right>,
}

/// A proxy that is connected.
#[derive(Debug)]
struct Asker {
    /// Who comes later has a higher one.
    number: u64,
    shared: Arc<Shared>,
    proxy: Proxy,
    /// The service account that it has proven to be.
    account: Option<NamespacedName>,
    asked: BTreeSet<String>,
    /// The Secrets that its Gateways name and that it may be given.
    verified: BTreeSet<String>,
    /// What was refused and told.
    refused: BTreeSet<String>,
}

/// What a proxy asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    keeper: Keeper,
    namespace: String,
    /// Without the ending of authorities.
    name: String,
    authorities: bool,
}

impl Asked {
    /// By the name of the resource; `None`: no Secret of Kubernetes.
    fn parse(resource: &str, own: &str) -> Option<Asked> {
        let Location {
            keeper,
            namespace,
            name,
        } = Location::parse(resource, own)?;
        let bare = name.strip_suffix(AUTHORITIES).filter(|bare| !bare.is_empty());
        let authorities = bare.is_some() || keeper == Keeper::ConfigMap;
        Some(Asked {
            keeper,
            name: bare.unwrap_or(&name).to_owned(),
            namespace,
            authorities,
        })
    }

    /// The objects that it may be in, the first of which counts.
    fn places(&self) -> Vec<Referred> {
        let key = |name: &str| NamespacedName::new(&*self.namespace, name);
        match self.keeper {
            Keeper::ConfigMap => vec![Referred::ConfigMap(key(&self.name))],
            Keeper::Gateway | Keeper::Secret if self.authorities => vec![
                Referred::Secret(key(&format!("{}{AUTHORITIES}", self.name))),
                Referred::Secret(key(&self.name)),
            ],
            Keeper::Gateway | Keeper::Secret => vec![Referred::Secret(key(&self.name))],
        }
    }
}

/// Whether a proxy is given what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Given,
    /// The API server is asked.
    Open,
    Refused(&'static str),
}

impl Asker {
    fn verdict(&self, resource: &str, asked: &Asked, may_list: &BTreeMap<NamespacedName, Right>) -> Verdict {
        let Some(account) = &self.account else {
            return Verdict::Refused("it has not proven to be a service account");
        };
        match asked.keeper {
            Keeper::ConfigMap => Verdict::Given,
            Keeper::Gateway if self.verified.contains(resource) => Verdict::Given,
            Keeper::Gateway => Verdict::Refused(
                "no Gateway of its own in its namespace names it, and no ReferenceGrant lets one of another namespace",
            ),
            Keeper::Secret if asked.namespace != account.namespace => Verdict::Refused("it is in another namespace"),
            Keeper::Secret if asked.authorities => Verdict::Given,
            Keeper::Secret => match may_list.get(account) {
                Some(right) if right.number < self.number => Verdict::Open,
                Some(Right { allowed: true, .. }) => Verdict::Given,
                Some(_) => Verdict::Refused("its service account may not list the Secrets of its namespace"),
                None => Verdict::Open,
            },
        }
    }

    /// The Secrets that its Gateways name and that it may be given.
    fn verify(&self, snapshot: &Snapshot, grants: &[Arc<ReferenceGrant>]) -> BTreeSet<String> {
        let Some(account) = &self.account else {
            return BTreeSet::new();
        };
        let scope = Scope::of(&snapshot.catalog, &self.proxy);
        let cx = Context {
            snapshot,
            proxy: &self.proxy,
            scope: &scope,
        };
        let grants = Grants::new(grants.iter().map(AsRef::as_ref));
        gateway::verified(&cx, (&account.namespace, &account.name), |crossing| {
            let from = if crossing.of_listener_set {
                Kind::LISTENER_SET
            } else {
                Kind::GATEWAY
            };
            grants.allow(from, crossing.from, Kind::SECRET, crossing.to, crossing.name)
        })
    }

    fn needs_verification(&self) -> bool {
        let names_gateway = |name: &String| name.starts_with("kubernetes-gateway://");
        self.proxy.kind == ProxyKind::Router && self.account.is_some() && self.asked.iter().any(names_gateway)
    }
}

impl Credentials {
    /// Nobody asks for anything. `references` is told what is to be read, `accounts` whose rights are to be asked for.
    pub(crate) fn new(
        references: watch::Sender<Arc<BTreeSet<Referred>>>,
        accounts: watch::Sender<Arc<Accounts>>,
    ) -> Arc<Credentials> {
        Arc::new(Credentials {
            state: Mutex::default(),
            references,
            accounts,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A proxy connects, having proven these identities.
    pub(crate) fn add(&self, number: u64, shared: Arc<Shared>, proxy: Proxy, proven: &[Identity]) {
        let own = proven.iter().find(|identity| *identity.namespace == *proxy.namespace);
        let client = Asker {
            number,
            shared,
            account: own.map(|own| NamespacedName::new(&*own.namespace, &*own.service_account)),
            proxy,
            asked: BTreeSet::new(),
            verified: BTreeSet::new(),
            refused: BTreeSet::new(),
        };
        self.lock().clients.insert(number, client);
    }

    /// A proxy is gone.
    pub(crate) fn remove(&self, number: u64) {
        let mut state = self.lock();
        state.clients.remove(&number);
        self.tell(&mut state);
    }

    /// What a proxy asks for now. `snapshot` is everything that it is configured from.
    pub(crate) fn ask(&self, number: u64, names: &[Arc<str>], snapshot: impl FnOnce() -> Option<Snapshot>) {
        let mut state = self.lock();
        let State { clients, grants, .. } = &mut *state;
        let Some(client) = clients.get_mut(&number) else { return };
        // What is no credential is none of ours, and would only cost room.
        let credentials = names
            .iter()
            .filter(|name| Asked::parse(name, &client.proxy.namespace).is_some());
        let names: BTreeSet<String> = credentials.take(NAMES_MAX).map(|name| name.to_string()).collect();
        if names.len() == NAMES_MAX {
            tracing::warn!(proxy = %client.proxy.name, namespace = %client.proxy.namespace, at_most = NAMES_MAX, "a proxy asks for too many credentials; the rest is left out");
        }
        if client.asked == names {
            return;
        }
        client.asked = names;
        if client.needs_verification()
            && let Some(snapshot) = snapshot()
        {
            client.verified = client.verify(&snapshot, grants);
        }
        self.serve(&mut state, &[number], Instant::now());
    }

    /// Something changed that proxies are configured from: what their Gateways name is found anew. `grants` are consents to references
    /// across namespaces.
    pub(crate) fn follow(
        &self,
        grants: Vec<Arc<ReferenceGrant>>,
        snapshot: impl FnOnce() -> Option<Snapshot>,
        since: Instant,
    ) {
        let mut state = self.lock();
        let State {
            clients, grants: held, ..
        } = &mut *state;
        *held = grants;
        let mut waiting = clients
            .iter_mut()
            .filter(|(_, client)| client.needs_verification())
            .peekable();
        let Some(snapshot) = waiting.peek().is_some().then(snapshot).flatten() else {
            return;
        };
        let mut changed = Vec::new();
        for (number, client) in waiting {
            let now = client.verify(&snapshot, held);
            if now != client.verified {
                client.verified = now;
                changed.push(*number);
            }
        }
        if !changed.is_empty() {
            self.serve(&mut state, &changed, since);
        }
    }

    /// What statuses are made of is to be read, too. Returns what of it has been read already.
    pub(crate) fn want(&self, references: Arc<BTreeSet<Referred>>) -> Vec<Change> {
        let mut state = self.lock();
        let news: Vec<Change> = references
            .difference(&state.of_gateways)
            .filter_map(|one| Some(change(one, state.known.get(one)?.as_deref())))
            .collect();
        state.of_gateways = references;
        self.tell(&mut state);
        news
    }

    /// A Secret or ConfigMap changed, or was looked for and is not there.
    pub(crate) fn see(&self, change: &Change) {
        let (one, value) = match change {
            Change::Put { kind, object } => {
                let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
                let key = NamespacedName::new(text("namespace"), text("name"));
                (referred(kind, key), Some(Arc::new(object.clone())))
            }
            Change::Removed { kind, key } => (referred(kind, key.clone()), None),
        };
        let mut state = self.lock();
        // What is told of something that nobody asks for any more is that it is gone.
        if self.references.borrow().contains(&one) {
            state.known.insert(one, value);
        } else {
            state.known.remove(&one);
        }
        let all: Vec<u64> = state.clients.keys().copied().collect();
        self.serve(&mut state, &all, Instant::now());
    }

    /// What the API server says about accounts.
    fn judged(&self, rights: &[(NamespacedName, Right)]) {
        let mut state = self.lock();
        let before = state.may_list.clone();
        state.may_list.extend(rights.iter().cloned());
        if state.may_list != before {
            let all: Vec<u64> = state.clients.keys().copied().collect();
            self.serve(&mut state, &all, Instant::now());
        }
    }

    /// Gives proxies what they ask for, and says what is to be read and asked for that.
    fn serve(&self, state: &mut State, numbers: &[u64], since: Instant) {
        let State {
            clients,
            known,
            may_list,
            ..
        } = state;
        for number in numbers {
            let Some(client) = clients.get_mut(number) else {
                continue;
            };
            let mut given = Vec::new();
            let mut gone = Vec::new();
            let mut refused = BTreeSet::new();
            for resource in &client.asked {
                let Some(asked) = Asked::parse(resource, &client.proxy.namespace) else {
                    continue;
                };
                match client.verdict(resource, &asked, may_list) {
                    Verdict::Open => {}
                    Verdict::Refused(why) => {
                        if !client.refused.contains(resource) {
                            tracing::warn!(proxy = %client.proxy.name, namespace = %client.proxy.namespace, resource, why, "a certificate is not given");
                        }
                        refused.insert(resource.clone());
                        gone.push(resource);
                    }
                    Verdict::Given => {
                        let places = asked.places();
                        // As long as one of them has not been looked for, what was given stays.
                        let Some(found) = places.iter().map(|place| known.get(place)).collect::<Option<Vec<_>>>()
                        else {
                            continue;
                        };
                        match found.into_iter().flatten().next() {
                            None => gone.push(resource),
                            Some(object) => match secret::resource(
                                resource,
                                object,
                                asked.keeper != Keeper::ConfigMap,
                                asked.authorities,
                            ) {
                                Ok(made) => given.push(made),
                                Err(why) => {
                                    tracing::warn!(resource, why, "a Secret cannot be served");
                                    gone.push(resource);
                                }
                            },
                        }
                    }
                }
            }
            client.refused = refused;
            if !given.is_empty() || !gone.is_empty() {
                client.shared.publish(since, |store| {
                    for name in &gone {
                        store.remove(SECRET, name);
                    }
                    for made in given {
                        store.set(SECRET, made);
                    }
                });
            }
        }
        self.tell(state);
    }

    /// Says what is to be read and whose rights are to be asked for.
    fn tell(&self, state: &mut State) {
        let mut references = BTreeSet::clone(&state.of_gateways);
        let mut accounts = Accounts::new();
        for client in state.clients.values() {
            for resource in &client.asked {
                let Some(asked) = Asked::parse(resource, &client.proxy.namespace) else {
                    continue;
                };
                if client.verdict(resource, &asked, &state.may_list) == Verdict::Given {
                    references.extend(asked.places());
                }
                let is_own = client.account.as_ref().filter(|own| own.namespace == asked.namespace);
                if let Some(own) = is_own.filter(|_| asked.keeper == Keeper::Secret && !asked.authorities) {
                    let newest = accounts.entry(own.clone()).or_default();
                    *newest = client.number.max(*newest);
                }
            }
        }
        // Nothing is kept of those who are gone.
        state.may_list.retain(|account, _| accounts.contains_key(account));
        send(&self.references, references);
        send(&self.accounts, accounts);
    }
}

fn send<T: PartialEq>(sender: &watch::Sender<Arc<T>>, now: T) {
    sender.send_if_modified(|before| {
        let differs = **before != now;
        if differs {
            *before = Arc::new(now);
        }
        differs
    });
}

fn referred(kind: &corten_store_kube::Kind, key: NamespacedName) -> Referred {
    if *kind == kinds::SECRETS {
        Referred::Secret(key)
    } else {
        Referred::ConfigMap(key)
    }
}

fn change(one: &Referred, value: Option<&Value>) -> Change {
    let (kind, key) = match one {
        Referred::Secret(key) => (kinds::SECRETS, key),
        Referred::ConfigMap(key) => (kinds::CONFIG_MAPS, key),
    };
    match value {
        Some(object) => Change::Put {
            kind,
            object: object.clone(),
        },
        None => Change::Removed { kind, key: key.clone() },
    }
}

/// What is known of an account's rights.
#[derive(Debug, Clone, Copy)]
struct Asking {
    /// The last answer, and when it came.
    answer: Option<(Right, Instant)>,
    /// For which proxy it was asked, answer or not.
    number: u64,
    /// When it is asked again.
    again: Instant,
}

/// Asks for the rights of accounts, for each proxy that connects and from time to time, until told to stop.
pub(crate) async fn judge(
    credentials: Arc<Credentials>,
    client: Client,
    mut accounts: watch::Receiver<Arc<Accounts>>,
    mut drain: Drain,
) {
    let mut known: BTreeMap<NamespacedName, Asking> = BTreeMap::new();
    let ask = async {
        loop {
            let wanted = accounts.borrow_and_update().clone();
            known.retain(|account, _| wanted.contains_key(account));
            let now = Instant::now();
            let open = wanted.iter().filter(|(account, number)| {
                let before = known.get(account);
                before.is_none_or(|before| before.number < **number || before.again <= now)
            });
            let open: Vec<(NamespacedName, u64)> = open.map(|(account, number)| (account.clone(), *number)).collect();
            let mut answers = stream::iter(open)
                .map(|(account, number)| answer(&client, account, number))
                .buffer_unordered(QUESTIONS_MAX);
            while let Some((account, number, answer)) = answers.next().await {
                let asking = asked(known.get(&account).copied(), number, answer, Instant::now());
                known.insert(account, asking);
            }
            credentials.judged(&rights(&known));
            let next = known.values().map(|asking| asking.again).min();
            tokio::select! {
                changed = accounts.changed() => if changed.is_err() { return },
                () = sleep_until(next), if next.is_some() => {}
            }
        }
    };
    tokio::select! {
        () = drain.wait() => {}
        () = ask => {}
    }
}

/// What the API server says of an account; none: nothing, or not in time.
async fn answer(client: &Client, account: NamespacedName, number: u64) -> (NamespacedName, u64, Option<bool>) {
    let review = may_list_secrets(client, &account.namespace, &account.name);
    let reason = match tokio::time::timeout(ANSWER_MAX, review).await {
        Ok(Ok(allowed)) => return (account, number, Some(allowed)),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer in {} s", ANSWER_MAX.as_secs()),
    };
    tracing::warn!(%account, reason, "cannot ask whether an account may list Secrets; what was known of it holds, for proxies that come now for {} s", HOLDS_MAX.as_secs());
    (account, number, None)
}

/// All answers that there are, also those that were told before: they are forgotten there with the last proxy that asks.
fn rights(known: &BTreeMap<NamespacedName, Asking>) -> Vec<(NamespacedName, Right)> {
    let answers = known
        .iter()
        .filter_map(|(account, asking)| Some((account.clone(), asking.answer?.0)));
    answers.collect()
}

/// What is known once the API server was asked for a proxy, and answered, or did not.
fn asked(before: Option<Asking>, number: u64, answer: Option<bool>, now: Instant) -> Asking {
    match answer {
        Some(allowed) => Asking {
            answer: Some((Right { allowed, number }, now)),
            number,
            again: now + ASK_AGAIN,
        },
        // Gateways that run keep what they have; for one that comes, an answer that is not old holds.
        None => Asking {
            answer: before.and_then(|before| before.answer).map(|(right, at)| {
                let holds = now.saturating_duration_since(at) < HOLDS_MAX;
                let number = if holds { number } else { right.number };
                (Right { number, ..right }, at)
            }),
            number,
            again: now + RETRY,
        },
    }
}

#[cfg(test)]
mod tests;
