//! What Gateways say that takes no effect.

use corten_api::{
    diagnostic::Diagnostic,
    istio::gateway::{
        Server, ServerTLSSettings, ServerTLSSettingsTLSProtocol as Version, ServerTLSSettingsTLSmode as Mode,
    },
};
use corten_routing::{About, Catalog};

use super::merge::{Merged, protocol};

/// What takes no effect, by object and field. What decides about it is the mesh alone, not which router asks.
pub fn diagnostics(catalog: &Catalog) -> Vec<Diagnostic> {
    let mut said = Vec::new();
    for config in catalog.configs.gateways.values() {
        let about = About::networking("Gateway", &config.namespace, &config.name);
        for (index, server) in config.spec.servers.iter().enumerate() {
            of_server(&about, &format!("spec.servers[{index}]"), server, &mut said);
        }
    }
    said
}

/// What of a router's Gateways is left out, because others were there before.
pub fn conflicts(merged: &Merged) -> Vec<Diagnostic> {
    let said = merged.conflicts.iter().map(|conflict| {
        let (namespace, name) = conflict.gateway.split_once('/').unwrap_or(("", &conflict.gateway));
        let path = format!("spec.servers[{}].{}", conflict.server, conflict.field);
        About::networking("Gateway", namespace, name)
            .conflict(path, format!("the server is left out: {}", conflict.reason))
    });
    said.collect()
}

fn of_server(about: &About<'_>, at: &str, server: &Server, said: &mut Vec<Diagnostic>) {
    let mut unused = |at: &str, why: &str, fields: &[(&str, bool)]| {
        let set = fields.iter().filter(|(_, set)| *set);
        said.extend(set.map(|(name, _)| about.no_effect(format!("{at}.{name}"), format!("takes no effect: {why}"))));
    };
    let why = "VirtualServices say where requests go";
    unused(at, why, &[("defaultEndpoint", !server.default_endpoint.is_empty())]);
    let target = server.port.as_ref().is_some_and(|port| port.target_port.is_given());
    let why = "the service in front of the gateway says which port it listens on";
    unused(&format!("{at}.port"), why, &[("targetPort", target)]);
    let Some(tls) = &server.tls else { return };
    let at = format!("{at}.tls");
    let certificates = [
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("serverCertificate", !tls.server_certificate.is_empty()),
        ("privateKey", !tls.private_key.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ];
    let parameters = [
        ("minProtocolVersion", tls.min_protocol_version != Version::TlsAuto),
        ("maxProtocolVersion", tls.max_protocol_version != Version::TlsAuto),
        ("cipherSuites", !tls.cipher_suites.is_empty()),
        ("ecdhCurves", !tls.ecdh_curves.is_empty()),
    ];
    let all = || [&certificates[..], &clients(tls)[..], &parameters[..]].concat();
    if protocol(server).is_http() {
        unused(&at, "the server speaks plain HTTP; only httpsRedirect counts", &all());
        return;
    }
    match tls.mode {
        Mode::Passthrough | Mode::AutoPassthrough => unused(&at, "TLS passes through and ends elsewhere", &all()),
        Mode::IstioMutual => {
            unused(&at, "with ISTIO_MUTUAL the certificates are the mesh's", &certificates);
            let authorities = [
                ("caCertificates", !tls.ca_certificates.is_empty()),
                ("caCertCredentialName", !tls.ca_cert_credential_name.is_empty()),
            ];
            unused(&at, "with ISTIO_MUTUAL the authorities are the mesh's", &authorities);
            unused(&at, "with ISTIO_MUTUAL the proxy's own are taken", &parameters);
        }
        Mode::Simple => unused(&at, "with SIMPLE no client is asked for a certificate", &clients(tls)),
        Mode::Mutual | Mode::OptionalMutual => {
            let named = !tls.credential_name.is_empty() || !tls.credential_names.is_empty();
            if named {
                unused(&at, "the credential comes first", &certificates[2..]);
                let file = [("caCertificates", !tls.ca_certificates.is_empty())];
                unused(&at, "the credential has the authorities", &file);
            }
        }
    }
}

/// The fields about clients' certificates.
fn clients(tls: &ServerTLSSettings) -> [(&'static str, bool); 7] {
    [
        ("caCertificates", !tls.ca_certificates.is_empty()),
        ("caCrl", !tls.ca_crl.is_empty()),
        ("caCertCredentialName", !tls.ca_cert_credential_name.is_empty()),
        ("subjectAltNames", !tls.subject_alt_names.is_empty()),
        ("verifyCertificateSpki", !tls.verify_certificate_spki.is_empty()),
        ("verifyCertificateHash", !tls.verify_certificate_hash.is_empty()),
        ("insecureSkipVerify", tls.insecure_skip_verify.is_some()),
    ]
}
