//! TLS towards a host, and TLS of a listener.

use std::collections::BTreeSet;

use super::{Report, text::shown};
use crate::istio::{
    destination_rule::{ClientTLSSettings, ClientTLSSettingsTLSmode as ClientMode},
    gateway::{ServerTLSSettings, ServerTLSSettingsTLSProtocol as Protocol, ServerTLSSettingsTLSmode as Mode},
};

/// TLS towards a host.
pub fn client(at: &str, settings: &ClientTLSSettings, namespace: &str, report: &mut Report) {
    if let Some(name) = settings.credential_name.strip_prefix("configmap://") {
        let mut parts = name.split('/');
        let (owner, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if owner.is_empty() || name.is_empty() {
            report.error(format!("{at}.credentialName"), "write configmap://namespace/name");
        } else if owner != namespace {
            report.error(
                format!("{at}.credentialName"),
                format!("the ConfigMap must be in the namespace {namespace}"),
            );
        }
    }
    if settings.insecure_skip_verify == Some(true) {
        let verifies = !settings.ca_certificates.is_empty() || !settings.subject_alt_names.is_empty();
        let names_credential = settings.mode == ClientMode::Simple && !settings.credential_name.is_empty();
        if matches!(settings.mode, ClientMode::Simple | ClientMode::Mutual) && (verifies || names_credential) {
            let message = "nothing is verified; remove this, or caCertificates, subjectAltNames and credentialName";
            report.error(format!("{at}.insecureSkipVerify"), message);
        }
    }
    let by_name =
        matches!(settings.mode, ClientMode::Simple | ClientMode::Mutual) && !settings.credential_name.is_empty();
    if by_name {
        let files = [
            &settings.client_certificate,
            &settings.ca_certificates,
            &settings.private_key,
            &settings.ca_crl,
        ];
        if files.iter().any(|file| !file.is_empty()) {
            report.error(
                at,
                "credentialName replaces clientCertificate, privateKey, caCertificates and caCrl; remove them",
            );
        }
        return;
    }
    if settings.mode == ClientMode::Mutual {
        if settings.client_certificate.is_empty() {
            report.error(
                format!("{at}.clientCertificate"),
                "required for mutual TLS, unless credentialName is given",
            );
        }
        if settings.private_key.is_empty() {
            report.error(
                format!("{at}.privateKey"),
                "required for mutual TLS, unless credentialName is given",
            );
        }
    }
}

const CIPHERS: [&str; 15] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
];

/// Whether a proxy knows a cipher suite. `ALL` and expressions such as `[A|B]` are left to it.
pub fn is_cipher(name: &str) -> bool {
    name == "ALL" || !name.starts_with(char::is_alphanumeric) || CIPHERS.contains(&name)
}

fn ciphers(at: &str, suites: &[String], report: &mut Report) {
    let mut seen = BTreeSet::new();
    for (i, suite) in suites.iter().enumerate() {
        if !is_cipher(suite) {
            report.warning(
                format!("{at}.cipherSuites[{i}]"),
                format!("{} is not a cipher suite and is ignored", shown(suite)),
            );
        } else if !seen.insert(suite) {
            report.warning(
                format!("{at}.cipherSuites[{i}]"),
                format!("{} is already given", shown(suite)),
            );
        }
    }
}

/// TLS of a listener of a Gateway or Sidecar.
pub(super) fn server(at: &str, tls: &ServerTLSSettings, report: &mut Report) {
    if matches!(tls.min_protocol_version, Protocol::Tlsv10 | Protocol::Tlsv11) && tls.cipher_suites.is_empty() {
        report.warning(
            format!("{at}.minProtocolVersion"),
            "versions before 1.2 need cipherSuites that go with them",
        );
    }
    ciphers(at, &tls.cipher_suites, report);
    if tls.mode == Mode::IstioMutual {
        let given = [
            ("serverCertificate", !tls.server_certificate.is_empty()),
            ("privateKey", !tls.private_key.is_empty()),
            ("caCertificates", !tls.ca_certificates.is_empty()),
            ("tlsCertificates", !tls.tls_certificates.is_empty()),
            ("credentialName", !tls.credential_name.is_empty()),
            ("credentialNames", !tls.credential_names.is_empty()),
        ];
        for (field, _) in given.iter().filter(|(_, given)| *given) {
            report.error(
                format!("{at}.{field}"),
                "ISTIO_MUTUAL uses the mesh's own certificates; remove this",
            );
        }
        return;
    }
    let uses_certificates = !matches!(tls.mode, Mode::Passthrough | Mode::AutoPassthrough);
    let files = [
        &tls.ca_crl,
        &tls.server_certificate,
        &tls.private_key,
        &tls.ca_certificates,
        &tls.credential_name,
    ];
    let any =
        files.iter().any(|f| !f.is_empty()) || !tls.tls_certificates.is_empty() || !tls.credential_names.is_empty();
    if !uses_certificates && any {
        report.warning(at, "connections are passed through; the certificates are not used");
    }
    let sources = [
        !tls.server_certificate.is_empty() && !tls.private_key.is_empty(),
        !tls.credential_name.is_empty(),
        !tls.credential_names.is_empty(),
        !tls.tls_certificates.is_empty(),
    ];
    if sources.iter().filter(|given| **given).count() > 1 {
        let message = "only one of credentialName, credentialNames, tlsCertificates, serverCertificate with privateKey may be given";
        report.error(at, message);
    }
    let by_name = !tls.credential_name.is_empty() || !tls.credential_names.is_empty();
    if uses_certificates && by_name {
        return;
    }
    if uses_certificates {
        certificates(at, tls, report);
    }
    if !tls.ca_crl.is_empty() {
        if !tls.credential_name.is_empty() {
            report.error(format!("{at}.caCrl"), "put the revocation list into the credential");
        }
        if tls.mode == Mode::Simple {
            report.error(
                format!("{at}.caCrl"),
                "clients show no certificates with SIMPLE; remove this or use MUTUAL",
            );
        }
    }
}

fn certificates(at: &str, tls: &ServerTLSSettings, report: &mut Report) {
    if tls.mode != Mode::Simple && tls.ca_certificates.is_empty() {
        report.error(
            format!("{at}.caCertificates"),
            "required to verify clients with mutual TLS",
        );
    }
    if tls.tls_certificates.len() > 2 {
        report.warning(format!("{at}.tlsCertificates"), "only two are used: one RSA, one ECDSA");
    }
    let mut pair = |at: String, certificate: &str, key: &str| {
        if certificate.is_empty() {
            report.error(
                format!("{at}.serverCertificate"),
                "required, unless credentialName is given",
            );
        }
        if key.is_empty() {
            report.error(format!("{at}.privateKey"), "required, unless credentialName is given");
        }
    };
    if tls.tls_certificates.is_empty() {
        pair(at.to_owned(), &tls.server_certificate, &tls.private_key);
    }
    for (i, certificate) in tls.tls_certificates.iter().enumerate() {
        pair(
            format!("{at}.tlsCertificates[{i}]"),
            &certificate.server_certificate,
            &certificate.private_key,
        );
    }
}
