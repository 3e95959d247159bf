//! The decisions, one setting at a time: what a setting adds to or takes from the default rules.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};

use super::*;

/// The lines that the settings have and the default has not (`+`), and the other way round (`-`).
#[track_caller]
fn check(settings: &Settings, expect: &Expect) {
    let of = |settings: &Settings| -> Vec<String> { nftables::render(settings).lines().map(str::to_owned).collect() };
    let (before, after) = (of(&Settings::default()), of(settings));
    let only = |here: &[String], there: &[String], sign: char| -> String {
        here.iter()
            .filter(|line| !there.contains(line))
            .map(|line| format!("{sign} {}\n", line.replace("rule inet istio-proxy-", "")))
            .collect()
    };
    expect.assert_eq(&format!("{}{}", only(&before, &after, '-'), only(&after, &before, '+')));
}

#[test]
fn inbound_ports() {
    check(
        &Settings {
            inbound_include: Ports::All,
            inbound_exclude: Ports::parse("22, 23").unwrap(),
            ..Settings::default()
        },
        &expect![[r#"
            + add chain inet istio-proxy-nat prerouting { type nat hook prerouting priority -100 ; }
            + add nat prerouting meta l4proto tcp counter jump istio-inbound
            + add nat istio-inbound meta l4proto tcp tcp dport 22 counter return
            + add nat istio-inbound meta l4proto tcp tcp dport 23 counter return
            + add nat istio-inbound meta l4proto tcp counter jump istio-in-redirect
        "#]],
    );
}

#[test]
fn everything_elsewhere_and_a_virtual_machine_inside() {
    check(
        &Settings {
            ranges_include: Ranges::parse("*").unwrap(),
            outbound_exclude: Ports::parse("25").unwrap(),
            reroute_interfaces: vec!["vnet0".into()],
            ..Settings::default()
        },
        &expect![[r#"
            + add chain inet istio-proxy-nat prerouting { type nat hook prerouting priority -100 ; }
            + add nat prerouting iifname vnet0 counter return
            + add nat istio-output tcp dport 25 counter return
            + add nat istio-output udp dport 25 counter return
            + add nat istio-output counter jump istio-redirect
            + insert nat prerouting index 0 iifname vnet0 counter jump istio-redirect
        "#]],
    );
}

#[test]
fn dns_of_one_family_only() {
    let settings = Settings {
        dns: Dns::Servers(vec!["fd00::53".parse().unwrap()]),
        ipv6: true,
        ..Settings::default()
    };
    let [v4, v6] = iptables::render(&settings).try_into().unwrap();
    assert!(!v4.contains("-j ISTIO_OUTPUT_DNS\n-A ISTIO_OUTPUT_DNS -p tcp"), "{v4}");
    assert!(
        v6.contains("-A ISTIO_OUTPUT_DNS -d fd00::53/128 -p udp --dport 53 -j REDIRECT --to-port 15053"),
        "{v6}"
    );
}

#[test]
fn a_pod_says_it_by_annotations() {
    let annotations = [
        ("traffic.sidecar.istio.io/excludeInboundPorts", "22,15020"),
        ("traffic.sidecar.istio.io/kubevirtInterfaces", "old0"),
        ("istio.io/reroute-virtual-interfaces", "new0,new1"),
    ];
    let annotations: BTreeMap<String, String> = annotations.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let settings = from_pod(&annotations, &ProxyContainer::default(), false).unwrap();
    assert_eq!(settings.inbound_exclude, Ports::List(vec![22, 15020, 15021, 15090]));
    assert_eq!(settings.reroute_interfaces, ["new0", "new1"]);
    assert!(settings.ranges_include.all);
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let error = |name: &str, value: &str| {
        let annotations = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        from_pod(&annotations, &ProxyContainer::default(), false)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error("traffic.sidecar.istio.io/includeInboundPorts", "80,http"),
        r#"port "http" is not a number below 65536, or * for all"#
    );
    assert_eq!(
        error("sidecar.istio.io/interceptionMode", "NONE-AT-ALL"),
        r#"interception mode "NONE-AT-ALL" is not REDIRECT or TPROXY"#
    );
    assert_eq!(
        error("traffic.sidecar.istio.io/excludeOutboundIPRanges", "10.0.0.0/33"),
        r#"address range "10.0.0.0/33" is not an address with a prefix length, or * for all"#
    );
}
