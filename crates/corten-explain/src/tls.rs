//! The two ends of TLS at a proxy: what its listeners demand of clients, and what its clusters demand of servers.

use corten_envoy::envoy::config::core::v3::{TransportSocket, transport_socket::ConfigType};
use corten_envoy::envoy::extensions::transport_sockets::internal_upstream::v3::InternalUpstreamTransport;
use corten_envoy::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use corten_envoy::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, UpstreamTlsContext,
    certificate_validation_context::TrustChainVerification, common_tls_context::ValidationContextType,
};

use crate::Tls;
use crate::strings::{say, string_matches};
use crate::trace::{Choice, Refusal, TlsTerminated};

/// Opens the TLS of a call at a filter chain; `None`: the chain has none.
///
/// # Errors
///
/// One side does not accept the other.
pub(crate) fn open(
    socket: Option<&TransportSocket>,
    call: Option<&Tls>,
) -> Result<Option<TlsTerminated>, (Refusal, String)> {
    let Some(context) = downstream(socket)? else {
        return Ok(None);
    };
    let common = context.common_tls_context.clone().unwrap_or_default();
    let opened = TlsTerminated {
        certificate: certificate(&common),
        asks_for_certificate: context
            .require_client_certificate
            .as_ref()
            .is_some_and(|value| value.value),
        authorities: authorities(&common),
        peer: call
            .and_then(|tls| tls.certificate.as_ref())
            .map_or(Vec::new(), |certificate| certificate.uris.clone()),
    };
    let Some(tls) = call else {
        return Err((
            Refusal::TlsError,
            "the filter chain expects TLS, and the call is plain".to_owned(),
        ));
    };
    if let Some(accepts) = tls.accepts.as_ref().filter(|accepts| **accepts != opened.certificate) {
        let why = format!(
            "the client accepts the certificate of {accepts:?} only, and is shown that of {:?}",
            opened.certificate
        );
        return Err((Refusal::MtlsError, why));
    }
    if opened.asks_for_certificate && tls.certificate.is_none() {
        return Err((
            Refusal::MtlsError,
            "a certificate of the client is required, and it shows none".to_owned(),
        ));
    }
    if tls.mutual_only && !opened.asks_for_certificate {
        return Err((
            Refusal::MtlsError,
            "the client expects to be asked for its certificate, and is not".to_owned(),
        ));
    }
    check_names(&common, &opened)?;
    if context.require_sni.as_ref().is_some_and(|value| value.value) && tls.sni.is_empty() {
        return Err((
            Refusal::TlsError,
            "the client must name the server, and does not".to_owned(),
        ));
    }
    Ok(Some(opened))
}

fn downstream(socket: Option<&TransportSocket>) -> Result<Option<DownstreamTlsContext>, (Refusal, String)> {
    let Some(ConfigType::TypedConfig(any)) = socket.and_then(|socket| socket.config_type.as_ref()) else {
        return Ok(None);
    };
    let broken = |error| {
        (
            Refusal::Unsupported,
            format!("the transport socket of the filter chain is broken: {error}"),
        )
    };
    let context: Option<DownstreamTlsContext> = corten_envoy::decode(any).map_err(broken)?;
    if context.is_none() && corten_envoy::type_name(&any.type_url).contains(".quic.") {
        return Err((
            Refusal::Unsupported,
            "the filter chain is for QUIC, which is not followed".to_owned(),
        ));
    }
    Ok(context)
}

/// A client whose certificate has a name is let in only if one of the names that are wanted is that.
fn check_names(common: &CommonTlsContext, opened: &TlsTerminated) -> Result<(), (Refusal, String)> {
    let wanted = validation(common).map_or(Vec::new(), |context| context.match_typed_subject_alt_names);
    if wanted.is_empty() || opened.peer.is_empty() {
        return Ok(());
    }
    let matchers: Vec<_> = wanted.iter().filter_map(|wanted| wanted.matcher.as_ref()).collect();
    let fits = opened.peer.iter().any(|name| {
        matchers
            .iter()
            .any(|matcher| string_matches(matcher, name).unwrap_or(false))
    });
    if fits {
        return Ok(());
    }
    let names: Vec<String> = matchers.into_iter().map(|matcher| say(matcher, true)).collect();
    let why = format!(
        "the client is {}, and only who {} is let in",
        opened.peer.join(", "),
        names.join(" or ")
    );
    Err((Refusal::MtlsError, why))
}

fn validation(common: &CommonTlsContext) -> Option<CertificateValidationContext> {
    match common.validation_context_type.as_ref()? {
        ValidationContextType::ValidationContext(context) => Some(context.clone()),
        ValidationContextType::CombinedValidationContext(combined) => combined.default_validation_context.clone(),
        _ => None,
    }
}

/// The secret with the authorities that the other side's certificate must be of; empty: any will do.
fn authorities(common: &CommonTlsContext) -> String {
    let of = |context: &CertificateValidationContext| match &context.trusted_ca {
        _ if context.trust_chain_verification() == TrustChainVerification::AcceptUntrusted => None,
        Some(_) => Some("inline".to_owned()),
        None => Some(String::new()),
    };
    match &common.validation_context_type {
        Some(ValidationContextType::ValidationContextSdsSecretConfig(secret)) => secret.name.clone(),
        Some(ValidationContextType::ValidationContext(context)) => of(context).unwrap_or_default(),
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            let default = combined.default_validation_context.clone().unwrap_or_default();
            let secret = combined.validation_context_sds_secret_config.as_ref();
            match (of(&default), secret) {
                (None, _) => String::new(),
                (Some(_), Some(secret)) => secret.name.clone(),
                (Some(inline), None) => inline,
            }
        }
        _ => String::new(),
    }
}

fn certificate(common: &CommonTlsContext) -> String {
    match common.tls_certificate_sds_secret_configs.first() {
        Some(secret) => secret.name.clone(),
        None if common.tls_certificates.is_empty() => String::new(),
        None => "inline".to_owned(),
    }
}

/// How a cluster's transport socket speaks to an endpoint.
pub(crate) fn upstream(socket: Option<&TransportSocket>) -> Choice {
    let mode = |mode: &str| Choice {
        mode: mode.to_owned(),
        ..Choice::default()
    };
    let Some(socket) = socket else { return mode("plain") };
    let Some(ConfigType::TypedConfig(any)) = &socket.config_type else {
        return mode(if socket.name.ends_with("raw_buffer") {
            "plain"
        } else {
            &socket.name
        });
    };
    if let Ok(Some(context)) = corten_envoy::decode::<UpstreamTlsContext>(any) {
        let common = context.common_tls_context.clone().unwrap_or_default();
        let sans = validation(&common).map_or(Vec::new(), |context| context.match_typed_subject_alt_names);
        return Choice {
            matched: String::new(),
            mode: if certificate(&common).is_empty() { "tls" } else { "mtls" }.to_owned(),
            sni: context.sni,
            sans: sans
                .iter()
                .filter_map(|san| san.matcher.as_ref())
                .map(plain_words)
                .collect(),
            certificate: certificate(&common),
            authorities: authorities(&common),
            alpn: common.alpn_protocols,
        };
    }
    if let Ok(Some(wrapped)) = corten_envoy::decode::<InternalUpstreamTransport>(any) {
        return upstream(wrapped.transport_socket.as_ref());
    }
    if let Ok(Some(wrapped)) = corten_envoy::decode::<ProxyProtocolUpstreamTransport>(any) {
        return upstream(wrapped.transport_socket.as_ref());
    }
    match corten_envoy::type_name(&any.type_url) {
        "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer" => mode("plain"),
        other => mode(other),
    }
}

/// An exact name as it is; others as they are described.
fn plain_words(matcher: &corten_envoy::envoy::r#type::matcher::v3::StringMatcher) -> String {
    use corten_envoy::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
    match &matcher.match_pattern {
        Some(MatchPattern::Exact(text)) if !matcher.ignore_case => text.clone(),
        _ => format!("one that {}", say(matcher, true)),
    }
}
