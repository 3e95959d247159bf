//! The driver: changes of the catalog to every namespace's rules.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};

use corten_apiserver::{Client, Status};
use corten_linux::NetNs;
use corten_linux::net::Conntrack;
use corten_linux::nft::{NetlinkError, Nft, Transaction};
use corten_rt::Drain;

use super::plan::{NodeView, Reach, Target, Vip, plan};
use super::{Catalog, Follower, ServiceId, State};
use crate::network::Network;

/// Why the rules could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// The API refused the watches.
    #[error("cannot watch services: {0}")]
    Watch(#[from] Status),
    /// No netlink socket could be opened.
    #[error("cannot reach nftables: {0}")]
    Open(#[from] io::Error),
    /// The kernel refused the rules.
    #[error(transparent)]
    Kernel(#[from] NetlinkError),
}

/// UDP addresses and their endpoints.
type Datagrams = HashMap<SocketAddr, BTreeSet<SocketAddr>>;

/// One namespace with its rules.
struct Place {
    view: NodeView,
    state: State,
    nft: Nft,
    conntrack: Conntrack,
}

impl Place {
    /// Puts the empty frame in place, so that the API's own address works before any object is known.
    fn open(network: &Network, netns: &NetNs, view: NodeView) -> Result<Place, ServicesError> {
        let (nft, conntrack) = netns.run(|| io::Result::Ok((Nft::open()?, Conntrack::open()?)))??;
        let state = State::new(network.config());
        let mut place = Place {
            view,
            state,
            nft,
            conntrack,
        };
        place.state.update([(api_id(), api_plan(network))]);
        place.rebuild()?;
        Ok(place)
    }

    fn rebuild(&mut self) -> Result<(), NetlinkError> {
        self.nft.apply_in_parts(&Transaction::replace(&self.state.table()))
    }

    fn update(&mut self, catalog: &Catalog, changed: &BTreeSet<ServiceId>) -> Result<(), NetlinkError> {
        let plans = changed.iter().filter(|id| **id != api_id()).map(|id| {
            let entry = catalog.get(&id.0, &id.1);
            (
                id.clone(),
                entry.map(|entry| plan(entry, &self.view)).unwrap_or_default(),
            )
        });
        let plans: Vec<_> = plans.collect();
        let before = self.state.datagrams(changed);
        let transaction = self.state.update(plans);
        if transaction.is_empty() {
            return Ok(());
        }
        let result = match self.nft.apply(&transaction) {
            // Many services at once: every prefix of the operations leads nowhere that is not there.
            Err(error) if error.is_too_large() => self.nft.apply_in_parts(&transaction),
            result => result,
        };
        if let Err(error) = result {
            // Somebody else changed our table, or a bug: the state is known, so it can be made from scratch.
            tracing::warn!(node = self.view.name, %error, "service rules did not apply; making them anew");
            self.rebuild()?;
        }
        self.forget(before, &self.state.datagrams(changed))
    }

    /// Forgets the UDP connections to endpoints that an address no longer leads to.
    fn forget(&mut self, before: Datagrams, after: &Datagrams) -> Result<(), NetlinkError> {
        let mut gone = before;
        for (address, endpoints) in &mut gone {
            endpoints.retain(|endpoint| !after.get(address).is_some_and(|now| now.contains(endpoint)));
        }
        gone.retain(|_, endpoints| !endpoints.is_empty());
        if gone.is_empty() {
            return Ok(());
        }
        for connection in self.conntrack.list()? {
            if gone
                .get(&connection.destination)
                .is_some_and(|endpoints| endpoints.contains(&connection.answers))
            {
                self.conntrack.forget(&connection)?;
            }
        }
        Ok(())
    }
}

/// Keeps the rules of all nodes, and of the runtime itself, as the API's services say. Ends when told to, or when the API is gone.
pub async fn run(client: Client, network: Arc<Network>, mut drain: Drain) -> Result<(), ServicesError> {
    let mut places = Vec::with_capacity(network.nodes().len() + 1);
    let runtime = NodeView {
        name: String::new(),
        addresses: Vec::new(),
    };
    places.push(Place::open(&network, network.netns(), runtime)?);
    for node in network.nodes() {
        let view = NodeView {
            name: node.name().to_owned(),
            addresses: node.addresses(),
        };
        places.push(Place::open(&network, node.netns(), view)?);
    }
    let catalog = RwLock::new(Catalog::default());
    let mut follower = Follower::new(&client).await?;
    loop {
        let changed = tokio::select! {
            changed = follower.batch(&catalog) => changed,
            () = drain.wait() => return Ok(()),
        };
        let Some(changed) = changed else { return Ok(()) };
        let catalog = catalog.read().expect("no panic while the catalog is locked");
        for place in &mut places {
            place.update(&catalog, &changed)?;
        }
    }
}

fn api_id() -> ServiceId {
    ("default".into(), "kubernetes".into())
}

/// The API's service address leads to its socket in the runtime's namespace, whatever objects say: the rules must work for a client
/// that repairs the objects.
fn api_plan(network: &Network) -> Vec<(Vip, Target)> {
    let vip = Vip {
        address: network.api_service_address(),
        protocol: 6,
        port: 443,
    };
    let cluster = vec![network.api_address()];
    vec![(
        vip,
        Target {
            cluster,
            local: Vec::new(),
            reach: Reach::Cluster,
            affinity: None,
        },
    )]
}
