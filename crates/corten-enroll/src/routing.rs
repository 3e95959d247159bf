//! Policy routing in a pod: replies with the reply mark are for this host, where the proxy's socket waits for them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use corten_linux::net::{NetlinkError, PolicyRule, Route, RouteKind, RouteScope, Rtnl, sysctl};
use ipnet::IpNet;

use crate::constants::{MARK_MASK, REPLY_MARK, ROUTE_TABLE, RULE_PRIORITY};

/// The routes and rules of the calling thread's namespace that the mesh needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routing {
    /// Also for IPv6.
    pub ipv6: bool,
    /// What is marked so is for this host,
    pub mark: u32,
    /// looked at with this mask,
    pub mask: u32,
    /// by this table,
    pub table: u32,
    /// which is asked in this place.
    pub priority: u32,
}

impl Routing {
    /// For a pod that a node's proxy serves.
    pub fn of_node_proxy(ipv6: bool) -> Routing {
        Routing {
            ipv6,
            mark: REPLY_MARK,
            mask: MARK_MASK,
            table: ROUTE_TABLE,
            priority: RULE_PRIORITY,
        }
    }

    fn rule(self, v6: bool) -> PolicyRule {
        PolicyRule {
            v6,
            priority: self.priority,
            mark: self.mark,
            mask: self.mask,
            table: self.table,
        }
    }
}

fn route(table: u32, v6: bool, loopback: u32) -> Route {
    let any: IpAddr = if v6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    Route {
        table: Some(table),
        kind: RouteKind::Local,
        scope: RouteScope::Host,
        ..Route::link(IpNet::new(any, 0).expect("0 is a prefix length"), loopback)
    }
}

impl Routing {
    /// The families it is for here: IPv6 only where the loopback interface has it.
    fn families(self) -> impl Iterator<Item = bool> {
        let v6 = self.ipv6 && sysctl("net.ipv6.conf.lo.disable_ipv6").is_ok_and(|value| value == "0");
        [false, true].into_iter().filter(move |family| !*family || v6)
    }

    /// Puts rules and routes in place; what is there stays.
    pub fn apply(self, rtnl: &mut Rtnl) -> Result<(), NetlinkError> {
        let loopback = loopback(rtnl)?;
        for v6 in self.families() {
            rtnl.set_route(&route(self.table, v6, loopback))?;
            rtnl.add_rule(&self.rule(v6))?;
        }
        Ok(())
    }

    /// Whether rules and routes are in place.
    pub fn is_applied(self, rtnl: &mut Rtnl) -> Result<bool, NetlinkError> {
        let routes = rtnl.routes()?;
        for v6 in self.families() {
            let has_route = routes.iter().any(|found| {
                found.table == Some(self.table)
                    && found.kind == RouteKind::Local
                    && found.to.prefix_len() == 0
                    && found.to.addr().is_ipv6() == v6
            });
            if !has_route || !rtnl.rules(v6)?.contains(&self.rule(v6)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes them away; what is gone is no error.
    pub fn remove(self, rtnl: &mut Rtnl) -> Result<(), NetlinkError> {
        let loopback = loopback(rtnl)?;
        for v6 in self.families() {
            rtnl.delete_rule(&self.rule(v6))?;
            match rtnl.delete_route(&route(self.table, v6, loopback)) {
                Err(error) if error.is_not_found() => {}
                result => result?,
            }
        }
        Ok(())
    }
}

/// The index of `lo`, which is 1 in every namespace; asked for all the same.
fn loopback(rtnl: &mut Rtnl) -> Result<u32, NetlinkError> {
    Ok(rtnl.link("lo")?.map_or(1, |link| link.index))
}
