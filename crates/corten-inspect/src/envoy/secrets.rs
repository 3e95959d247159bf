//! The table of certificates and roots that a proxy was given.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

use super::{Dump, items, text};
use crate::table::{columns, row};

/// A certificate, or the roots of one trust domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Secret {
    /// The secret's name.
    #[serde(rename = "resource_name")]
    pub name: String,
    /// PEM.
    pub cert: String,
    /// `ACTIVE`, `WARMING` or `UNINITIALIZED`.
    pub state: String,
    /// The trust domain.
    pub trust_domain: String,
    /// Whether it is in its time.
    #[serde(rename = "cert_valid")]
    pub valid: bool,
    /// In hexadecimal.
    pub serial_number: String,
    /// RFC 3339.
    pub not_after: String,
    /// RFC 3339.
    pub not_before: String,
    /// `CA` or `Cert Chain`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// The secrets of a dump, those that are not in use yet first.
pub fn secrets(dump: &Dump, now: Timestamp) -> Vec<Secret> {
    let Some(section) = dump.section("SecretsConfigDump") else {
        return Vec::new();
    };
    let lists = [
        (&section["dynamicWarmingSecrets"], "WARMING"),
        (&section["dynamicActiveSecrets"], "ACTIVE"),
    ];
    let entries = lists
        .into_iter()
        .flat_map(|(list, state)| items(list).map(move |entry| (entry, state)));
    entries.flat_map(|(entry, state)| parts(entry, state, now)).collect()
}

fn parts(entry: &Value, state: &str, now: Timestamp) -> Vec<Secret> {
    let state = if state == "ACTIVE" && entry["versionInfo"] == "uninitialized" {
        "UNINITIALIZED"
    } else {
        state
    };
    let of = |data: &Value, trust_domain: &str| {
        let inline = text(&data["inlineBytes"]);
        let pem = STANDARD
            .decode(inline)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let pem = pem.unwrap_or_else(|| text(&data["inlineString"]).to_owned());
        let mut secret = Secret {
            name: text(&entry["name"]).to_owned(),
            state: state.to_owned(),
            trust_domain: trust_domain.to_owned(),
            cert: pem,
            ..Secret::default()
        };
        read(&mut secret, now);
        secret
    };
    let secret = &entry["secret"];
    let chain = &secret["tlsCertificate"]["certificateChain"];
    let context = &secret["validationContext"];
    let domains: Vec<Secret> = items(&context["customValidatorConfig"]["typedConfig"]["trustDomains"])
        .map(|domain| of(&domain["trustBundle"], text(&domain["name"])))
        .collect();
    let (chain, roots) = (of(chain, ""), of(&context["trustedCa"], ""));
    if !chain.cert.is_empty() {
        vec![chain]
    } else if !roots.cert.is_empty() || domains.is_empty() {
        vec![roots]
    } else {
        domains
    }
}

/// Fills in what the first certificate says.
fn read(secret: &mut Secret, now: Timestamp) {
    let pem = Pem::iter_from_buffer(secret.cert.as_bytes()).find_map(Result::ok);
    let Some(certificate) = pem.as_ref().and_then(|pem| pem.parse_x509().ok()) else {
        return;
    };
    let (from, until) = (
        certificate.validity.not_before.timestamp(),
        certificate.validity.not_after.timestamp(),
    );
    let time = |seconds: i64| {
        Timestamp::from_second(seconds)
            .map(|at| at.to_string())
            .unwrap_or_default()
    };
    secret.kind = if certificate.is_ca() { "CA" } else { "Cert Chain" }.to_owned();
    secret.valid = from < now.as_second() && now.as_second() < until;
    secret.serial_number = format!("{:0>32}", format!("{:x}", certificate.serial));
    secret.not_before = time(from);
    secret.not_after = time(until);
    if secret.trust_domain.is_empty()
        && let Ok(Some(names)) = certificate.subject_alternative_name()
    {
        let spiffe = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix("spiffe://"),
            _ => None,
        });
        for id in spiffe {
            secret.trust_domain = id.split('/').next().unwrap_or_default().to_owned();
        }
    }
}

/// The table of secrets; the trust domain is shown where all of them have one.
pub fn secret_table(secrets: &[Secret], named: bool) -> String {
    if secrets.is_empty() {
        return "No active or warming secrets found.\n".to_owned();
    }
    let heading = [
        "RESOURCE NAME",
        "TYPE",
        "STATUS",
        "VALID CERT",
        "SERIAL NUMBER",
        "NOT AFTER",
        "NOT BEFORE",
    ];
    let domains = secrets.iter().all(|secret| !secret.trust_domain.is_empty());
    let mut rows = vec![row(heading)];
    rows.extend(secrets.iter().map(|it| {
        let prefix = if named { "secret/" } else { "" };
        let name = format!("{prefix}{}", it.name);
        let valid = it.valid.to_string();
        row([
            &name,
            &it.kind,
            &it.state,
            &valid,
            &it.serial_number,
            &it.not_after,
            &it.not_before,
        ])
    }));
    if domains {
        rows[0].push("TRUST DOMAIN".to_owned());
        for (row, secret) in rows[1..].iter_mut().zip(secrets) {
            row.push(secret.trust_domain.clone());
        }
    }
    columns(&rows, 5)
}
