//! HTTP towards a host: which version is spoken, and how.

use corten_core::Protocol;
use corten_envoy::{
    any,
    envoy::{
        config::core::v3::{
            Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as Common, TypedExtensionConfig,
            UpstreamHttpProtocolOptions,
            http1_protocol_options::{HeaderKeyFormat, header_key_format::HeaderFormat},
        },
        extensions::{
            http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig,
            upstreams::http::v3::{
                HttpProtocolOptions,
                http_protocol_options::{
                    ExplicitHttpConfig, OutlierDetection, UpstreamProtocolOptions, UseDownstreamHttpConfig,
                    explicit_http_config::ProtocolConfig,
                },
            },
        },
    },
    google::protobuf::Any,
};
use corten_routing::ProxyKind;

use crate::{Context, route};

/// The key of these options in a cluster.
pub(super) const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// What is known about HTTP towards a host; nothing at all: Envoy's own ideas of HTTP/1.1.
#[derive(Debug, Default)]
pub(super) struct Http {
    pub(super) common: Option<Common>,
    pub(super) speaks: Speaks,
    pub(super) upstream: Option<UpstreamHttpProtocolOptions>,
    pub(super) outliers: Option<OutlierDetection>,
}

/// The version that is spoken.
#[derive(Debug, Default)]
pub(super) enum Speaks {
    /// Nobody said.
    #[default]
    Unsaid,
    /// HTTP/1.1.
    One(Box<Http1ProtocolOptions>),
    /// HTTP/2.
    Two(Box<Http2ProtocolOptions>),
    /// What the client speaks.
    AsClient(Box<Http1ProtocolOptions>),
}

impl Http {
    /// As a port's protocol has it.
    pub(super) fn of_port(cx: &Context<'_>, protocol: Protocol) -> Http {
        let unknown = protocol == Protocol::Unsupported;
        let keeps_case = (protocol.is_http() || unknown) && keeps_case(cx);
        // A gateway's clients agree on HTTP/2 with the gateway, which says nothing about the host.
        let speaks = if protocol.is_http2() {
            Speaks::Two(Box::default())
        } else if unknown && cx.proxy.kind != ProxyKind::Router {
            Speaks::AsClient(Box::new(one(keeps_case)))
        } else if keeps_case {
            Speaks::One(Box::new(one(true)))
        } else {
            Speaks::Unsaid
        };
        Http {
            speaks,
            ..Http::default()
        }
    }

    /// As the client's, whatever that is: for hosts of which nothing is known.
    pub(super) fn of_unknown(cx: &Context<'_>) -> Http {
        Http {
            common: Some(Common {
                idle_timeout: Some(corten_envoy::seconds(300)),
                ..Common::default()
            }),
            speaks: Speaks::AsClient(Box::new(one(keeps_case(cx)))),
            ..Http::default()
        }
    }

    /// Becomes HTTP/2 where nothing else has been said.
    pub(super) fn upgrade(&mut self) {
        if matches!(self.speaks, Speaks::Unsaid) {
            self.speaks = Speaks::Two(Box::default());
        }
    }

    /// Becomes what the client speaks.
    pub(super) fn as_client(&mut self) {
        self.speaks = match std::mem::take(&mut self.speaks) {
            Speaks::One(options) | Speaks::AsClient(options) => Speaks::AsClient(options),
            Speaks::Unsaid | Speaks::Two(_) => Speaks::AsClient(Box::default()),
        };
    }

    /// Whether it is HTTP/2 in any case.
    pub(super) fn is_http2(&self) -> bool {
        matches!(self.speaks, Speaks::Two(_))
    }

    /// As a cluster carries it; `None`: there is nothing to say.
    pub(super) fn build(self) -> Option<Any> {
        let says = self.common.is_some() || self.upstream.is_some() || self.outliers.is_some();
        let explicit = |config| {
            UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
                protocol_config: Some(config),
            })
        };
        let speaks = match self.speaks {
            Speaks::Unsaid if !says => return None,
            Speaks::Unsaid => explicit(ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())),
            Speaks::One(options) => explicit(ProtocolConfig::HttpProtocolOptions(*options)),
            Speaks::Two(options) => explicit(ProtocolConfig::Http2ProtocolOptions(*options)),
            Speaks::AsClient(options) => {
                UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
                    http_protocol_options: Some(*options),
                    http2_protocol_options: Some(Http2ProtocolOptions::default()),
                    ..UseDownstreamHttpConfig::default()
                })
            }
        };
        Some(any(&HttpProtocolOptions {
            common_http_protocol_options: self.common,
            upstream_http_protocol_options: self.upstream,
            outlier_detection: self.outliers,
            upstream_protocol_options: Some(speaks),
            ..HttpProtocolOptions::default()
        }))
    }
}

fn one(keeps_case: bool) -> Http1ProtocolOptions {
    let format = keeps_case.then(|| HeaderKeyFormat {
        header_format: Some(HeaderFormat::StatefulFormatter(TypedExtensionConfig {
            name: "preserve_case".to_owned(),
            typed_config: Some(any(&PreserveCaseFormatterConfig::default())),
        })),
    });
    Http1ProtocolOptions {
        header_key_format: format,
        ..Http1ProtocolOptions::default()
    }
}

/// Whether names of headers keep the letters that the client wrote.
fn keeps_case(cx: &Context<'_>) -> bool {
    route::proxy_headers(cx).is_some_and(|headers| headers.preserve_http1_header_case == Some(true))
}

/// How names of headers are written; `None`: in small letters.
pub(crate) fn header_format(cx: &Context<'_>) -> Option<HeaderKeyFormat> {
    one(keeps_case(cx)).header_key_format
}
