//! One node's rules as they change: what each service contributes, and the transaction from one state to the next.
//!
//! Pure bookkeeping. Incremental equals from scratch: [`State::table`] is always the frame plus what the present services contribute.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

use corten_linux::nft::{Chain, Element, Operation, Set, Table, Transaction, Value};
use ipnet::IpNet;

use super::ServiceId;
use super::plan::{Target, Vip};
use super::rules::{self, Contribution};
use crate::network::NetworkConfig;

/// The IP protocol.
const UDP: u8 = 17;

type ElementKey = (&'static str, Vec<Value>);

/// The rules of one node.
#[derive(Clone, Debug)]
pub struct State {
    frame: Table,
    pods: Vec<IpNet>,
    /// Which addresses a service has now.
    services: HashMap<ServiceId, BTreeMap<Vip, Target>>,
    /// Who wants an address: the first in order has it. (Two services may claim one external address.)
    claims: HashMap<Vip, BTreeSet<ServiceId>>,
    contributions: HashMap<Vip, Contribution>,
    elements: BTreeMap<ElementKey, (Element, usize)>,
    chains: BTreeMap<String, (Chain, usize)>,
    sets: BTreeMap<String, (Set, usize)>,
}

/// What was there before a change, for what the change touches.
#[derive(Default)]
struct Before {
    elements: BTreeMap<ElementKey, Option<Element>>,
    chains: BTreeMap<String, Option<Chain>>,
    sets: BTreeMap<String, Option<Set>>,
}

impl State {
    /// A node without services.
    pub fn new(config: &NetworkConfig) -> State {
        State {
            frame: rules::frame(config),
            pods: vec![config.pods_v4.into(), config.pods_v6.into()],
            services: HashMap::new(),
            claims: HashMap::new(),
            contributions: HashMap::new(),
            elements: BTreeMap::new(),
            chains: BTreeMap::new(),
            sets: BTreeMap::new(),
        }
    }

    /// The UDP addresses of these services and the endpoints each leads to: what connection tracking must be compared with after a
    /// change, since it remembers the endpoint that a client's first packet was sent to.
    pub fn datagrams<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a ServiceId>,
    ) -> HashMap<SocketAddr, BTreeSet<SocketAddr>> {
        let mut all = HashMap::new();
        for (vip, target) in ids.into_iter().filter_map(|id| self.services.get(id)).flatten() {
            if vip.protocol == UDP {
                all.insert(
                    SocketAddr::new(vip.address, vip.port),
                    target.cluster.iter().copied().collect(),
                );
            }
        }
        all
    }

    /// Replaces what these services have and returns the change of the kernel's rules.
    pub fn update(&mut self, changes: impl IntoIterator<Item = (ServiceId, Vec<(Vip, Target)>)>) -> Transaction {
        let mut touched = BTreeSet::new();
        for (id, vips) in changes {
            self.claim(id, vips, &mut touched);
        }
        let mut before = Before::default();
        for vip in touched {
            let owner = self.claims.get(&vip).and_then(|claims| claims.first());
            let target = owner.and_then(|id| self.services.get(id)?.get(&vip));
            let new = target.map(|target| rules::contribution(&vip, target, &self.pods));
            let old = self.contributions.remove(&vip);
            if let Some(new) = &new {
                self.add(new, &mut before);
            }
            if let Some(old) = old {
                self.remove(&old, &mut before);
            }
            if let Some(new) = new {
                self.contributions.insert(vip, new);
            }
        }
        self.transaction(before)
    }

    fn claim(&mut self, id: ServiceId, vips: Vec<(Vip, Target)>, touched: &mut BTreeSet<Vip>) {
        let new: BTreeMap<Vip, Target> = vips.into_iter().collect();
        let old = self.services.remove(&id).unwrap_or_default();
        for (vip, target) in &old {
            if new.get(vip) != Some(target) {
                touched.insert(*vip);
            }
            if !new.contains_key(vip)
                && let Some(claims) = self.claims.get_mut(vip)
            {
                claims.remove(&id);
                if claims.is_empty() {
                    self.claims.remove(vip);
                }
            }
        }
        for vip in new.keys().filter(|vip| !old.contains_key(vip)) {
            touched.insert(*vip);
            self.claims.entry(*vip).or_default().insert(id.clone());
        }
        if !new.is_empty() {
            self.services.insert(id, new);
        }
    }

    fn add(&mut self, contribution: &Contribution, before: &mut Before) {
        for set in &contribution.sets {
            let held = self.sets.entry(set.name.clone());
            before.sets.entry(set.name.clone()).or_insert_with(|| present(&held));
            held.or_insert_with(|| (set.clone(), 0)).1 += 1;
        }
        for chain in &contribution.chains {
            let held = self.chains.entry(chain.name.clone());
            before
                .chains
                .entry(chain.name.clone())
                .or_insert_with(|| present(&held));
            let held = held.or_insert_with(|| (chain.clone(), 0));
            held.0 = chain.clone();
            held.1 += 1;
        }
        for (map, element) in &contribution.elements {
            let key = (*map, element.key.clone());
            let held = self.elements.entry(key.clone());
            before.elements.entry(key).or_insert_with(|| present(&held));
            let held = held.or_insert_with(|| (element.clone(), 0));
            held.0 = element.clone();
            held.1 += 1;
        }
    }

    fn remove(&mut self, contribution: &Contribution, before: &mut Before) {
        for set in &contribution.sets {
            let held = self.sets.get(&set.name).map(|(set, _)| set.clone());
            before.sets.entry(set.name.clone()).or_insert(held);
            release(&mut self.sets, &set.name);
        }
        for chain in &contribution.chains {
            let held = self.chains.get(&chain.name).map(|(chain, _)| chain.clone());
            before.chains.entry(chain.name.clone()).or_insert(held);
            release(&mut self.chains, &chain.name);
        }
        for (map, element) in &contribution.elements {
            let key = (*map, element.key.clone());
            let held = self.elements.get(&key).map(|(element, _)| element.clone());
            before.elements.entry(key.clone()).or_insert(held);
            release(&mut self.elements, &key);
        }
    }

    /// From what was there to what is: new chains first, then elements, then what is no longer used.
    fn transaction(&self, before: Before) -> Transaction {
        let mut ops = Vec::new();
        for (name, old) in &before.sets {
            match self.sets.get(name) {
                Some((set, _)) if old.is_none() => ops.push(Operation::AddSet(set.clone())),
                _ => {}
            }
        }
        let changed = |(name, old): (&String, &Option<Chain>)| {
            let new = self.chains.get(name).map(|(chain, _)| chain)?;
            (old.as_ref() != Some(new)).then(|| (new.clone(), old.is_some()))
        };
        let chains: Vec<(Chain, bool)> = before.chains.iter().filter_map(changed).collect();
        for (chain, existed) in &chains {
            ops.push(match existed {
                true => Operation::FlushChain(chain.name.clone()),
                false => Operation::AddChain(Chain {
                    rules: Vec::new(),
                    ..chain.clone()
                }),
            });
        }
        for (chain, _) in chains {
            ops.extend(
                chain
                    .rules
                    .into_iter()
                    .map(|rule| Operation::AddRule(chain.name.clone(), rule)),
            );
        }
        let mut gone: BTreeMap<&str, Vec<Element>> = BTreeMap::new();
        let mut come: BTreeMap<&str, Vec<Element>> = BTreeMap::new();
        for (key, old) in &before.elements {
            let new = self.elements.get(key).map(|(element, _)| element);
            if old.as_ref() != new {
                gone.entry(key.0).or_default().extend(old.clone());
                come.entry(key.0).or_default().extend(new.cloned());
            }
        }
        let some = |(_, elements): &(&str, Vec<Element>)| !elements.is_empty();
        ops.extend(
            gone.into_iter()
                .filter(some)
                .map(|(map, all)| Operation::DeleteElements(map.into(), all)),
        );
        ops.extend(
            come.into_iter()
                .filter(some)
                .map(|(map, all)| Operation::AddElements(map.into(), all)),
        );
        let unused = |name: &&String| !self.chains.contains_key(*name);
        let unused: Vec<&String> = before
            .chains
            .iter()
            .filter(|(_, old)| old.is_some())
            .map(|(n, _)| n)
            .filter(unused)
            .collect();
        // All rules go before any chain, since they lead to each other.
        ops.extend(unused.iter().map(|name| Operation::FlushChain((*name).clone())));
        ops.extend(unused.iter().map(|name| Operation::DeleteChain((*name).clone())));
        for (name, old) in &before.sets {
            if old.is_some() && !self.sets.contains_key(name) {
                ops.push(Operation::DeleteSet(name.clone()));
            }
        }
        Transaction {
            family: self.frame.family,
            table: self.frame.name.clone(),
            operations: ops,
        }
    }

    /// The whole table as it should be.
    pub fn table(&self) -> Table {
        let mut table = self.frame.clone();
        for set in &mut table.sets {
            let mine = self.elements.iter().filter(|((map, _), _)| *map == set.name);
            set.elements = mine.map(|(_, (element, _))| element.clone()).collect();
        }
        table.sets.extend(self.sets.values().map(|(set, _)| set.clone()));
        table
            .chains
            .extend(self.chains.values().map(|(chain, _)| chain.clone()));
        table
    }
}

fn present<K: Ord, T: Clone>(entry: &std::collections::btree_map::Entry<'_, K, (T, usize)>) -> Option<T> {
    match entry {
        std::collections::btree_map::Entry::Occupied(held) => Some(held.get().0.clone()),
        std::collections::btree_map::Entry::Vacant(_) => None,
    }
}

/// One user less; the last one's leaving removes it.
fn release<K: Ord, T>(held: &mut BTreeMap<K, (T, usize)>, key: &K) {
    if let Some((_, users)) = held.get_mut(key) {
        *users -= 1;
        if *users == 0 {
            held.remove(key);
        }
    }
}
