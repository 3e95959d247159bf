//! Routes and the policy rules that choose a routing table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{ACK, CREATE, DUMP, NEW, NetlinkError, REPLACE, REQUEST, Rtnl, address_of, family, octets};
use crate::netlink::{Attribute, attributes};

const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
const DESTINATION: u16 = 1;
const OUT_LINK: u16 = 4;
const GATEWAY: u16 = 5;
const SOURCE: u16 = 7;
const TABLE: u16 = 15;
const TABLE_MAIN: u32 = 254;
const PROTOCOL_STATIC: u8 = 4;
/// The next hop is taken to be on the link although no address of ours says so.
const FLAG_ONLINK: u32 = 4;

const NEW_RULE: u16 = 32;
const DELETE_RULE: u16 = 33;
const GET_RULE: u16 = 34;
const RULE_PRIORITY: u16 = 6;
const RULE_MARK: u16 = 10;
const RULE_TABLE: u16 = 15;
const RULE_MARK_MASK: u16 = 16;
const RULE_TO_TABLE: u8 = 1;

/// What happens to a packet that takes a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// It is sent on.
    Unicast,
    /// It is for this host.
    Local,
    /// It is refused with "unreachable".
    Unreachable,
}

/// How far away the destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteScope {
    /// Behind a gateway.
    Global,
    /// On the link itself.
    Link,
    /// This host.
    Host,
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to; prefix length 0 is the default route.
    pub to: IpNet,
    /// The gateway.
    pub via: Option<IpAddr>,
    /// The link's index.
    pub link: Option<u32>,
    /// The source address to prefer.
    pub source: Option<IpAddr>,
    /// The routing table; `None` is the main one.
    pub table: Option<u32>,
    /// What happens.
    pub kind: RouteKind,
    /// How far.
    pub scope: RouteScope,
    /// The gateway is on the link although no address says so.
    pub onlink: bool,
}

impl Route {
    /// A route to what is on the link itself.
    pub fn link(to: IpNet, link: u32) -> Route {
        Route {
            to,
            via: None,
            link: Some(link),
            source: None,
            table: None,
            kind: RouteKind::Unicast,
            scope: RouteScope::Link,
            onlink: false,
        }
    }

    /// A route through a gateway.
    pub fn via(to: IpNet, gateway: IpAddr) -> Route {
        Route {
            via: Some(gateway),
            link: None,
            scope: RouteScope::Global,
            ..Route::link(to, 0)
        }
    }

    /// Everything of `family_of`'s family through that gateway.
    pub fn default_via(gateway: IpAddr) -> Route {
        Route::via(everything(gateway), gateway)
    }
}

/// The range of all addresses of this address's family.
fn everything(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
    }
}

/// A policy rule: packets with this mark use that table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyRule {
    /// For IPv6 packets (else IPv4).
    pub v6: bool,
    /// Order among the rules; lower is asked first.
    pub priority: u32,
    /// The mark, of which the bits of `mask` count.
    pub mark: u32,
    /// Which bits count.
    pub mask: u32,
    /// The table.
    pub table: u32,
}

impl Rtnl {
    /// Adds a route, or replaces the one to the same destination.
    pub fn set_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        self.route(NEW_ROUTE, REQUEST | ACK | CREATE | REPLACE, "set", route)
    }

    /// Removes a route. No error if there is none.
    pub fn delete_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        match self.route(DELETE_ROUTE, REQUEST | ACK, "delete", route) {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }

    fn route(&mut self, kind: u16, flags: u16, verb: &str, route: &Route) -> Result<(), NetlinkError> {
        let action = || match route.via {
            Some(via) => format!("{verb} route to {} via {via}", route.to),
            None => format!("{verb} route to {}", route.to),
        };
        self.tell(kind, flags, action, |m| {
            let table = route.table.unwrap_or(TABLE_MAIN);
            let scope = match route.scope {
                RouteScope::Global => 0,
                RouteScope::Link => 253,
                RouteScope::Host => 254,
            };
            let kind = match route.kind {
                RouteKind::Unicast => 1,
                RouteKind::Local => 2,
                RouteKind::Unreachable => 7,
            };
            // Tables above 255 are named by the attribute alone.
            let small = u8::try_from(table).unwrap_or_default();
            m.raw(&[
                family(route.to.addr()),
                route.to.prefix_len(),
                0,
                0,
                small,
                PROTOCOL_STATIC,
                scope,
                kind,
            ]);
            m.raw(&(if route.onlink { FLAG_ONLINK } else { 0 }).to_ne_bytes());
            if route.to.prefix_len() > 0 {
                m.attribute(DESTINATION, &octets(route.to.network()));
            }
            if let Some(via) = route.via {
                m.attribute(GATEWAY, &octets(via));
            }
            if let Some(link) = route.link {
                m.u32(OUT_LINK, link);
            }
            if let Some(source) = route.source {
                m.attribute(SOURCE, &octets(source));
            }
            m.u32(TABLE, table);
        })
    }

    /// All unicast, local and unreachable routes of both families that the kernel did not make by itself for an address.
    pub fn routes(&mut self) -> Result<Vec<Route>, NetlinkError> {
        let replies = self.ask(GET_ROUTE, REQUEST | DUMP, || "list routes".into(), |m| m.raw(&[0; 12]))?;
        Ok(replies
            .iter()
            .filter(|reply| reply.kind == NEW_ROUTE)
            .filter_map(|reply| read_route(&reply.body))
            .collect())
    }

    /// Adds a policy rule. No error if it is there.
    pub fn add_rule(&mut self, rule: &PolicyRule) -> Result<(), NetlinkError> {
        match self.rule(NEW_RULE, NEW, "add", rule) {
            Err(error) if error.is_exists() => Ok(()),
            result => result,
        }
    }

    /// Removes a policy rule. No error if it is not there.
    pub fn delete_rule(&mut self, rule: &PolicyRule) -> Result<(), NetlinkError> {
        match self.rule(DELETE_RULE, REQUEST | ACK, "delete", rule) {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }

    fn rule(&mut self, kind: u16, flags: u16, verb: &str, rule: &PolicyRule) -> Result<(), NetlinkError> {
        let action = || format!("{verb} policy rule {} for mark {:#x}", rule.priority, rule.mark);
        self.tell(kind, flags, action, |m| {
            let family = if rule.v6 { 10 } else { 2 };
            m.raw(&[
                family,
                0,
                0,
                0,
                u8::try_from(rule.table).unwrap_or_default(),
                0,
                0,
                RULE_TO_TABLE,
            ]);
            m.raw(&[0; 4]);
            m.u32(RULE_PRIORITY, rule.priority);
            m.u32(RULE_MARK, rule.mark);
            m.u32(RULE_MARK_MASK, rule.mask);
            m.u32(RULE_TABLE, rule.table);
        })
    }

    /// The policy rules of one family that go by mark.
    pub fn rules(&mut self, v6: bool) -> Result<Vec<PolicyRule>, NetlinkError> {
        let family = if v6 { 10 } else { 2 };
        let replies = self.ask(
            GET_RULE,
            REQUEST | DUMP,
            || "list policy rules".into(),
            |m| {
                m.raw(&[family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            },
        )?;
        Ok(replies
            .iter()
            .filter(|reply| reply.kind == NEW_RULE && reply.body.first() == Some(&family))
            .filter_map(|reply| {
                let rest = reply.body.get(12..)?;
                let find = |kind| attributes(rest).find(|a| a.kind == kind).and_then(Attribute::u32);
                Some(PolicyRule {
                    v6,
                    priority: find(RULE_PRIORITY)?,
                    mark: find(RULE_MARK)?,
                    mask: find(RULE_MARK_MASK).unwrap_or(u32::MAX),
                    table: find(RULE_TABLE)?,
                })
            })
            .collect())
    }
}

fn read_route(body: &[u8]) -> Option<Route> {
    let (header, rest) = body.split_at_checked(12)?;
    let [v, prefix, _, _, small_table, protocol, scope, kind, ..] = *header else {
        return None;
    };
    const PROTOCOL_KERNEL: u8 = 2;
    if protocol == PROTOCOL_KERNEL {
        return None;
    }
    let find = |kind| attributes(rest).find(|attribute| attribute.kind == kind);
    let address = |kind| find(kind).and_then(|attribute| address_of(attribute.value));
    let zero: IpAddr = if v == 2 {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let table = find(TABLE)
        .and_then(Attribute::u32)
        .unwrap_or_else(|| small_table.into());
    Some(Route {
        to: IpNet::new(address(DESTINATION).unwrap_or(zero), prefix).ok()?,
        via: address(GATEWAY),
        link: find(OUT_LINK).and_then(Attribute::u32),
        source: address(SOURCE),
        table: (table != TABLE_MAIN).then_some(table),
        kind: match kind {
            1 => RouteKind::Unicast,
            2 => RouteKind::Local,
            7 => RouteKind::Unreachable,
            _ => return None,
        },
        scope: match scope {
            253 => RouteScope::Link,
            254 => RouteScope::Host,
            _ => RouteScope::Global,
        },
        onlink: u32::from_ne_bytes(header[8..12].try_into().ok()?) & FLAG_ONLINK != 0,
    })
}
