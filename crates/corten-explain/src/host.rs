//! Which virtual host a request belongs to.

use corten_envoy::envoy::config::route::v3::{RouteConfiguration, VirtualHost};

/// The virtual host, and the domain of it with the way it was found, for people.
pub(crate) fn find<'a>(config: &'a RouteConfiguration, host: &str) -> Option<(&'a VirtualHost, String)> {
    let host = if config.ignore_port_in_host_matching {
        without_port(host)
    } else {
        host
    };
    let host = host.to_ascii_lowercase();
    let domains = || {
        config.virtual_hosts.iter().flat_map(|virtual_host| {
            virtual_host
                .domains
                .iter()
                .map(move |domain| (virtual_host, domain.to_ascii_lowercase()))
        })
    };
    if let Some((found, _)) = domains().find(|(_, domain)| *domain == host) {
        return Some((found, format!("{host} exactly")));
    }
    // A wildcard stands for at least one character.
    let longest = |part: fn(&str) -> Option<&str>, fits: &dyn Fn(&str) -> bool| {
        let mut best: Option<(&'a VirtualHost, String)> = None;
        for (virtual_host, domain) in domains() {
            let Some(rest) = part(&domain).filter(|rest| !rest.is_empty() && rest.len() < host.len() && fits(rest))
            else {
                continue;
            };
            if best.as_ref().is_none_or(|(_, found)| rest.len() + 1 > found.len()) {
                best = Some((virtual_host, domain.clone()));
            }
        }
        best
    };
    let suffix = longest(|domain| domain.strip_prefix('*'), &|rest| host.ends_with(rest));
    if let Some((found, domain)) = suffix {
        return Some((found, format!("{domain}, the longest of those that end so")));
    }
    let prefix = longest(|domain| domain.strip_suffix('*'), &|rest| host.starts_with(rest));
    if let Some((found, domain)) = prefix {
        return Some((found, format!("{domain}, the longest of those that begin so")));
    }
    domains()
        .find(|(_, domain)| domain == "*")
        .map(|(found, _)| (found, "*, as no other fits".to_owned()))
}

/// A host without its port, also an address of IPv6 in brackets.
pub(crate) fn without_port(host: &str) -> &str {
    let Some((before, port)) = host.rsplit_once(':') else {
        return host;
    };
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_whole = !before.contains(':') || before.ends_with(']');
    if is_port && is_whole { before } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(domains: &[&[&str]], ignore_port: bool) -> RouteConfiguration {
        let virtual_hosts = domains.iter().map(|domains| VirtualHost {
            name: domains[0].to_owned(),
            domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            ..VirtualHost::default()
        });
        RouteConfiguration {
            virtual_hosts: virtual_hosts.collect(),
            ignore_port_in_host_matching: ignore_port,
            ..RouteConfiguration::default()
        }
    }

    #[test]
    fn the_most_specific_domain_wins_whatever_the_order() {
        let config = config(
            &[
                &["*"],
                &["a.*"],
                &["*.b"],
                &["*.a.b"],
                &["*-x.a.b"],
                &["c.a.b", "other"],
                &["a.b.*"],
            ],
            true,
        );
        for (host, expected) in [
            ("c.a.b", "c.a.b"),
            ("C.A.B", "c.a.b"),
            ("c.a.b:8080", "c.a.b"),
            ("d.a.b", "*.a.b"),
            ("d-x.a.b", "*-x.a.b"),
            ("-x.a.b", "*.a.b"),
            (".a.b", "*.b"),
            ("a.b", "*.b"),
            ("a.c", "a.*"),
            ("a.b.c", "a.b.*"),
            ("z", "*"),
            ("", "*"),
            ("[::1]:80", "*"),
        ] {
            assert_eq!(
                find(&config, host).map(|(found, _)| &*found.name),
                Some(expected),
                "{host}"
            );
        }
    }

    #[test]
    fn ports_count_unless_they_are_ignored() {
        let strict = config(&[&["a:80"], &["a"]], false);
        assert_eq!(find(&strict, "a:80").map(|(found, _)| &*found.name), Some("a:80"));
        assert_eq!(find(&strict, "a:81").map(|(found, _)| &*found.name), None);
        assert_eq!(without_port("[::1]:80"), "[::1]");
        assert_eq!(without_port("::1"), "::1");
        assert_eq!(without_port("a:"), "a:");
    }
}
