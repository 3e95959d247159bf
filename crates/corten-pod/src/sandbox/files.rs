//! The files of a pod's `/etc`, as text. Pure.

use std::fmt::Write;

use super::{HostsEntry, ResolvConf};

/// `/etc/hosts`: the loopback names, then the pod's own.
pub(super) fn hosts(entries: &[HostsEntry]) -> String {
    let mut text = String::from(
        "# Written by corten for this pod.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    for entry in entries {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{}\t{}", entry.address, entry.names.join(" "));
    }
    text
}

/// `/etc/resolv.conf`.
pub(super) fn resolv_conf(dns: &ResolvConf) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        let _ = writeln!(text, "search {}", dns.searches.join(" "));
    }
    for server in &dns.nameservers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !dns.options.is_empty() {
        let _ = writeln!(text, "options {}", dns.options.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn the_pod_s_lines_follow_those_of_localhost() {
        let entries = [HostsEntry {
            address: "10.244.1.7".parse().unwrap(),
            names: vec!["web-0.web.shop.svc.cluster.local".into(), "web-0".into()],
        }];
        let expected = expect!["10.244.1.7\tweb-0.web.shop.svc.cluster.local web-0"];
        expected.assert_eq(hosts(&entries).lines().last().unwrap());
        assert!(hosts(&[]).contains("127.0.0.1\tlocalhost\n"));
    }

    #[test]
    fn resolv_conf_has_a_line_for_what_is_there() {
        let dns = ResolvConf {
            nameservers: vec!["10.96.0.10".parse().unwrap()],
            searches: vec!["shop.svc.cluster.local".into(), "svc.cluster.local".into()],
            options: vec!["ndots:5".into()],
        };
        expect![[r#"
            search shop.svc.cluster.local svc.cluster.local
            nameserver 10.96.0.10
            options ndots:5
        "#]]
        .assert_eq(&resolv_conf(&dns));
        assert_eq!(resolv_conf(&ResolvConf::default()), "");
    }
}
