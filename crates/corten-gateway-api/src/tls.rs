//! TLS of a listener: which certificates it serves, and whom it lets in by theirs.

use std::collections::BTreeMap;

use corten_api::{
    gateway_api::{
        Gateway,
        gateway::{
            FrontendTLSValidation, FrontendValidationModeType, GatewayTLSConfig, ListenerTLSConfig, TLSModeType,
        },
        shared::{ObjectReference, SecretObjectReference},
    },
    istio::gateway::{ServerTLSSettings, ServerTLSSettingsTLSmode as Mode},
};

use crate::{
    certificate::{Pair, Roots},
    condition::Problem,
    index::Index,
    reference::{Kind, object_text, secret_text},
};

/// Option of a listener: how clients' certificates are treated.
const TERMINATE_MODE: &str = "gateway.istio.io/tls-terminate-mode";
/// Option of a listener: the cipher suites, separated by commas.
const CIPHER_SUITES: &str = "gateway.istio.io/tls-cipher-suites";
/// Option of a listener: what it is for.
const LISTENER_PROTOCOL: &str = "gateway.istio.io/listener-protocol";
/// The options that are understood.
pub(crate) const OPTIONS: [&str; 3] = [TERMINATE_MODE, CIPHER_SUITES, LISTENER_PROTOCOL];

/// The label of what belongs to another network.
const NETWORK: &str = "topology.istio.io/network";
/// The label that says which port a network's gateway has.
const GATEWAY_PORT: &str = "networking.istio.io/gatewayPort";

/// A certificate that is the workload's own.
const BUILT_IN: &str = "builtin://";
/// The suffix of names of authorities.
const AUTHORITY: &str = "-cacert";

const REF_NOT_PERMITTED: &str = "RefNotPermitted";
const INVALID_CERTIFICATE: &str = "InvalidCertificateRef";
const INVALID_AUTHORITY: &str = "InvalidCACertificateRef";
const INVALID_AUTHORITY_KIND: &str = "InvalidCACertificateKind";
const INVALID_CLIENT: &str = "InvalidClientCertificateRef";

/// Who has a listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner<'a> {
    /// Gateway or ListenerSet.
    pub(crate) kind: Kind<'static>,
    /// Its namespace.
    pub(crate) namespace: &'a str,
    /// Its labels.
    pub(crate) labels: &'a BTreeMap<String, String>,
    /// Its generation.
    pub(crate) generation: i64,
}

/// What a gateway asks of clients at a port.
pub(crate) fn frontend(port: u16, tls: Option<&GatewayTLSConfig>) -> Option<&FrontendTLSValidation> {
    let frontend = tls?.frontend.as_ref()?;
    let own = frontend.per_port.iter().find(|own| own.port.0 == port);
    own.map_or(&frontend.default, |own| &own.tls).validation.as_ref()
}

/// Whether a listener passes everything on by server name.
pub(crate) fn is_auto_passthrough(owner: Owner<'_>, port: u16, tls: &ListenerTLSConfig) -> bool {
    if tls.options.get(LISTENER_PROTOCOL).map(String::as_str) == Some("auto-passthrough") {
        return true;
    }
    let expected = owner.labels.get(GATEWAY_PORT).map_or("15443", String::as_str);
    owner.labels.contains_key(NETWORK) && port.to_string() == expected
}

/// The TLS settings of a listener, and what is wrong with them.
pub(crate) fn settings(
    index: &Index<'_>,
    owner: Owner<'_>,
    port: u16,
    tls: &ListenerTLSConfig,
    frontend: Option<&FrontendTLSValidation>,
) -> (ServerTLSSettings, Option<Problem>) {
    let mut out = ServerTLSSettings::default();
    match tls.mode.unwrap_or(TLSModeType::Terminate) {
        TLSModeType::Terminate => match terminate(index, owner, tls, frontend, &mut out) {
            Ok(true) => {}
            Ok(false) => return (out, None),
            Err(problem) => return (out, problem),
        },
        TLSModeType::Passthrough if is_auto_passthrough(owner, port, tls) => out.mode = Mode::AutoPassthrough,
        TLSModeType::Passthrough => out.mode = Mode::Passthrough,
    }
    if let Some(suites) = tls.options.get(CIPHER_SUITES) {
        for suite in suites.split(',').map(str::trim).filter(|suite| is_cipher_suite(suite)) {
            if !out.cipher_suites.iter().any(|known| known == suite) {
                out.cipher_suites.push(suite.to_owned());
            }
        }
    }
    (out, None)
}

/// Fills in the settings of a listener that ends TLS; `false`: nothing more is to be said about it.
fn terminate(
    index: &Index<'_>,
    owner: Owner<'_>,
    tls: &ListenerTLSConfig,
    frontend: Option<&FrontendTLSValidation>,
    out: &mut ServerTLSSettings,
) -> Result<bool, Option<Problem>> {
    let option = tls.options.get(TERMINATE_MODE).map(String::as_str);
    out.mode = Mode::Simple;
    match option {
        Some("MUTUAL") => out.mode = Mode::Mutual,
        Some("OPTIONAL_MUTUAL") => out.mode = Mode::OptionalMutual,
        Some("ISTIO_SIMPLE") => {
            BUILT_IN.clone_into(&mut out.credential_name);
            return Ok(false);
        }
        Some("ISTIO_MUTUAL") => {
            out.mode = Mode::IstioMutual;
            return Ok(false);
        }
        _ => {}
    }
    if tls.certificate_refs.len() > 2 {
        let message = "TLS mode can only support up to 2 server certificates";
        return Err(Some(Problem::new(INVALID_CERTIFICATE, message)));
    }
    let mut credentials = Vec::new();
    let mut problem = None;
    for reference in &tls.certificate_refs {
        match certificate(index, owner, reference) {
            Ok(credential) => credentials.push(credential),
            Err(found) => problem = Problem::join(problem, Some(found)),
        }
    }
    match <[String; 1]>::try_from(credentials) {
        Ok([one]) => out.credential_name = one,
        Err(none) if none.is_empty() => return if problem.is_some() { Err(problem) } else { Ok(false) },
        Err(several) => out.credential_names = several,
    }
    if let Some(validation) = frontend.filter(|validation| !validation.ca_certificate_refs.is_empty()) {
        out.ca_cert_credential_name = authorities(index, owner, &validation.ca_certificate_refs).map_err(Some)?;
        let insecure = validation.mode == Some(FrontendValidationModeType::AllowInsecureFallback);
        (out.mode, out.insecure_skip_verify) = match option {
            Some("MUTUAL") => (Mode::Mutual, Some(false)),
            Some("OPTIONAL_MUTUAL") => (Mode::OptionalMutual, Some(false)),
            _ if insecure => (Mode::OptionalMutual, Some(true)),
            _ => (Mode::Mutual, Some(false)),
        };
    }
    Ok(true)
}

/// The name under which a server's certificate is asked for.
fn certificate(index: &Index<'_>, owner: Owner<'_>, reference: &SecretObjectReference) -> Result<String, Problem> {
    let namespace = reference.namespace.as_deref().unwrap_or(owner.namespace);
    // Consent comes first, so that the status does not tell whether an object exists that may not be looked at.
    let permitted = namespace == owner.namespace
        || index
            .grants
            .allow(owner.kind, owner.namespace, Kind::SECRET, namespace, &reference.name);
    if !permitted {
        let message = format!(
            "certificateRef {}/{namespace} not accessible to a Gateway in namespace \"{}\" (missing a ReferenceGrant?)",
            reference.name, owner.namespace
        );
        return Err(Problem::new(REF_NOT_PERMITTED, message));
    }
    let shown = format!("invalid certificate reference {}", secret_text(reference));
    secret_pair(index, namespace, reference, &shown).map_err(|message| Problem::new(INVALID_CERTIFICATE, message))?;
    Ok(format!("kubernetes-gateway://{namespace}/{}", reference.name))
}

/// Whether a referenced secret holds a certificate with its key; if not, the message.
fn secret_pair(
    index: &Index<'_>,
    namespace: &str,
    reference: &SecretObjectReference,
    shown: &str,
) -> Result<(), String> {
    let kind = Kind::of(reference.group.as_deref(), reference.kind.as_deref(), Kind::SECRET);
    if kind != Kind::SECRET {
        return Err(format!("{shown}, only secret is allowed"));
    }
    let Some(secret) = index.secret(namespace, &reference.name) else {
        return Err(format!("{shown}, secret {namespace}/{} not found", reference.name));
    };
    match &secret.pair {
        Pair::Usable => Ok(()),
        Pair::Missing(why) => Err(format!("{shown}, {why}")),
        Pair::Malformed(why) => Err(format!("{shown}, the certificate is malformed: {why}")),
    }
}

/// The name under which the authorities for clients are asked for.
fn authorities(index: &Index<'_>, owner: Owner<'_>, references: &[ObjectReference]) -> Result<String, Problem> {
    let [reference] = references else {
        return Err(Problem::new(
            INVALID_AUTHORITY,
            "only one caCertificateRef is supported",
        ));
    };
    let kind = Kind {
        group: &reference.group,
        kind: &reference.kind,
    };
    let namespace = reference.namespace.as_deref().unwrap_or(owner.namespace);
    let to = if kind == Kind::SECRET {
        Kind::SECRET
    } else {
        Kind::CONFIG_MAP
    };
    let permitted = namespace == owner.namespace
        || index
            .grants
            .allow(owner.kind, owner.namespace, to, namespace, &reference.name);
    if !permitted {
        let message = format!(
            "caCertificateRef {namespace}/{} not accessible to a Gateway in namespace \"{}\" (missing a ReferenceGrant?)",
            reference.name, owner.namespace
        );
        return Err(Problem::new(REF_NOT_PERMITTED, message));
    }
    let shown = format!("invalid CA certificate reference {}", object_text(reference));
    let invalid = |rest: String| Problem::new(INVALID_AUTHORITY, format!("{shown}, {rest}"));
    let missing = |what: &str| invalid(format!("{what} {namespace}/{} not found", reference.name));
    let (scheme, roots) = if kind == Kind::CONFIG_MAP {
        let found = index.config_map(namespace, &reference.name);
        ("configmap", &found.ok_or_else(|| missing("configmap"))?.roots)
    } else if kind == Kind::SECRET {
        let found = index.secret(namespace, &reference.name);
        ("kubernetes-gateway", &found.ok_or_else(|| missing("secret"))?.roots)
    } else {
        let message = format!("{shown}, only secret and configmap are allowed");
        return Err(Problem::new(INVALID_AUTHORITY_KIND, message));
    };
    match roots {
        Roots::Usable => Ok(format!("{scheme}://{namespace}/{}{AUTHORITY}", reference.name)),
        Roots::Missing(why) => Err(invalid(why.clone())),
        Roots::Malformed => Err(invalid("the bundle is malformed".to_owned())),
    }
}

/// What is wrong with the certificate a gateway shows to backends.
pub(crate) fn client_certificate(index: &Index<'_>, gateway: &Gateway) -> Option<Problem> {
    let backend = gateway.spec.tls.as_ref()?.backend.as_ref()?;
    let reference = backend.client_certificate_ref.as_ref()?;
    let own = gateway.metadata.namespace.as_str();
    let namespace = reference.namespace.as_deref().unwrap_or(own);
    let shown = format!("invalid clientCertificateRef {}", secret_text(reference));
    if let Err(message) = secret_pair(index, namespace, reference, &shown) {
        return Some(Problem::new(INVALID_CLIENT, message));
    }
    let name = &reference.name;
    let permitted = namespace == own || index.grants.allow(Kind::GATEWAY, own, Kind::SECRET, namespace, name);
    (!permitted).then(|| {
        let message = format!(
            "clientCertificateRef {name}/{namespace} not accessible to a Gateway in namespace \"{own}\" (missing a ReferenceGrant?)"
        );
        Problem::new(REF_NOT_PERMITTED, message)
    })
}

/// Whether a problem means that no client can be verified.
pub(crate) fn leaves_no_authority(problem: &Problem) -> bool {
    matches!(
        problem.reason.as_str(),
        INVALID_AUTHORITY | INVALID_AUTHORITY_KIND | REF_NOT_PERMITTED
    )
}

/// Whether Envoy takes a cipher suite; what begins with another sign is an expression that it reads itself.
pub(crate) fn is_cipher_suite(name: &str) -> bool {
    const KNOWN: [&str; 15] = [
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
    name == "ALL" || !name.starts_with(char::is_alphanumeric) || KNOWN.contains(&name)
}
