//! Delta equals state of the world: whatever happens to a store and the one below it, and whatever a client asks for meanwhile, both
//! kinds of clients end with what is there.

use std::collections::{BTreeMap, BTreeSet};

use corten_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse};
use proptest::prelude::*;
use prost::Message;

use super::{Clock, Keys, Look, Resource, Response, Session, Store, TypeConfig, Variant};

const ALL: &str = "t/Cluster";
const NAMED: &str = "t/Endpoints";
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Debug, Clone)]
enum Step {
    /// Sets a resource above (or below) to a version.
    Set(bool, bool, usize, u8),
    Remove(bool, bool, usize),
    /// What is below becomes another store with this and that resource.
    Rebase(Vec<(usize, u8)>),
    Ask(usize),
    Drop(usize),
    Push,
}

/// A client of either kind: the resources it holds, by type and name.
struct Client {
    session: Session,
    variant: Variant,
    held: BTreeMap<(String, String), Vec<u8>>,
    asked: BTreeSet<String>,
    nonces: BTreeMap<String, String>,
}

impl Client {
    fn new(variant: Variant) -> Client {
        Client {
            session: Session::new(variant, ""),
            variant,
            held: BTreeMap::new(),
            asked: BTreeSet::new(),
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
                if type_url == ALL {
                    self.held.retain(|(of, _), _| of != ALL);
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
                let names = if type_url == NAMED {
                    self.asked.iter().cloned().collect()
                } else {
                    Vec::new()
                };
                let request = DiscoveryRequest {
                    type_url: type_url.to_owned(),
                    response_nonce: nonce,
                    resource_names: names,
                    ..DiscoveryRequest::default()
                };
                self.session.state(look, request)
            }
        };
        assert!(answer.is_none(), "an acknowledgement is not answered");
    }

    fn begin(&mut self, look: Look<'_>) {
        let (_, answer) = match self.variant {
            Variant::Delta => {
                let request = DeltaDiscoveryRequest {
                    type_url: ALL.to_owned(),
                    ..DeltaDiscoveryRequest::default()
                };
                self.session.delta(look, request)
            }
            Variant::State => {
                let request = DiscoveryRequest {
                    type_url: ALL.to_owned(),
                    ..DiscoveryRequest::default()
                };
                self.session.state(look, request)
            }
        };
        self.take(look, answer);
    }

    /// Changes what is asked for by name.
    fn ask(&mut self, look: Look<'_>, name: &str, wanted: bool) {
        let changed = if wanted {
            self.asked.insert(name.to_owned())
        } else {
            self.asked.remove(name)
        };
        if !changed {
            return;
        }
        if !wanted {
            self.held.remove(&(NAMED.to_owned(), name.to_owned()));
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
                    type_url: NAMED.to_owned(),
                    resource_names_subscribe: subscribe,
                    resource_names_unsubscribe: unsubscribe,
                    ..DeltaDiscoveryRequest::default()
                };
                self.session.delta(look, request)
            }
            Variant::State => {
                let request = DiscoveryRequest {
                    type_url: NAMED.to_owned(),
                    resource_names: self.asked.iter().cloned().collect(),
                    response_nonce: self.nonces.get(NAMED).cloned().unwrap_or_default(),
                    ..DiscoveryRequest::default()
                };
                if self.asked.is_empty() {
                    self.nonces.remove(NAMED);
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
        for type_url in [ALL, NAMED] {
            for resource in look.resources(type_url) {
                if type_url == ALL || self.asked.contains(&**resource.name()) {
                    there.insert(
                        (type_url.to_owned(), resource.name().to_string()),
                        resource.body().to_vec(),
                    );
                }
            }
        }
        let mut held = self.held.clone();
        if self.variant == Variant::State {
            held.retain(|key, _| key.0 == ALL || there.contains_key(key));
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
        [config(ALL, true, None), config(NAMED, false, Some(ALL))],
        clock.clone(),
    )
}

fn resource(type_url: &str, at: usize, version: u8) -> Resource {
    let name = NAMES[at % NAMES.len()];
    Resource::new(type_url, name, "", format!("{name}{version}").as_bytes())
}

fn type_of(named: bool) -> &'static str {
    if named { NAMED } else { ALL }
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..NAMES.len();
    prop_oneof![
        4 => (any::<bool>(), any::<bool>(), at.clone(), 0..3u8).prop_map(|(below, named, at, version)| Step::Set(below, named, at, version)),
        2 => (any::<bool>(), any::<bool>(), at.clone()).prop_map(|(below, named, at)| Step::Remove(below, named, at)),
        1 => prop::collection::vec((at.clone(), 0..3u8), 0..4).prop_map(Step::Rebase),
        2 => at.clone().prop_map(Step::Ask),
        1 => at.prop_map(Step::Drop),
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
            client.begin(look);
            client.ask(look, NAMES[0], true);
        }
        for step in steps {
            match step {
                Step::Set(below, named, at, version) => {
                    let store = if below { &mut base } else { &mut own };
                    store.set(type_of(named), resource(type_of(named), at, version));
                }
                Step::Remove(below, named, at) => {
                    let store = if below { &mut base } else { &mut own };
                    store.remove(type_of(named), NAMES[at]);
                }
                Step::Rebase(resources) => {
                    let mut next = store(&clock);
                    for (at, version) in resources {
                        next.set(ALL, resource(ALL, at, version));
                        next.set(NAMED, resource(NAMED, at, version));
                    }
                    own.rebase(Some(&base), Some(&next));
                    base = next;
                }
                Step::Ask(at) | Step::Drop(at) => {
                    let wanted = matches!(step, Step::Ask(_));
                    for client in &mut clients {
                        client.ask(Look::above(&own, Some(&base)), NAMES[at], wanted);
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
