//! Policies and peers. Policies are written as `ACTION SCOPE NAME [dry] RULE | RULE`, a rule as clauses joined by `&`, a clause as matches
//! joined by `,`, a match as `field:value` joined by `+`; `-field` is the negative list.

use corten_proto::security as proto;

use crate::{Peer, testing::mesh_with};

const MESH: &str = "
    workload server ip=10.0.0.2 sa=server policies=ns/listed
    workload free ip=10.0.0.3 sa=free
    workload lost ip=10.0.0.4 policies=ns/lost
    workload elsewhere ip=10.0.0.5 ns=other
";

fn pattern(text: &str) -> proto::StringMatch {
    use proto::string_match::MatchType;
    let form = match (text, text.strip_prefix('*'), text.strip_suffix('*')) {
        ("*", ..) => MatchType::Presence(()),
        (_, Some(suffix), _) => MatchType::Suffix(suffix.to_owned()),
        (_, _, Some(prefix)) => MatchType::Prefix(prefix.to_owned()),
        _ => MatchType::Exact(text.to_owned()),
    };
    proto::StringMatch { match_type: Some(form) }
}

fn net(text: &str) -> proto::Address {
    let net: ipnet::IpNet = text.parse().unwrap();
    let address = match net.addr() {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    };
    proto::Address {
        address,
        length: u32::from(net.prefix_len()),
    }
}

fn account(text: &str) -> proto::ServiceAccountMatch {
    let (namespace, service_account) = text.split_once('/').unwrap();
    proto::ServiceAccountMatch {
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
    }
}

fn parse_match(text: &str) -> proto::Match {
    let mut m = proto::Match::default();
    for field in text.split('+').filter(|field| *field != "empty") {
        let (name, value) = field.split_once(':').unwrap();
        match name {
            "ns" => m.namespaces.push(pattern(value)),
            "-ns" => m.not_namespaces.push(pattern(value)),
            "id" => m.principals.push(pattern(value)),
            "-id" => m.not_principals.push(pattern(value)),
            "sa" => m.service_accounts.push(account(value)),
            "-sa" => m.not_service_accounts.push(account(value)),
            "from" => m.source_ips.push(net(value)),
            "-from" => m.not_source_ips.push(net(value)),
            "to" => m.destination_ips.push(net(value)),
            "-to" => m.not_destination_ips.push(net(value)),
            "port" => m.destination_ports.push(value.parse().unwrap()),
            "-port" => m.not_destination_ports.push(value.parse().unwrap()),
            other => panic!("no field '{other}'"),
        }
    }
    m
}

fn policy(text: &str) -> proto::Authorization {
    let mut words = text.splitn(4, ' ');
    let action = match words.next().unwrap() {
        "ALLOW" => proto::Action::Allow,
        _ => proto::Action::Deny,
    };
    let (scope, namespace) = match words.next().unwrap() {
        "global" => (proto::Scope::Global, "root"),
        "namespace" => (proto::Scope::Namespace, "ns"),
        _ => (proto::Scope::WorkloadSelector, "ns"),
    };
    let name = words.next().unwrap().to_owned();
    let rest = words.next().unwrap_or_default();
    let (dry_run, rules) = rest.strip_prefix("dry").map_or((false, rest), |rest| (true, rest));
    let clause = |text: &str| proto::Clause {
        matches: text
            .split(',')
            .map(str::trim)
            .filter(|m| !m.is_empty())
            .map(parse_match)
            .collect(),
    };
    let rule = |text: &str| proto::Rule {
        clauses: text
            .split('&')
            .map(str::trim)
            .filter(|c| !c.is_empty())
            .map(|c| clause(c.trim_matches(['(', ')'])))
            .collect(),
    };
    proto::Authorization {
        name,
        namespace: namespace.to_owned(),
        scope: scope as i32,
        action: action as i32,
        rules: rules.split('|').filter(|rule| !rule.is_empty()).map(rule).collect(),
        dry_run,
    }
}

/// What a peer `address[@identity]` meets at a workload's port.
#[track_caller]
fn check(policies: &[&str], peer: &str, local: &str, port: u16, expected: &str) {
    let tables = mesh_with(MESH, policies.iter().map(|text| policy(text)));
    let local = tables.workloads().find(|workload| *workload.name == *local).unwrap();
    let (source, identity) = peer
        .split_once('@')
        .map_or((peer, None), |(source, id)| (source, Some(id)));
    let identity = identity.map(|text| format!("spiffe://{text}").parse().unwrap());
    let verdict = tables.authorize(
        local,
        &Peer {
            source: source.parse().unwrap(),
            identity: identity.as_ref(),
            destination: std::net::SocketAddr::new(local.addresses[0], port),
        },
    );
    let mut got = format!("{}: {}", if verdict.allowed { "yes" } else { "no" }, verdict.reason);
    if !verdict.dry_run.is_empty() {
        got += &format!("; dry run {:?}", verdict.dry_run);
    }
    assert_eq!(got, expected, "{policies:?}");
}

const A: &str = "10.9.0.1@td/ns/a/sa/x";
const NOBODY: &str = "10.9.0.1";
const FREE: &str = "yes: no allow policies apply";
const NOT_ALLOWED: &str = "no: allow policies exist, but none allowed";

#[test]
fn order_of_policies() {
    check(&[], A, "free", 80, FREE);
    check(&["ALLOW namespace none"], A, "free", 80, NOT_ALLOWED);
    check(&["DENY namespace none"], A, "free", 80, FREE);
    check(
        &["ALLOW namespace all & "],
        A,
        "free",
        80,
        "yes: allowed by policy ns/all",
    );
    check(
        &["DENY namespace all & "],
        A,
        "free",
        80,
        "no: explicitly denied by: ns/all",
    );
    check(
        &["ALLOW namespace all & ", "DENY global d port:80"],
        A,
        "free",
        80,
        "no: explicitly denied by: root/d",
    );
    check(
        &["ALLOW namespace all & ", "DENY global d port:81"],
        A,
        "free",
        80,
        "yes: allowed by policy ns/all",
    );
    check(
        &["ALLOW namespace none", "ALLOW global g id:td/ns/a/sa/x"],
        A,
        "free",
        80,
        "yes: allowed by policy root/g",
    );
    // Of another namespace, and by selector only where listed.
    check(&["ALLOW namespace none"], A, "elsewhere", 80, FREE);
    check(&["ALLOW selector listed"], A, "free", 80, FREE);
    check(&["ALLOW selector listed"], A, "server", 80, NOT_ALLOWED);
}

#[test]
fn a_listed_policy_that_is_not_known_denies() {
    let unknown = "no: policy ns/lost applies to the workload and is not known, which denies";
    check(&[], A, "lost", 80, unknown);
    check(&["ALLOW namespace all & "], A, "lost", 80, unknown);
    check(
        &["DENY namespace all & "],
        A,
        "lost",
        80,
        "no: explicitly denied by: ns/all",
    );
}

#[test]
fn dry_run_only_speaks() {
    check(
        &["DENY namespace d dry & ", "ALLOW namespace a dry & "],
        A,
        "free",
        80,
        r#"yes: no allow policies apply; dry run DryRun { denied_by: Some("ns/d"), allowed_by: Some("ns/a"), not_allowed: false }"#,
    );
    check(
        &["ALLOW namespace a dry"],
        A,
        "free",
        80,
        "yes: no allow policies apply; dry run DryRun { denied_by: None, allowed_by: None, not_allowed: true }",
    );
    check(
        &["ALLOW namespace a dry", "ALLOW namespace b"],
        A,
        "free",
        80,
        NOT_ALLOWED,
    );
}

/// Whether a rule of a DENY policy matches.
#[track_caller]
fn matches(rule: &str, peer: &str, port: u16, expected: bool) {
    let verdict = if expected {
        "no: explicitly denied by: ns/d"
    } else {
        FREE
    };
    check(&[&format!("DENY namespace d {rule}")], peer, "free", port, verdict);
}

#[test]
fn rules_clauses_and_matches() {
    matches("port:80|port:81", A, 81, true);
    matches("port:80 & from:10.9.0.0/16", A, 80, true);
    matches("port:80 & from:10.8.0.0/16", A, 80, false);
    matches("port:80,port:81", A, 81, true);
    matches("port:80+from:10.8.0.0/16", A, 80, false);
    matches("port:80+port:81", A, 81, true);
    matches("empty", A, 80, false);
    matches("empty,port:80", A, 80, true);
    matches("port:80 & ()", A, 80, true);
}

#[test]
fn fields() {
    for (rule, with_identity, without) in [
        ("id:*", true, false),
        ("-id:*", false, true),
        ("id:td/ns/a/sa/x", true, false),
        ("id:td/ns/a/sa/xy", false, false),
        ("id:d/ns/a/sa/x", false, false),
        ("id:td/ns/a*", true, false),
        ("id:td/ns/a/sa/x*", true, false),
        ("id:td/ns/a/sa/xy*", false, false),
        ("id:*/sa/x", true, false),
        ("id:*td/ns/a/sa/x", true, false),
        ("id:*xtd/ns/a/sa/x", false, false),
        ("-id:td/ns/a/sa/x", false, true),
        ("-id:td/ns/a/sa/y", true, true),
        ("id:td/ns/b/sa/x+id:td/ns/a/sa/x", true, false),
        ("ns:a", true, false),
        ("ns:*", true, false),
        ("-ns:a", false, true),
        ("-ns:*", false, true),
        ("sa:a/x", true, false),
        ("sa:b/x", false, false),
        ("-sa:a/x", false, true),
        ("from:10.9.0.1/32", true, true),
        ("-from:10.9.0.0/16", false, false),
        ("from:fd00::/8", false, false),
        ("to:10.0.0.3/32", true, true),
        ("-to:10.0.0.3/32", false, false),
        ("port:80", true, true),
        ("-port:80", false, false),
        ("-port:81", true, true),
    ] {
        matches(rule, A, 80, with_identity);
        matches(rule, NOBODY, 80, without);
    }
    // Of service accounts the trust domain does not matter, of principals it does.
    matches("sa:a/x", "10.9.0.1@other/ns/a/sa/x", 80, true);
    matches("id:td/ns/a/sa/x", "10.9.0.1@other/ns/a/sa/x", 80, false);
}

#[test]
fn strict_with_an_open_port() {
    let policy = ["DENY namespace d -port:8080 & -id:*"];
    check(&policy, NOBODY, "free", 8080, FREE);
    check(&policy, NOBODY, "free", 80, "no: explicitly denied by: ns/d");
    check(&policy, A, "free", 80, FREE);
}

#[test]
fn what_cannot_be_compiled_denies() {
    let mut broken = policy("ALLOW namespace broken id:*");
    broken.rules[0].clauses[0].matches[0].source_ips.push(proto::Address {
        address: vec![1, 2],
        length: 3,
    });
    let mut writer = crate::TablesWriter::new();
    let change = |policy: &proto::Authorization| crate::Change::Authorization {
        name: "ns/broken".to_owned(),
        policy: Box::new(policy.clone()),
    };
    let rejected = writer.apply([change(&broken)]).unwrap_err();
    assert_eq!(
        rejected[0].reason,
        "source_ips has 2 bytes with prefix length 3, which is no range"
    );
    let tables = mesh_with(MESH, []);
    let local = tables.local("ns", "free", "free").unwrap();
    let peer = Peer {
        source: "10.9.0.1".parse().unwrap(),
        identity: None,
        destination: "10.0.0.3:80".parse().unwrap(),
    };
    let verdict = |writer: &crate::TablesWriter| writer.tables().authorize(local, &peer).reason.to_string();
    assert_eq!(verdict(&writer), "policy ns/broken could not be compiled and denies");
    // Once it is good, the good one holds, and a later bad one does not unseat it.
    writer
        .apply([change(&policy("ALLOW namespace broken port:80"))])
        .unwrap();
    assert_eq!(verdict(&writer), "allowed by policy ns/broken");
    writer.apply([change(&broken)]).unwrap_err();
    assert_eq!(verdict(&writer), "allowed by policy ns/broken");
}
