//! The rules on the node: what the node itself sends to an enrolled pod seems to come from one address, which the pod's rules let past
//! the proxy. Probes reach a pod that takes nothing but mutual TLS.

use std::collections::BTreeMap;
use std::net::IpAddr;

use corten_linux::nft::{
    Chain, ChainKind, Element, Expression, Family, Hook, Nat, Rule, Set, Side, Statement, Table, Type, Value,
};

use crate::constants::{PROBE_SET_V4, PROBE_SET_V6, PROBE_SOURCE_V4, PROBE_SOURCE_V6, TABLE_NAT};

/// What the node's rules depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRules {
    /// Also for IPv6.
    pub ipv6: bool,
    /// Where probes seem to come from.
    pub probe_source_v4: IpAddr,
    /// The same for IPv6.
    pub probe_source_v6: IpAddr,
    /// Only connections of this user; absent, of any process on the node.
    ///
    /// Kubelets run under many names and users, so by default every socket of the node's own namespace counts, as it does in the
    /// iptables form of these rules.
    pub user: Option<u32>,
}

impl Default for HostRules {
    fn default() -> Self {
        HostRules {
            ipv6: true,
            probe_source_v4: PROBE_SOURCE_V4,
            probe_source_v6: PROBE_SOURCE_V6,
            user: None,
        }
    }
}

/// The element for a pod's address; its comment is the pod's uid.
pub(crate) fn element(address: IpAddr, uid: &str) -> Element {
    let key = match address {
        IpAddr::V4(v4) => Value::V4(v4),
        IpAddr::V6(v6) => Value::V6(v6),
    };
    Element {
        comment: Some(uid.to_owned()),
        ..Element::new([key])
    }
}

/// The set that an address belongs in.
pub(crate) fn set_of(address: IpAddr) -> &'static str {
    if address.is_ipv4() { PROBE_SET_V4 } else { PROBE_SET_V6 }
}

impl HostRules {
    /// The table, with the addresses of these pods (to their uids).
    pub fn table(&self, pods: &BTreeMap<IpAddr, String>) -> Table {
        let families: &[(IpAddr, Type)] = &[(self.probe_source_v4, Type::V4), (self.probe_source_v6, Type::V6)];
        let families = &families[..if self.ipv6 { 2 } else { 1 }];
        let sets = families.iter().map(|(source, kind)| Set {
            elements: pods
                .iter()
                .filter(|(address, _)| address.is_ipv4() == source.is_ipv4())
                .map(|(address, uid)| element(*address, uid))
                .collect(),
            ..Set::plain(set_of(*source), &[*kind])
        });
        let rules = families.iter().map(|(source, _)| {
            let destination = if source.is_ipv4() {
                Expression::Ip(Side::Destination)
            } else {
                Expression::Ip6(Side::Destination)
            };
            Rule::new([
                Statement::is(Expression::L4Proto, Value::Protocol(6)),
                self.owner(),
                Statement::InSet(destination, false, set_of(*source).into()),
                Statement::Counter,
                Statement::Snat(Nat::To(*source, None)),
            ])
        });
        Table {
            family: Family::Inet,
            name: TABLE_NAT.into(),
            sets: sets.collect(),
            chains: vec![Chain::base(
                "postrouting",
                ChainKind::Nat,
                Hook::Postrouting,
                100,
                rules.collect::<Vec<_>>(),
            )],
        }
    }

    /// Packets without a socket in this namespace have no user, and no comparison with one holds.
    fn owner(&self) -> Statement {
        match self.user {
            Some(user) => Statement::is(Expression::SkUid, Value::User(user)),
            None => Statement::is_not(Expression::SkUid, Value::User(u32::MAX)),
        }
    }
}
