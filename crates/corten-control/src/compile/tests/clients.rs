//! Clients of both variants of discovery: what each holds after whatever happened is what there is for its proxy, of every type.

use std::collections::{BTreeMap, BTreeSet};

use corten_proto::Message as _;
use corten_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse};
use corten_xds::server::{Look, Response, Session, Shared, TypeConfig, Variant};

use crate::resources::types;

/// A client, and the resources that it holds by type and name.
pub(super) struct Client {
    session: Session,
    variant: Variant,
    held: BTreeMap<(&'static str, String), Vec<u8>>,
    /// The types that it has asked for, and of those asked for by name the names.
    asked: BTreeMap<&'static str, BTreeSet<String>>,
    nonces: BTreeMap<&'static str, String>,
}

impl Client {
    pub(super) fn new(variant: Variant) -> Client {
        Client {
            session: Session::new(variant, ""),
            variant,
            held: BTreeMap::new(),
            asked: BTreeMap::new(),
            nonces: BTreeMap::new(),
        }
    }

    /// Asks for everything that there is now, takes what is sent until nothing more is, and compares.
    pub(super) fn follow(&mut self, shared: &Shared, whose: &str) {
        shared.read(|look| {
            for config in types() {
                let names = look.resources(config.type_url).map(|one| one.name().to_string());
                self.ask(look, &config, names.collect());
            }
            while let Some(response) = self.session.push(look).expect("it is not behind") {
                self.take(look, response);
            }
            let all = types().into_iter().flat_map(|config| {
                let of = look.resources(config.type_url);
                of.map(move |one| ((config.type_url, one.name().to_string()), one.body().to_vec()))
            });
            let all: BTreeMap<_, _> = all.collect();
            let names = |of: &BTreeMap<(&'static str, String), Vec<u8>>| of.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&self.held), names(&all), "{:?} of {whose}", self.variant);
            let other = all.iter().find(|(key, body)| self.held.get(key) != Some(*body));
            assert_eq!(other.map(|(key, _)| key), None, "{:?} of {whose}", self.variant);
        });
    }

    fn ask(&mut self, look: Look<'_>, config: &TypeConfig, names: BTreeSet<String>) {
        let type_url = config.type_url;
        let names = if config.state_wildcard { BTreeSet::new() } else { names };
        let before = self.asked.get(type_url);
        // No names are no interest, but for types that are sent as a whole.
        let begins = before.is_none() && (config.state_wildcard || !names.is_empty());
        if !begins && before.is_none_or(|before| *before == names) {
            return;
        }
        let before = self.asked.insert(type_url, names.clone()).unwrap_or_default();
        let (gone, new) = (before.difference(&names), names.difference(&before));
        let gone: Vec<String> = gone.cloned().collect();
        for name in &gone {
            self.held.remove(&(type_url, name.clone()));
        }
        let answer = match self.variant {
            Variant::Delta => {
                let request = DeltaDiscoveryRequest {
                    type_url: type_url.to_owned(),
                    resource_names_subscribe: new.cloned().collect(),
                    resource_names_unsubscribe: gone,
                    ..DeltaDiscoveryRequest::default()
                };
                self.session.delta(look, request).1
            }
            Variant::State => {
                let request = self.state(type_url);
                if !config.state_wildcard && names.is_empty() {
                    // The session is over for this type, and begins anew with the next name.
                    self.nonces.remove(type_url);
                }
                self.session.state(look, request).1
            }
        };
        if let Some(answer) = answer {
            self.take(look, answer);
        }
    }

    /// A request for what is asked for, that answers the last response.
    fn state(&self, type_url: &str) -> DiscoveryRequest {
        let names = self.asked.get(type_url).into_iter().flatten();
        DiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names: names.cloned().collect(),
            response_nonce: self.nonces.get(type_url).cloned().unwrap_or_default(),
            ..DiscoveryRequest::default()
        }
    }

    fn take(&mut self, look: Look<'_>, response: Response) {
        let config = types()
            .into_iter()
            .find(|config| config.type_url == response.type_url());
        let config = config.expect("only what was asked for is sent");
        let type_url = config.type_url;
        let nonce = response.nonce().to_owned();
        let names: Vec<String> = response.names().map(ToString::to_string).collect();
        let bytes = response.into_message().into_bytes();
        match self.variant {
            Variant::Delta => {
                let response = DeltaDiscoveryResponse::decode(bytes).expect("a response");
                for found in response.resources {
                    let body = found.resource.expect("a body").value;
                    self.held.insert((type_url, found.name), body);
                }
                for gone in response.removed_resources {
                    self.held.remove(&(type_url, gone));
                }
            }
            Variant::State => {
                let response = DiscoveryResponse::decode(bytes).expect("a response");
                if config.state_wildcard {
                    self.held.retain(|(of, _), _| *of != type_url);
                }
                assert_eq!(names.len(), response.resources.len(), "each has its name");
                for (name, found) in names.into_iter().zip(response.resources) {
                    self.held.insert((type_url, name), found.value);
                }
            }
        }
        self.nonces.insert(type_url, nonce.clone());
        let answer = match self.variant {
            Variant::Delta => {
                let request = DeltaDiscoveryRequest {
                    type_url: type_url.to_owned(),
                    response_nonce: nonce,
                    ..DeltaDiscoveryRequest::default()
                };
                self.session.delta(look, request).1
            }
            Variant::State => self.session.state(look, self.state(type_url)).1,
        };
        assert!(answer.is_none(), "an acknowledgement is not answered");
    }
}
