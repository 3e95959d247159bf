//! The client's session: pure. What is subscribed, what is held in which version, and which request follows each response.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use corten_proto::discovery::{DeltaDiscoveryRequest, Node, Status};
use prost::Message;

use super::{Changes, Known, Named, Rejected, Subscription};
use crate::WILDCARD;
use crate::wire::DeltaResponse;

/// Names that a rejection lists in full; a message of megabytes helps nobody.
const REASONS_MAX: usize = 20;

/// State that outlives streams: what was accepted, and what was asked for and not yet answered.
#[derive(Debug)]
pub(crate) struct Session {
    node: Node,
    types: Vec<Type>,
}

#[derive(Debug)]
struct Type {
    subscription: Subscription,
    /// Accepted resources and their versions; a rejected one has no version.
    held: HashMap<String, String>,
    /// Asked for on demand and not answered yet.
    pending: BTreeSet<String>,
    /// Names asked for on demand that were answered by resources with other names. Those that led nowhere are not kept:
    /// whoever needs one asks again, and the addresses of a whole internet would otherwise gather here.
    aliases: BTreeMap<String, String>,
    answered: bool,
}

impl Session {
    pub(crate) fn new(node: Node, subscriptions: &[Subscription], known: Vec<Known>) -> Session {
        let mut types: Vec<Type> = subscriptions
            .iter()
            .map(|&subscription| Type {
                subscription,
                held: HashMap::new(),
                pending: BTreeSet::new(),
                aliases: BTreeMap::new(),
                answered: false,
            })
            .collect();
        for known in known {
            if let Some(this) = types.iter_mut().find(|this| this.is(known.type_url)) {
                this.held.insert(known.name, known.version);
            }
        }
        Session { node, types }
    }

    /// The requests that open a stream, in order.
    pub(crate) fn open(&self) -> Vec<DeltaDiscoveryRequest> {
        let request = |this: &Type| DeltaDiscoveryRequest {
            // Each type's first request carries the node: a server may handle the types apart from each other.
            node: Some(self.node.clone()),
            ..this.open()
        };
        self.types.iter().map(request).collect()
    }

    /// A name is wanted. Yields the request to send if a stream is open; otherwise it will be part of [`open`](Self::open).
    pub(crate) fn want(&mut self, type_url: &str, name: String) -> Option<DeltaDiscoveryRequest> {
        let this = self.types.iter_mut().find(|this| this.is(type_url))?;
        if !this.subscription.on_demand {
            return None;
        }
        // Also if subscribed already: whoever asks waits for an answer.
        this.pending.insert(name.clone()).then(|| DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_subscribe: vec![name],
            ..DeltaDiscoveryRequest::default()
        })
    }

    /// A response: what `apply` makes of it decides over acknowledgement and rejection. Yields the request to send.
    pub(crate) fn receive(
        &mut self,
        response: DeltaResponse,
        apply: impl FnOnce(Changes) -> Result<(), Vec<Rejected>>,
    ) -> DeltaDiscoveryRequest {
        let mut answer = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        // A type that was never asked for is acknowledged and dropped.
        if let Some(this) = self.types.iter_mut().find(|this| this.is(&response.type_url)) {
            let rejected = this.receive(response, apply);
            answer.error_detail = (!rejected.is_empty()).then(|| rejection(&rejected));
        }
        answer
    }
}

impl Type {
    fn is(&self, type_url: &str) -> bool {
        self.subscription.type_url == type_url
    }

    fn open(&self) -> DeltaDiscoveryRequest {
        let mut versions = self.held.clone();
        // What was asked for and has no answer is asked again, as something held in no version.
        for name in self.pending.iter().chain(self.aliases.keys()) {
            versions.entry(name.clone()).or_default();
        }
        let star = |wanted: bool| {
            if wanted { vec![WILDCARD.to_owned()] } else { Vec::new() }
        };
        DeltaDiscoveryRequest {
            type_url: self.subscription.type_url.to_owned(),
            // "Nothing yet" is said by asking for everything and taking it back at once; no names at all mean everything.
            resource_names_subscribe: star(self.subscription.on_demand),
            resource_names_unsubscribe: star(self.subscription.on_demand),
            initial_resource_versions: versions,
            ..DeltaDiscoveryRequest::default()
        }
    }

    fn receive(
        &mut self,
        response: DeltaResponse,
        apply: impl FnOnce(Changes) -> Result<(), Vec<Rejected>>,
    ) -> Vec<Rejected> {
        let bytes = response.encoded_len();
        let mut rejected = Vec::new();
        let mut resources = Vec::with_capacity(response.resources.len());
        for resource in response.resources {
            let body = match resource.resource {
                Some(any) if any.type_url == self.subscription.type_url => any.value,
                other => {
                    let found = other.map_or_else(|| "nothing".to_owned(), |any| format!("'{}'", any.type_url));
                    rejected.push(Rejected {
                        name: resource.name,
                        reason: format!("it holds {found}, not '{}'", self.subscription.type_url),
                    });
                    continue;
                }
            };
            resources.push(Named {
                name: resource.name,
                version: resource.version,
                aliases: resource.aliases,
                body,
            });
        }
        for name in &response.removed_resources {
            self.held.remove(name);
            if self.subscription.on_demand {
                self.aliases.retain(|_, held| held != name);
                self.pending.remove(name);
            }
        }
        for resource in &resources {
            self.held.insert(resource.name.clone(), resource.version.clone());
            if self.subscription.on_demand {
                self.pending.remove(&resource.name);
                for alias in &resource.aliases {
                    if self.pending.remove(alias) {
                        self.aliases.insert(alias.clone(), resource.name.clone());
                    }
                }
            }
        }
        let changes = Changes {
            type_url: self.subscription.type_url,
            resources,
            removed: response.removed_resources,
            first: !std::mem::replace(&mut self.answered, true),
            bytes,
        };
        if let Err(more) = apply(changes) {
            rejected.extend(more);
        }
        for rejected in &rejected {
            // Held in no version: after a reconnect the server shall send it again, or say that it is gone,
            // since an earlier version of it may still be in use.
            self.held.insert(rejected.name.clone(), String::new());
        }
        rejected
    }
}

fn rejection(rejected: &[Rejected]) -> Status {
    let mut reasons: Vec<String> = rejected
        .iter()
        .take(REASONS_MAX)
        .map(|rejected| format!("{}: {}", rejected.name, rejected.reason))
        .collect();
    if rejected.len() > REASONS_MAX {
        reasons.push(format!("and {} more", rejected.len() - REASONS_MAX));
    }
    Status {
        message: reasons.join("; "),
        ..Status::default()
    }
}
