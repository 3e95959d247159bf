//! TLS that a proxy starts towards a host: automatic, as a DestinationRule says, or through a tunnel.

use corten_api::istio::{
    destination_rule::{ClientTLSSettings, ClientTLSSettingsTLSmode as Mode},
    mesh_config::{TLSConfig, TLSConfigTLSProtocol},
    peer_authentication::MutualTLSMode,
};
use corten_envoy::{
    any,
    envoy::{
        config::{
            cluster::v3::cluster::TransportSocketMatch,
            core::v3::{DataSource, TransportSocket, data_source::Specifier},
        },
        extensions::transport_sockets::{
            internal_upstream::v3::{InternalUpstreamTransport, internal_upstream_transport::MetadataValueSource},
            tls::v3::{
                CertificateValidationContext, CommonTlsContext, UpstreamTlsContext,
                common_tls_context::ValidationContextType,
            },
        },
        r#type::metadata::v3::{MetadataKind, metadata_kind},
    },
    google::protobuf::Struct,
    string_value, structure,
};

use super::{Files, client_socket, combined, named, parameters, plain_socket, protocols, socket, tunnel, validation};
use crate::security::secret;

/// What is known about a cluster when its TLS is decided.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outbound<'a> {
    /// The name of the cluster, which is the server name where nothing else is.
    pub cluster: &'a str,
    /// What the DestinationRule for the port and subset says.
    pub settings: Option<&'a ClientTLSSettings>,
    /// What the host's PeerAuthentications demand, where mutual TLS is automatic; `None`: it is not, or the host's
    /// workloads cannot all take it.
    pub automatic: Option<MutualTLSMode>,
    /// The host is not of the mesh.
    pub mesh_external: bool,
    /// The identities of the host's workloads, in every trust domain that counts as the same.
    pub identities: &'a [String],
    /// The server name of the mesh's mutual TLS: `outbound_.80_.v1_.host`.
    pub server_name: &'a str,
    /// Names that the ServiceEntry of an external host gives it.
    pub external_names: &'a [String],
    /// The cluster always speaks HTTP/2.
    pub http2: bool,
    /// The cluster connects to where the client wanted to go, so that there are no endpoints to tell apart.
    pub original_destination: bool,
    /// The cluster resolves whatever host a request names.
    pub dynamic: bool,
    /// Endpoints that take tunnels get one.
    pub tunnels: bool,
    /// The proxy may ask for the credentials that the rule names: it is a gateway, or the rule selects workloads.
    pub credentials: bool,
    /// The proxy's own certificates, if its workload brings some.
    pub files: Option<&'a Files>,
    /// `tlsDefaults` of the mesh's configuration.
    pub defaults: Option<&'a TLSConfig>,
    /// The proxy tells its peers who it is before the first byte of a connection, as only Istio's own can: a peer that agrees on
    /// `istio-peer-exchange` waits for that.
    pub exchanges: bool,
}

/// What a cluster needs for its TLS.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Upstream {
    /// The socket for all endpoints, unless they are told apart.
    pub socket: Option<TransportSocket>,
    /// The sockets by what endpoints take; empty: they are not told apart.
    pub matches: Vec<TransportSocketMatch>,
    /// Each request's host is the server name of its connection (`auto_sni`).
    pub name_of_request: bool,
    /// The host's certificate must have the name of the request (`auto_san_validation`).
    pub verify_name_of_request: bool,
    /// A dynamic cluster does without one of the two (`allow_insecure_cluster_options`).
    pub insecure: bool,
    /// The effective settings were TLS that the user asked for, towards which nothing may be tunnelled in the open.
    pub user_supplied: bool,
    /// Why the TLS that was asked for cannot be had: the cluster then refuses every host, and never falls back to plain
    /// text.
    pub problem: Option<String>,
}

/// Decides the TLS of a cluster.
pub fn outbound(wanted: &Outbound<'_>) -> Upstream {
    let (settings, automatic) = effective(wanted);
    let Some(settings) = settings else {
        return Upstream {
            matches: if wanted.tunnels { tunnel_or_plain() } else { Vec::new() },
            ..Upstream::default()
        };
    };
    let mut upstream = Upstream {
        user_supplied: !automatic && settings.mode != Mode::Disable,
        ..Upstream::default()
    };
    let context = match settings.mode {
        Mode::Disable => None,
        Mode::IstioMutual => {
            if wanted.dynamic {
                names_of_requests(wanted, &settings, &mut upstream);
            }
            Some(istio_mutual(wanted, &settings))
        }
        Mode::Simple | Mode::Mutual => {
            names_of_requests(wanted, &settings, &mut upstream);
            Some(originated(wanted, &settings).unwrap_or_else(|problem| {
                upstream.problem = Some(problem);
                refusing(&settings)
            }))
        }
    };
    let socket = context.as_ref().map(client_socket);
    arrange(wanted, settings.mode, automatic, socket, &mut upstream);
    upstream
}

/// The settings that count, and whether nobody asked for them.
fn effective(wanted: &Outbound<'_>) -> (Option<ClientTLSSettings>, bool) {
    let files = wanted
        .files
        .filter(|files| !files.certificate.is_empty() && !files.key.is_empty());
    let from_files = |names: &[String], server_name: &str, unverified: Option<bool>, files: &Files| ClientTLSSettings {
        mode: Mode::Mutual,
        client_certificate: files.certificate.clone(),
        private_key: files.key.clone(),
        ca_certificates: files.authorities.clone(),
        subject_alt_names: names.to_vec(),
        sni: server_name.to_owned(),
        insecure_skip_verify: unverified,
        ..ClientTLSSettings::default()
    };
    let of_mesh = |names: &[String], server_name: &str, unverified: Option<bool>| ClientTLSSettings {
        mode: Mode::IstioMutual,
        subject_alt_names: names.to_vec(),
        sni: server_name.to_owned(),
        insecure_skip_verify: unverified,
        ..ClientTLSSettings::default()
    };
    match (wanted.settings, files) {
        (Some(settings), _) if matches!(settings.mode, Mode::Disable | Mode::Simple) => (Some(settings.clone()), false),
        (Some(settings), Some(_)) if wanted.mesh_external && settings.mode == Mode::Mutual => {
            (Some(settings.clone()), false)
        }
        (Some(settings), Some(files)) => {
            let made = from_files(
                &settings.subject_alt_names,
                &settings.sni,
                settings.insecure_skip_verify,
                files,
            );
            (Some(made), false)
        }
        (Some(settings), None) if settings.mode == Mode::Mutual => (Some(settings.clone()), false),
        (Some(settings), None) => {
            let names = match settings.subject_alt_names.as_slice() {
                [] => wanted.identities,
                given => given,
            };
            let server_name = match settings.sni.as_str() {
                "" => wanted.server_name,
                given => given,
            };
            (Some(of_mesh(names, server_name, settings.insecure_skip_verify)), false)
        }
        (None, files) => {
            let takes = matches!(
                wanted.automatic,
                Some(MutualTLSMode::Permissive | MutualTLSMode::Strict)
            );
            if wanted.mesh_external || !takes {
                return (None, false);
            }
            let made = match files {
                Some(files) => from_files(wanted.identities, wanted.server_name, None, files),
                None => of_mesh(wanted.identities, wanted.server_name, None),
            };
            (Some(made), true)
        }
    }
}

fn istio_mutual(wanted: &Outbound<'_>, settings: &ClientTLSSettings) -> UpstreamTlsContext {
    let names = settings.subject_alt_names.iter().map(|name| named(name)).collect();
    let mut alpn = if wanted.exchanges {
        vec!["istio-peer-exchange"]
    } else {
        Vec::new()
    };
    alpn.push("istio");
    if wanted.http2 {
        alpn.push("h2");
    }
    UpstreamTlsContext {
        sni: match settings.sni.as_str() {
            "" if !wanted.dynamic => wanted.cluster.to_owned(),
            given => given.to_owned(),
        },
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(parameters(TLSConfigTLSProtocol::Tlsv12, Vec::new(), Vec::new())),
            tls_certificate_sds_secret_configs: vec![secret::of_agent(secret::DEFAULT)],
            validation_context_type: Some(validation(names, secret::of_agent(secret::ROOT))),
            alpn_protocols: protocols(&alpn),
            ..CommonTlsContext::default()
        }),
        ..UpstreamTlsContext::default()
    }
}

/// TLS that the user asked for, with files or credentials.
fn originated(wanted: &Outbound<'_>, settings: &ClientTLSSettings) -> Result<UpstreamTlsContext, String> {
    let unverified = settings.insecure_skip_verify == Some(true);
    let written = match settings.subject_alt_names.as_slice() {
        [] => wanted.external_names,
        given => given,
    };
    let names: Vec<_> = written.iter().map(|name| named(name)).collect();
    let mut common = CommonTlsContext {
        tls_params: Some(client_parameters(wanted)),
        alpn_protocols: if wanted.http2 { protocols(&["h2"]) } else { Vec::new() },
        ..CommonTlsContext::default()
    };
    if settings.credential_name.is_empty() {
        let own_agent = wanted.files.is_some_and(|files| files.own_agent);
        if settings.mode == Mode::Mutual {
            if settings.client_certificate.is_empty() || settings.private_key.is_empty() {
                return Err("clientCertificate and privateKey must both be given for TLS of mode MUTUAL".to_owned());
            }
            let name = secret::files(&settings.client_certificate, &settings.private_key);
            common.tls_certificate_sds_secret_configs = vec![secret::of_files(&name, own_agent)];
        }
        common.validation_context_type = Some(if unverified {
            ValidationContextType::ValidationContext(CertificateValidationContext::default())
        } else {
            let path = match settings.ca_certificates.as_str() {
                "" => "system",
                path => path,
            };
            let revoked = Some(settings.ca_crl.as_str()).filter(|path| !path.is_empty());
            let context = CertificateValidationContext {
                match_typed_subject_alt_names: names,
                crl: revoked.map(|path| DataSource {
                    specifier: Some(Specifier::Filename(path.to_owned())),
                    ..DataSource::default()
                }),
                ..CertificateValidationContext::default()
            };
            combined(context, secret::of_files(&secret::authorities_file(path), own_agent))
        });
    } else {
        let name = &settings.credential_name;
        if !wanted.credentials && !secret::is_public(name) {
            return Err(format!(
                "credentialName '{name}' is not for sidecars: give the rule a workloadSelector, or use files"
            ));
        }
        if settings.mode == Mode::Mutual {
            common.tls_certificate_sds_secret_configs = vec![secret::credential(name)];
        }
        if !unverified {
            let authorities = secret::credential(&format!("{name}{}", secret::AUTHORITIES));
            common.validation_context_type = Some(validation(names, authorities));
        }
    }
    Ok(UpstreamTlsContext {
        sni: settings.sni.clone(),
        common_tls_context: Some(common),
        ..UpstreamTlsContext::default()
    })
}

fn client_parameters(
    wanted: &Outbound<'_>,
) -> corten_envoy::envoy::extensions::transport_sockets::tls::v3::TlsParameters {
    let (ciphers, curves) = wanted.defaults.map_or_else(Default::default, |defaults| {
        (defaults.cipher_suites.clone(), defaults.ecdh_curves.clone())
    });
    parameters(TLSConfigTLSProtocol::Tlsv12, ciphers, curves)
}

/// TLS that no host passes: what was asked for cannot be had, and plain text is not what was asked for.
fn refusing(settings: &ClientTLSSettings) -> UpstreamTlsContext {
    let nobody = vec![named("refused.invalid")];
    UpstreamTlsContext {
        sni: settings.sni.clone(),
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(parameters(TLSConfigTLSProtocol::Tlsv12, Vec::new(), Vec::new())),
            validation_context_type: Some(validation(
                nobody,
                secret::of_agent(&secret::authorities_file("system")),
            )),
            ..CommonTlsContext::default()
        }),
        ..UpstreamTlsContext::default()
    }
}

/// Where the rule names no server, the request does.
fn names_of_requests(wanted: &Outbound<'_>, settings: &ClientTLSSettings, upstream: &mut Upstream) {
    let unverified = settings.insecure_skip_verify == Some(true);
    upstream.name_of_request = settings.sni.is_empty();
    let unnamed = upstream.name_of_request && settings.subject_alt_names.is_empty();
    upstream.verify_name_of_request = (wanted.dynamic || unnamed) && !unverified;
    upstream.insecure = wanted.dynamic && !(upstream.name_of_request && upstream.verify_name_of_request);
}

/// Tells endpoints apart where they do not all take the same.
fn arrange(
    wanted: &Outbound<'_>,
    mode: Mode,
    automatic: bool,
    socket: Option<TransportSocket>,
    upstream: &mut Upstream,
) {
    upstream.matches = match socket {
        _ if wanted.original_destination => {
            upstream.socket = socket;
            return;
        }
        Some(socket) if automatic => {
            let mut matches = vec![
                by_label("tlsMode-istio", &[("tlsMode", "istio")], socket),
                by_label("tlsMode-disabled", &[], plain_socket()),
            ];
            if wanted.tunnels {
                matches.insert(0, through_tunnel(plain_socket()));
            }
            matches
        }
        Some(socket) if wanted.tunnels && mode == Mode::IstioMutual => vec![
            through_tunnel(plain_socket()),
            TransportSocketMatch {
                r#match: None,
                ..by_label("tlsMode-istio", &[], socket)
            },
        ],
        // The host is to see this TLS, so it goes inside the tunnel.
        Some(socket) if wanted.tunnels => vec![
            through_tunnel(socket.clone()),
            TransportSocketMatch {
                r#match: None,
                ..by_label("user", &[], socket)
            },
        ],
        None if wanted.tunnels => tunnel_or_plain(),
        socket => {
            upstream.socket = socket;
            Vec::new()
        }
    };
}

fn tunnel_or_plain() -> Vec<TransportSocketMatch> {
    vec![
        through_tunnel(plain_socket()),
        by_label("tlsMode-disabled", &[], plain_socket()),
    ]
}

fn through_tunnel(inner: TransportSocket) -> TransportSocketMatch {
    by_label("hbone", &[("tunnel", "http")], tunnelled(inner))
}

fn by_label(name: &str, labels: &[(&str, &str)], socket: TransportSocket) -> TransportSocketMatch {
    let labels = labels.iter().map(|(key, value)| (*key, string_value(*value)));
    TransportSocketMatch {
        name: name.to_owned(),
        r#match: Some(match labels.len() {
            0 => Struct::default(),
            _ => structure(labels),
        }),
        transport_socket: Some(socket),
    }
}

/// The socket towards a listener inside the proxy, which makes the tunnel and needs to know where to.
pub fn tunnelled(inner: TransportSocket) -> TransportSocket {
    let host = || metadata_kind::Kind::Host(metadata_kind::Host::default());
    let passed = [
        (host(), "envoy.filters.listener.original_dst"),
        (metadata_kind::Kind::Cluster(metadata_kind::Cluster::default()), "istio"),
        (host(), "istio"),
    ];
    let transport = InternalUpstreamTransport {
        passthrough_metadata: passed
            .into_iter()
            .map(|(kind, name)| MetadataValueSource {
                kind: Some(MetadataKind { kind: Some(kind) }),
                name: name.to_owned(),
            })
            .collect(),
        transport_socket: Some(inner),
    };
    socket("envoy.transport_sockets.internal_upstream", any(&transport))
}

/// Starts tunnels of the mesh, towards identities that begin so.
pub fn tunnel_outbound(identity_prefixes: &[String]) -> UpstreamTlsContext {
    let names = identity_prefixes.iter().map(|prefix| super::identity_prefix(prefix));
    UpstreamTlsContext {
        common_tls_context: Some(tunnel(names.collect())),
        ..UpstreamTlsContext::default()
    }
}
