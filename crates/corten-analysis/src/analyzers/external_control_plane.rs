//! Webhooks that lead to a control plane outside of the cluster.

use std::net::IpAddr;
use std::sync::Arc;

use corten_api::kubernetes::admission::WebhookClientConfig;

use crate::catalogue;
use crate::objects::{Object, World};
use crate::report::Report;

pub(super) fn check(world: &World, report: &mut Report) {
    for webhooks in &world.validating_webhooks {
        let name = webhooks.object.name();
        if name == "istiod-default-validator" || name.starts_with("istio-validator") {
            for (index, hook) in webhooks.spec.webhooks.iter().flatten().enumerate() {
                address(&webhooks.object, index, &hook.name, &hook.client_config, report);
            }
        }
    }
    for webhooks in &world.mutating_webhooks {
        if webhooks.object.name().starts_with("istio-sidecar-injector") {
            for (index, hook) in webhooks.spec.webhooks.iter().flatten().enumerate() {
                address(&webhooks.object, index, &hook.name, &hook.client_config, report);
            }
        }
    }
}

fn address(object: &Arc<Object>, index: usize, webhook: &str, client: &WebhookClientConfig, report: &mut Report) {
    let path = format!("webhooks[{index}].clientConfig");
    let mut invalid = |url: &str, problem: &str| {
        let parameters = [("hostname", url), ("webhook", webhook), ("msg", problem)];
        report.add_once(
            &catalogue::INVALID_EXTERNAL_CONTROL_PLANE_CONFIG,
            object,
            &path,
            &parameters,
        );
    };
    match (&client.url, &client.service) {
        (Some(url), _) => match host(url) {
            None => invalid(url, "was provided in an invalid format"),
            Some(host) if host.parse::<IpAddr>().is_ok() => {
                let parameters = [("hostname", url.as_str()), ("webhook", webhook)];
                let kind = &catalogue::EXTERNAL_CONTROL_PLANE_ADDRESS_IS_NOT_A_HOSTNAME;
                report.add_once(kind, object, &path, &parameters);
            }
            Some(_) => {}
        },
        (None, None) => invalid("", "is blank"),
        (None, Some(_)) => {}
    }
}

/// The host of a URL, without the brackets of an address; `None`: it is no URL. One without a scheme has no host.
fn host(url: &str) -> Option<&str> {
    if url.contains(|c: char| c.is_ascii_control() || c == ' ') {
        return None;
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        // A colon before the first slash would end a scheme.
        let first = url.split('/').next().unwrap_or_default();
        return match first.split_once(':') {
            Some((scheme, _)) if !is_scheme(scheme) => None,
            _ => Some(""),
        };
    };
    if !is_scheme(scheme) {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let (host, port) = match place.strip_prefix('[') {
        Some(inner) => {
            let (host, behind) = inner.split_once(']')?;
            (
                host,
                behind.strip_prefix(':').or_else(|| behind.is_empty().then_some(""))?,
            )
        }
        None => place.split_once(':').unwrap_or((place, "")),
    };
    port.chars().all(|c| c.is_ascii_digit()).then_some(host)
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn hosts_are_found() {
        for (url, expected) in [
            ("https://a.example:15017/inject", Some("a.example")),
            ("https://1.2.3.4:443/inject", Some("1.2.3.4")),
            ("https://[::1]:443/", Some("::1")),
            ("a.example/inject", Some("")),
            ("https://a:b/", None),
            ("://x", None),
            ("https://a b/", None),
            ("1:2", None),
        ] {
            assert_eq!(host(url), expected, "{url}");
        }
    }
}
