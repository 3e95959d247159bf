//! PeerAuthentication and RequestAuthentication.

use super::{
    Context, Report, Validate,
    connection_pool::durations,
    jwks,
    selector::{self, Attachment},
    text, url,
};
use crate::istio::{
    peer_authentication::PeerAuthenticationSpec,
    request_authentication::{JWTRule, RequestAuthenticationSpec},
};

impl Validate for PeerAuthenticationSpec {
    fn validate(&self, _: Context<'_>, report: &mut Report) {
        const AT: &str = "spec.portLevelMtls";
        if let Some(ports) = &self.port_level_mtls {
            let selects = self
                .selector
                .as_ref()
                .is_some_and(|selector| !selector.match_labels.is_empty());
            if !ports.is_empty() && !selects {
                report.error(AT, "ports differ from workload to workload; add a selector");
            }
            if ports.is_empty() {
                report.error(AT, "must not be empty; remove it");
            }
            for port in ports.keys() {
                report.check(format!("{AT}[{port}]"), text::port(*port));
            }
        }
        selector::selector(self.selector.as_ref(), report);
    }
}

impl Validate for RequestAuthenticationSpec {
    fn validate(&self, _: Context<'_>, report: &mut Report) {
        let attachment = Attachment {
            selector: self.selector.as_ref(),
            target_ref: self.target_ref.as_ref(),
            target_refs: &self.target_refs,
        };
        attachment.validate(report);
        for (i, rule) in self.jwt_rules.iter().enumerate() {
            jwt_rule(&format!("spec.jwtRules[{i}]"), rule, report);
        }
    }
}

fn jwt_rule(at: &str, rule: &JWTRule, report: &mut Report) {
    if rule.issuer.is_empty() && rule.jwks_uri.is_empty() {
        report.error(at, "needs issuer or jwksUri");
    }
    if !rule.jwks_uri.is_empty() {
        report.check(format!("{at}.jwksUri"), url::http(&rule.jwks_uri));
    }
    if !rule.jwks.is_empty() {
        let at = format!("{at}.jwks");
        match jwks::parse(&rule.jwks) {
            Ok(keys) => {
                for i in keys.iter().enumerate().filter(|(_, secret)| **secret).map(|(i, _)| i) {
                    report.warning(
                        &at,
                        format!("key {i} is a private key; tokens are verified with public ones"),
                    );
                }
            }
            Err(problem) => report.error(at, problem),
        }
    }
    let names = [
        ("audiences", &rule.audiences),
        ("fromParams", &rule.from_params),
        ("fromCookies", &rule.from_cookies),
    ];
    for (field, values) in names {
        for i in values
            .iter()
            .enumerate()
            .filter(|(_, value)| value.is_empty())
            .map(|(i, _)| i)
        {
            report.error(format!("{at}.{field}[{i}]"), "must not be empty");
        }
    }
    for i in rule
        .from_headers
        .iter()
        .enumerate()
        .filter(|(_, header)| header.name.is_empty())
        .map(|(i, _)| i)
    {
        report.error(format!("{at}.fromHeaders[{i}].name"), "required");
    }
    for (i, output) in rule.output_claim_to_headers.iter().enumerate() {
        let at = format!("{at}.outputClaimToHeaders[{i}]");
        if output.claim.is_empty() || output.header.is_empty() {
            report.error(at, "needs both header and claim");
        } else {
            report.check(format!("{at}.header"), text::strict_header_name(&output.header));
        }
    }
    durations(at, &[("timeout", rule.timeout)], report);
}
