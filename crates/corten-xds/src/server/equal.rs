//! Delta equals state of the world: whatever happens to a store and the one below it, and whatever a client asks for meanwhile, both
//! kinds of clients end with what is there.

use std::collections::{BTreeMap, BTreeSet};

use corten_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse};
use proptest::prelude::*;
use prost::Message;

use super::{Clock, Keys, Look, Resource, Response, Session, Store, TypeConfig, Variant};

const ALL: &str = "t/Cluster";
const NAMED: &str = "t/Endpoints";
/// As the names of services and the mesh's roots: all of it without being asked by name, and behind nothing.
const TABLE: &str = "t/NameTable";
/// As extensions: by name, and sent again with nothing.
const EXTENSION: &str = "t/Extension";
const TYPES: [&str; 4] = [ALL, NAMED, TABLE, EXTENSION];
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Debug, Clone)]
enum Step {
    /// Sets a resource of a type above (or below) to a version.
    Set(bool, &'static str, usize, u8),
    Remove(bool, &'static str, usize),
    /// What is below becomes another store with this and that resource of every type.
    Rebase(Vec<(usize, u8)>),
    Ask(&'static str, usize),
    Drop(&'static str, usize),
    Push,
}

/// A client of either kind: the resources it holds, by type and name.
struct Client {
    session: Session,
    variant: Variant,
    held: BTreeMap<(String, String), Vec<u8>>,
    /// Of types that are asked for by name: the names.
    asked: BTreeMap<&'static str, BTreeSet<String>>,
    nonces: BTreeMap<String, String>,
}

impl Client {
    fn new(variant: Variant) -> Client {
        Client {
            session: Session::new(variant, ""),
            variant,
            held: BTreeMap::new(),
            asked: BTreeMap::new(),
            nonces: BTreeMap::new(),
        }
    }

    fn take(&mut self, look: Look<'_>, response: Option<Response>) {
        let Some(response) = response else { return };
        let type_url = response.type_url().to_owned();
        self.nonces.insert(type_url.clone(), response.nonce().to_owned());
        let bytes = response.into_message().into_bytes();
        match self.variant {
            Variant::Delta => {
                let response = DeltaDiscoveryResponse::decode(bytes).expect("a response");
                for found in response.resources {
                    let body = found.resource.expect("a body").value.to_vec();
                    self.held.insert((type_url.clone(), found.name), body);
                }
                for gone in response.removed_resources {
                    self.held.remove(&(type_url.clone(), gone));
                }
            }
            Variant::State => {
                let response = DiscoveryResponse::decode(bytes).expect("a response");
                if is_whole(&type_url) {
                    self.held.retain(|(of, _), _| *of != type_url);
                }
                for found in response.resources {
                    let body = found.value.to_vec();
                    // The body begins with its name.
                    let name = String::from_utf8_lossy(&body[..1]).into_owned();
                    self.held.insert((type_url.clone(), name), body);
                }
            }
        }
        self.acknowledge(look, &type_url);
    }

    fn acknowledge(&mut self, look: Look<'_>, type_url: &str) {
        let nonce = self.nonces.get(type_url).cloned().unwrap_or_default();
        let (_, answer) = match self.variant {
            Variant::Delta => {
                let request = DeltaDiscoveryRequest {
                    type_url: type_url.to_owned(),
                    response_nonce: nonce,
                    ..DeltaDiscoveryRequest::default()
                };
                self.session.delta(look, request)
            }
            Variant::State => {
                let request = DiscoveryRequest {
                    type_url: type_url.to_owned(),
                    response_nonce: nonce,
                    resource_names: self.names(type_url),
                    ..DiscoveryRequest::default()
                };
                self.session.state(look, request)
            }
        };
        assert!(answer.is_none(), "an acknowledgement is not answered");
    }

    /// The names asked for of a type.
    fn names(&self, type_url: &str) -> Vec<String> {
        self.asked.get(type_url).into_iter().flatten().cloned().collect()
    }

    fn begin(&mut self, look: Look<'_>, type_url: &str) {
        let (_, answer) = match self.variant {
            Variant::Delta => {
                let request = DeltaDiscoveryRequest {
                    type_url: type_url.to_owned(),
                    ..DeltaDiscoveryRequest::default()
                };
                self.session.delta(look, request)
            }
            Variant::State => {
                let request = DiscoveryRequest {
                    type_url: type_url.to_owned(),
                    ..DiscoveryRequest::default()
                };
                self.session.state(look, request)
            }
        };
        self.take(look, answer);
    }

    /// Changes what is asked for by name.
    fn ask(&mut self, look: Look<'_>, type_url: &'static str, name: &str, wanted: bool) {
        let asked = self.asked.entry(type_url).or_default();
        let changed = if wanted {
            asked.insert(name.to_owned())
        } else {
            asked.remove(name)
        };
        if !changed {
            return;
        }
        if !wanted {
            self.held.remove(&(type_url.to_owned(), name.to_owned()));
        }
        let (_, answer) = match self.variant {
            Variant::Delta => {
                let names = vec![name.to_owned()];
                let (subscribe, unsubscribe) = if wanted {
                    (names, Vec::new())
                } else {
                    (Vec::new(), names)
                };
                let request = DeltaDiscoveryRequest {
                    type_url: type_url.to_owned(),
                    resource_names_subscribe: subscribe,
                    resource_names_unsubscribe: unsubscribe,
                    ..DeltaDiscoveryRequest::default()
                };
                self.session.delta(look, request)
            }
            Variant::State => {
                let request = DiscoveryRequest {
                    type_url: type_url.to_owned(),
                    resource_names: self.names(type_url),
                    response_nonce: self.nonces.get(type_url).cloned().unwrap_or_default(),
                    ..DiscoveryRequest::default()
                };
                if request.resource_names.is_empty() {
                    self.nonces.remove(type_url);
                }
                self.session.state(look, request)
            }
        };
        self.take(look, answer);
    }

    fn push(&mut self, look: Look<'_>) {
        while let Some(response) = self.session.push(look).expect("it is not behind") {
            self.take(look, Some(response));
        }
    }

    /// Compares what is held with what is there. By name, state of the world cannot tell what is gone.
    fn check(&self, look: Look<'_>) {
        let mut there = BTreeMap::new();
        for type_url in TYPES {
            let asked = self.asked.get(type_url);
            let is_asked = |name: &str| asked.is_some_and(|asked| asked.contains(name));
            for resource in look.resources(type_url) {
                if is_whole(type_url) || is_asked(resource.name()) {
                    there.insert(
                        (type_url.to_owned(), resource.name().to_string()),
                        resource.body().to_vec(),
                    );
                }
            }
        }
        let mut held = self.held.clone();
        if self.variant == Variant::State {
            held.retain(|key, _| is_whole(&key.0) || there.contains_key(key));
        }
        assert_eq!(held, there, "{:?}", self.variant);
    }
}

fn store(clock: &Clock) -> Store {
    let config = |type_url, state_wildcard, follows| TypeConfig {
        type_url,
        state_wildcard,
        keys: |_: &Resource| Keys::default(),
        view: None,
        follows,
    };
    Store::with_clock(
        [
            config(ALL, true, None),
            config(NAMED, false, Some(ALL)),
            config(TABLE, true, None),
            config(EXTENSION, false, None),
        ],
        clock.clone(),
    )
}

fn resource(type_url: &str, at: usize, version: u8) -> Resource {
    let name = NAMES[at % NAMES.len()];
    Resource::new(type_url, name, "", format!("{name}{version}").as_bytes())
}

/// Whether all of a type is sent to whoever asks for it at all.
fn is_whole(type_url: &str) -> bool {
    [ALL, TABLE].contains(&type_url)
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..NAMES.len();
    let of = prop::sample::select(&TYPES[..]);
    let named = prop::sample::select(vec![NAMED, EXTENSION]);
    prop_oneof![
        6 => (any::<bool>(), of.clone(), at.clone(), 0..3u8).prop_map(|(below, of, at, version)| Step::Set(below, of, at, version)),
        3 => (any::<bool>(), of, at.clone()).prop_map(|(below, of, at)| Step::Remove(below, of, at)),
        1 => prop::collection::vec((at.clone(), 0..3u8), 0..4).prop_map(Step::Rebase),
        3 => (named.clone(), at.clone()).prop_map(|(of, at)| Step::Ask(of, at)),
        2 => (named, at).prop_map(|(of, at)| Step::Drop(of, at)),
        3 => Just(Step::Push),
    ]
}

proptest! {
    #[test]
    fn delta_equals_state_of_the_world(steps in prop::collection::vec(step(), 1..60)) {
        let clock = Clock::default();
        let (mut own, mut base) = (store(&clock), store(&clock));
        let mut clients = [Client::new(Variant::Delta), Client::new(Variant::State)];
        // A delta client's first request without names is one for everything.
        for client in &mut clients {
            let look = Look::above(&own, Some(&base));
            for of in [ALL, TABLE] {
                client.begin(look, of);
            }
            for of in [NAMED, EXTENSION] {
                client.ask(look, of, NAMES[0], true);
            }
        }
        for step in steps {
            match step {
                Step::Set(below, of, at, version) => {
                    let store = if below { &mut base } else { &mut own };
                    store.set(of, resource(of, at, version));
                }
                Step::Remove(below, of, at) => {
                    let store = if below { &mut base } else { &mut own };
                    store.remove(of, NAMES[at]);
                }
                Step::Rebase(resources) => {
                    let mut next = store(&clock);
                    for (at, version) in resources {
                        for of in TYPES {
                            next.set(of, resource(of, at, version));
                        }
                    }
                    own.rebase(Some(&base), Some(&next));
                    base = next;
                }
                Step::Ask(of, at) | Step::Drop(of, at) => {
                    let wanted = matches!(step, Step::Ask(..));
                    for client in &mut clients {
                        client.ask(Look::above(&own, Some(&base)), of, NAMES[at], wanted);
                    }
                }
                Step::Push => {
                    for client in &mut clients {
                        let look = Look::above(&own, Some(&base));
                        client.push(look);
                        client.check(look);
                    }
                }
            }
        }
        for client in &mut clients {
            let look = Look::above(&own, Some(&base));
            client.push(look);
            client.check(look);
        }
    }
}
