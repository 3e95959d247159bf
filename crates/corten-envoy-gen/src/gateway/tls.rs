//! TLS that routers serve.

use corten_api::{
    istio::{
        gateway::{ServerTLSSettings, ServerTLSSettingsTLSProtocol as Version, ServerTLSSettingsTLSmode as Mode},
        mesh_config::{MeshConfig, TLSConfigTLSProtocol},
    },
    validate::is_cipher,
};
use corten_envoy::{
    boolean,
    envoy::{
        config::core::v3::{DataSource, data_source},
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, TlsParameters,
            certificate_validation_context::TrustChainVerification, common_tls_context::ValidationContextType,
            tls_parameters::TlsProtocol,
        },
    },
};

use crate::security::{
    secret,
    tls::{combined, named},
};

/// The names of the credentials that settings name, with those of their authorities.
pub(super) fn credentials_of(tls: &ServerTLSSettings) -> Vec<String> {
    let mut names = certificates(tls);
    if matches!(tls.mode, Mode::Mutual | Mode::OptionalMutual) {
        names.extend(authorities(tls));
    }
    names
}

/// The credentials with certificates.
fn certificates(tls: &ServerTLSSettings) -> Vec<String> {
    if !tls.credential_names.is_empty() {
        return tls.credential_names.clone();
    }
    let name = Some(tls.credential_name.clone());
    name.filter(|name| !name.is_empty()).into_iter().collect()
}

/// The credential with the authorities that clients' certificates are of.
fn authorities(tls: &ServerTLSSettings) -> Option<String> {
    if !tls.ca_cert_credential_name.is_empty() {
        return Some(tls.ca_cert_credential_name.clone());
    }
    let first = certificates(tls).into_iter().next()?;
    Some(format!("{first}{}", secret::AUTHORITIES))
}

/// What a server with these settings presents and demands.
pub(super) fn context(tls: &ServerTLSSettings, mesh: &MeshConfig) -> DownstreamTlsContext {
    let mutual = tls.mode == Mode::IstioMutual;
    let alpn = ["h2", "http/1.1"];
    let named_credentials = certificates(tls);
    let certificates: Vec<SdsSecretConfig> = if mutual {
        vec![secret::of_agent(secret::DEFAULT)]
    } else if named_credentials.is_empty() {
        files(tls)
    } else {
        named_credentials.iter().map(|name| secret::credential(name)).collect()
    };
    DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            alpn_protocols: alpn.iter().map(|name| (*name).to_owned()).collect(),
            tls_certificate_sds_secret_configs: certificates,
            validation_context_type: clients(tls),
            tls_params: if mutual { None } else { parameters(tls, mesh) },
            ..CommonTlsContext::default()
        }),
        require_client_certificate: boolean(matches!(tls.mode, Mode::Mutual | Mode::IstioMutual)),
        ..DownstreamTlsContext::default()
    }
}

/// Certificates in files of the router.
fn files(tls: &ServerTLSSettings) -> Vec<SdsSecretConfig> {
    let file = |certificate: &str, key: &str| secret::of_agent(&secret::files(certificate, key));
    if tls.tls_certificates.is_empty() {
        return vec![file(&tls.server_certificate, &tls.private_key)];
    }
    let all = tls.tls_certificates.iter();
    all.map(|of| file(&of.server_certificate, &of.private_key)).collect()
}

/// Which clients are believed.
fn clients(tls: &ServerTLSSettings) -> Option<ValidationContextType> {
    let believes_all = tls.insecure_skip_verify == Some(true);
    let context = CertificateValidationContext {
        match_typed_subject_alt_names: tls.subject_alt_names.iter().map(|name| named(name)).collect(),
        verify_certificate_spki: tls.verify_certificate_spki.clone(),
        verify_certificate_hash: tls.verify_certificate_hash.clone(),
        trust_chain_verification: if believes_all {
            TrustChainVerification::AcceptUntrusted.into()
        } else {
            TrustChainVerification::VerifyTrustChain.into()
        },
        crl: Some(tls.ca_crl.clone())
            .filter(|path| !path.is_empty())
            .map(|path| DataSource {
                specifier: Some(data_source::Specifier::Filename(path)),
                ..DataSource::default()
            }),
        ..CertificateValidationContext::default()
    };
    let file = tls
        .tls_certificates
        .iter()
        .map(|of| &of.ca_certificates)
        .chain([&tls.ca_certificates])
        .find(|path| !path.is_empty());
    match tls.mode {
        Mode::IstioMutual => Some(combined(context, secret::of_agent(secret::ROOT))),
        Mode::Mutual | Mode::OptionalMutual => {
            let authorities = match (authorities(tls), file) {
                (Some(name), _) => secret::credential(&name),
                (None, Some(path)) => secret::of_agent(&secret::authorities_file(path)),
                // Without authorities nobody can be believed: those of the mesh are what is left.
                (None, None) => secret::of_agent(secret::ROOT),
            };
            Some(combined(context, authorities))
        }
        // No client is asked for a certificate, and names without authorities a proxy refuses.
        Mode::Simple | Mode::Passthrough | Mode::AutoPassthrough => None,
    }
}

/// Versions, ciphers and curves, where the server or the mesh says something.
fn parameters(tls: &ServerTLSSettings, mesh: &MeshConfig) -> Option<TlsParameters> {
    let mut made = TlsParameters::default();
    if let Some(defaults) = &mesh.tls_defaults {
        made.cipher_suites.clone_from(&defaults.cipher_suites);
        made.ecdh_curves.clone_from(&defaults.ecdh_curves);
        made.tls_minimum_protocol_version = match defaults.min_protocol_version {
            TLSConfigTLSProtocol::TlsAuto => TlsProtocol::TlsAuto,
            TLSConfigTLSProtocol::Tlsv12 => TlsProtocol::TlSv12,
            TLSConfigTLSProtocol::Tlsv13 => TlsProtocol::TlSv13,
        }
        .into();
    }
    if tls.min_protocol_version != Version::TlsAuto {
        made.tls_minimum_protocol_version = version(tls.min_protocol_version).into();
    }
    made.tls_maximum_protocol_version = version(tls.max_protocol_version).into();
    if !tls.ecdh_curves.is_empty() {
        made.ecdh_curves.clone_from(&tls.ecdh_curves);
    }
    let mut ciphers: Vec<String> = Vec::new();
    for suite in tls.cipher_suites.iter().filter(|suite| is_cipher(suite)) {
        if !ciphers.contains(suite) {
            ciphers.push(suite.clone());
        }
    }
    if !ciphers.is_empty() {
        made.cipher_suites = ciphers;
    }
    (made != TlsParameters::default()).then_some(made)
}

fn version(version: Version) -> TlsProtocol {
    match version {
        Version::TlsAuto => TlsProtocol::TlsAuto,
        Version::Tlsv10 => TlsProtocol::TlSv10,
        Version::Tlsv11 => TlsProtocol::TlSv11,
        Version::Tlsv12 => TlsProtocol::TlSv12,
        Version::Tlsv13 => TlsProtocol::TlSv13,
    }
}
