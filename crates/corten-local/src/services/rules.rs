//! The rules of one node: a fixed frame of maps and chains, and what each service address adds to it. Pure.

use std::net::{IpAddr, SocketAddr};

use corten_linux::nft::{
    Chain, ChainKind, Element, Expression, Family, Hook, Nat, Rule, Set, Side, Statement, Table, Transport, Type,
    Value, Verdict, ct_state,
};
use ipnet::IpNet;

use super::plan::{Reach, Target, Vip};
use crate::network::NetworkConfig;

/// The table's name.
pub(super) const TABLE: &str = "corten-services";
/// The node takes the client's place in what leaves.
const MARK_MASQUERADE: u32 = 0x4000;
/// The service has no endpoint.
const MARK_REJECT: u32 = 0x8000;
/// In a target with two lists of endpoints, where the second one's numbers begin.
const CLUSTER_OFFSET: u32 = 0x1_0000;
const NONE: &str = "no-endpoints";

/// What one service address needs in the table. Chains and elements may be shared with others'.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contribution {
    pub(super) sets: Vec<Set>,
    pub(super) chains: Vec<Chain>,
    /// The map's name, and the element.
    pub(super) elements: Vec<(&'static str, Element)>,
}

struct Names {
    vips: &'static str,
    endpoints: &'static str,
    sticky: &'static str,
    hairpin: &'static str,
    suffix: &'static str,
}

const V4: Names = Names {
    vips: "vips-v4",
    endpoints: "endpoints-v4",
    sticky: "sticky-v4",
    hairpin: "hairpin-v4",
    suffix: "v4",
};
const V6: Names = Names {
    vips: "vips-v6",
    endpoints: "endpoints-v6",
    sticky: "sticky-v6",
    hairpin: "hairpin-v6",
    suffix: "v6",
};

fn names(v6: bool) -> &'static Names {
    if v6 { &V6 } else { &V4 }
}

fn header(v6: bool, side: Side) -> Expression {
    if v6 {
        Expression::Ip6(side)
    } else {
        Expression::Ip(side)
    }
}

/// The key of a packet in the maps: where it goes, and for maps of endpoints which one.
fn key(v6: bool, index: Option<Expression>) -> Expression {
    let mut parts = vec![
        header(v6, Side::Destination),
        Expression::L4Proto,
        Expression::Port(Transport::Any, Side::Destination),
    ];
    parts.extend(index);
    Expression::Concat(parts)
}

fn address(address: IpAddr) -> Value {
    match address {
        IpAddr::V4(address) => Value::V4(address),
        IpAddr::V6(address) => Value::V6(address),
    }
}

fn set_bit(bit: u32) -> Statement {
    Statement::SetMark { and: !bit, xor: bit }
}

fn has_bit(bit: u32) -> Statement {
    Statement::is(Expression::Masked(Box::new(Expression::Mark), bit), Value::Number(bit))
}

/// The frame, without any service.
pub(super) fn frame(config: &NetworkConfig) -> Table {
    let mut sets = Vec::new();
    for v6 in [false, true] {
        let (names, ip) = (names(v6), if v6 { Type::V6 } else { Type::V4 });
        let vip = [ip, Type::Protocol, Type::Port];
        let numbered = [ip, Type::Protocol, Type::Port, Type::Mark];
        sets.push(Set::vmap(names.vips, &vip));
        sets.push(Set::map(names.endpoints, &numbered, &[ip, Type::Port]));
        sets.push(Set::vmap(names.sticky, &numbered));
        sets.push(Set::plain(names.hairpin, &[ip, ip]));
    }
    let vips = [false, true].map(|v6| Rule::new([Statement::Vmap(key(v6, None), names(v6).vips.into())]));
    let jump = |chain: &str| [Rule::new([Statement::jump(chain)])];
    // A pod that reaches itself through a service would get a packet from its own address, and would drop it.
    let hairpin = [false, true].map(|v6| {
        let pair = Expression::Concat(vec![header(v6, Side::Source), header(v6, Side::Destination)]);
        Rule::new([
            Statement::InSet(pair, false, names(v6).hairpin.into()),
            Statement::Masquerade,
        ])
    });
    let mut postrouting = vec![Rule::new([has_bit(MARK_MASQUERADE), Statement::Masquerade])];
    postrouting.extend(hairpin);
    Table {
        family: Family::Inet,
        name: TABLE.into(),
        sets,
        chains: vec![
            Chain::base("prerouting", ChainKind::Nat, Hook::Prerouting, -100, jump("services")),
            Chain::base("output", ChainKind::Nat, Hook::Output, -100, jump("services")),
            Chain::base("postrouting", ChainKind::Nat, Hook::Postrouting, 100, postrouting),
            Chain::base("forward", ChainKind::Filter, Hook::Forward, 0, jump("untranslated")),
            Chain::base(
                "filter-output",
                ChainKind::Filter,
                Hook::Output,
                0,
                jump("untranslated"),
            ),
            Chain::regular("services", vips),
            Chain::regular("untranslated", untranslated(config)),
            Chain::regular(NONE, [Rule::new([set_bit(MARK_REJECT)])]),
        ],
    }
}

/// What still has a service address as its destination has no endpoint, or no such port: refused at once, not after a timeout.
fn untranslated(config: &NetworkConfig) -> Vec<Rule> {
    let new = || Statement::Any(Expression::CtState, ct_state::NEW);
    let to = |v6, net: IpNet| Statement::is(header(v6, Side::Destination), Value::Net(net));
    vec![
        Rule::new([has_bit(MARK_REJECT), Statement::Reject]),
        // The cluster's DNS server has this address itself.
        Rule::new([to(false, IpNet::from(IpAddr::V4(config.dns_v4()))), Statement::accept()]),
        Rule::new([to(true, IpNet::from(IpAddr::V6(config.dns_v6()))), Statement::accept()]),
        Rule::new([to(false, config.services_v4.into()), new(), Statement::Reject]),
        Rule::new([to(true, config.services_v6.into()), new(), Statement::Reject]),
    ]
}

/// What one address adds.
pub(super) fn contribution(vip: &Vip, target: &Target, pods: &[IpNet]) -> Contribution {
    let v6 = vip.address.is_ipv6();
    let names = names(v6);
    let base = [
        address(vip.address),
        Value::Protocol(vip.protocol),
        Value::Port(vip.port),
    ];
    let numbered = |index: u32| [base.as_slice(), &[Value::Number(index)]].concat();
    let mut all = Contribution::default();
    let endpoint = |(index, to): (u32, &SocketAddr)| {
        let element = Element::values(numbered(index), [address(to.ip()), Value::Port(to.port())]);
        (names.endpoints, element)
    };

    let (cluster, local) = (&target.cluster, &target.local);
    let used: &[SocketAddr] = match target.reach {
        Reach::Cluster | Reach::Masquerade => cluster,
        Reach::Local | Reach::ExternalLocal => local,
    };
    let chain = match target.reach {
        _ if cluster.is_empty() => Verdict::Goto(NONE.into()),
        // An endpoint exists, but not here, where the policy wants it.
        Reach::Local if local.is_empty() => Verdict::Drop,
        Reach::ExternalLocal => {
            all.elements.extend((CLUSTER_OFFSET..).zip(cluster).map(endpoint));
            let chain = local_chain(v6, used.len(), cluster.len(), pods);
            let name = chain.name.clone();
            all.chains.push(chain);
            Verdict::Goto(name)
        }
        Reach::Cluster | Reach::Masquerade | Reach::Local if target.affinity.is_some() => {
            let name = sticky(vip, target, used, &numbered, &mut all);
            Verdict::Goto(name)
        }
        Reach::Cluster | Reach::Masquerade | Reach::Local => {
            let chain = spread_chain(v6, used.len(), target.reach == Reach::Masquerade);
            let name = chain.name.clone();
            all.chains.push(chain);
            Verdict::Goto(name)
        }
    };
    if target.affinity.is_none() || target.reach == Reach::ExternalLocal {
        all.elements.extend((0..).zip(used).map(endpoint));
    }
    all.elements.push((names.vips, Element::verdict(base.clone(), chain)));
    for to in local {
        let ip = address(to.ip());
        let element = (names.hairpin, Element::new([ip.clone(), ip]));
        if !all.elements.contains(&element) {
            all.elements.push(element);
        }
    }
    all
}

/// Translates to one of `count` endpoints, numbered from `offset`.
fn spread(v6: bool, count: usize, offset: u32) -> Statement {
    let modulus = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    let random = Expression::Random { modulus, offset };
    Statement::Dnat(Nat::Map {
        v6,
        key: key(v6, Some(random)),
        map: names(v6).endpoints.into(),
    })
}

/// The chain of all addresses with `count` endpoints.
fn spread_chain(v6: bool, count: usize, masquerade: bool) -> Chain {
    let suffix = names(v6).suffix;
    if masquerade {
        let rule = Rule::new([set_bit(MARK_MASQUERADE), spread(v6, count, 0)]);
        return Chain::regular(format!("outside-{suffix}-{count}"), [rule]);
    }
    Chain::regular(format!("spread-{suffix}-{count}"), [Rule::new([spread(v6, count, 0)])])
}

/// The chain of all addresses with `local` endpoints here and `cluster` altogether, of which outsiders get the former.
fn local_chain(v6: bool, local: usize, cluster: usize, pods: &[IpNet]) -> Chain {
    let own = pods.iter().filter(|net| matches!(net, IpNet::V6(_)) == v6);
    let mut rules: Vec<Rule> = own
        .map(|net| {
            let from = Statement::is(header(v6, Side::Source), Value::Net(*net));
            Rule::new([from, spread(v6, cluster, CLUSTER_OFFSET)])
        })
        .collect();
    rules.push(match local {
        0 => Rule::new([Statement::Verdict(Verdict::Drop)]),
        count => Rule::new([spread(v6, count, 0)]),
    });
    Chain::regular(format!("local-{}-{local}-{cluster}", names(v6).suffix), rules)
}

/// Chains of an address whose clients keep their endpoint: a set of clients for each endpoint.
fn sticky(
    vip: &Vip,
    target: &Target,
    used: &[SocketAddr],
    numbered: &dyn Fn(u32) -> Vec<Value>,
    all: &mut Contribution,
) -> String {
    let v6 = vip.address.is_ipv6();
    let time = target.affinity.unwrap_or_default();
    let source = || header(v6, Side::Source);
    // A colon would end a name in nft's language.
    let plain = |address: IpAddr| address.to_string().replace(':', ".");
    let name = format!("sticky-{}-{}-{}", plain(vip.address), vip.protocol, vip.port);
    let mut rules = Vec::new();
    if target.reach == Reach::Masquerade {
        rules.push(Rule::new([set_bit(MARK_MASQUERADE)]));
    }
    for (index, to) in (0..).zip(used) {
        let own = format!("{name}-{}-{}", plain(to.ip()), to.port());
        rules.push(Rule::new([
            Statement::InSet(source(), false, own.clone()),
            Statement::goto(own.clone()),
        ]));
        let update = Statement::Update(source(), time, own.clone());
        let translate = Statement::Dnat(Nat::To(to.ip(), Some(to.port())));
        all.chains
            .push(Chain::regular(own.clone(), [Rule::new([update, translate])]));
        all.sets
            .push(Set::dynamic(own.clone(), &[if v6 { Type::V6 } else { Type::V4 }]));
        all.elements
            .push((names(v6).sticky, Element::verdict(numbered(index), Verdict::Goto(own))));
    }
    let modulus = u32::try_from(used.len()).unwrap_or(u32::MAX).max(1);
    let random = Expression::Random { modulus, offset: 0 };
    rules.push(Rule::new([Statement::Vmap(
        key(v6, Some(random)),
        names(v6).sticky.into(),
    )]));
    all.chains.push(Chain::regular(name.clone(), rules));
    name
}
