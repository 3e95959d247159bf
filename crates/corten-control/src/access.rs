//! Who a client is, and whether it may be the node it says it is.
//!
//! On the TLS port a client proves itself by a certificate of the mesh or by a service account's token. In the clear nobody is asked,
//! as with istiod: that port is for places where the network is trusted, and gives out nothing secret.

use std::net::IpAddr;
use std::sync::Arc;

use corten_ca::{FORWARDED_CERTIFICATE, TrustedGateways};
use corten_core::Identity;
use corten_grpc::{Peer, Status};
use corten_identity::peer_identities;
use corten_proto::discovery::Node;
use corten_proto::value::Kind;
use corten_store_kube::{TokenReviewError, TokenReviewer};
use http::{HeaderMap, HeaderValue};
use tokio::sync::Semaphore;

/// Questions to the API server at once.
pub(crate) const REVIEWS_MAX: usize = 32;

/// Finds out who calls.
pub(crate) struct Access {
    /// Who is asked about tokens.
    pub(crate) reviewer: Arc<TokenReviewer>,
    /// The mesh's trust domain, which identities from tokens get.
    pub(crate) trust_domain: String,
    /// Questions to the API server at once. When all clients come back together, most wait here instead of there.
    pub(crate) reviews: Semaphore,
    /// Whose word is taken for who calls.
    pub(crate) gateways: TrustedGateways,
    /// Whether callers over TLS must prove themselves.
    pub(crate) required: bool,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

impl Access {
    /// The identities that the caller has proven. Empty: it did not have to prove any.
    pub(crate) async fn authenticate(&self, peer: &Peer, headers: &HeaderMap) -> Result<Vec<Identity>, Status> {
        if !peer.tls || !self.required {
            return Ok(Vec::new());
        }
        // The TLS layer has verified the chain.
        let shown = peer.certificates.first().map(peer_identities).unwrap_or_default();
        if !shown.is_empty() {
            return Ok(shown);
        }
        let Some(token) = bearer(headers) else {
            let said = headers.get_all(FORWARDED_CERTIFICATE).iter().map(HeaderValue::as_bytes);
            if let Some(told) = self.gateways.identity(peer.remote.ip(), said, &self.trust_domain) {
                return Ok(vec![told]);
            }
            return Err(Status::unauthenticated(
                "no client certificate of the mesh and no bearer token was shown",
            ));
        };
        let permit = self.reviews.acquire().await;
        let reviewed = self.reviewer.review(token).await;
        drop(permit);
        match reviewed {
            Ok(found) => Identity::new(&self.trust_domain, &found.namespace, &found.service_account)
                .map(|identity| vec![identity])
                .map_err(|error| Status::unauthenticated(error.to_string())),
            Err(error @ TokenReviewError::Unavailable(_)) => Err(Status::unavailable(error.to_string())),
            Err(error) => Err(Status::unauthenticated(error.to_string())),
        }
    }
}

/// A node's metadata as JSON.
pub(crate) fn metadata_json(metadata: &corten_proto::Struct) -> serde_json::Value {
    let members = metadata
        .fields
        .iter()
        .map(|(key, value)| (key.clone(), value_json(value.kind.as_ref())));
    serde_json::Value::Object(members.collect())
}

fn value_json(kind: Option<&Kind>) -> serde_json::Value {
    match kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(truth)) => (*truth).into(),
        Some(Kind::NumberValue(number)) => (*number).into(),
        Some(Kind::StringValue(text)) => text.as_str().into(),
        Some(Kind::ListValue(list)) => list
            .values
            .iter()
            .map(|value| value_json(value.kind.as_ref()))
            .collect(),
        Some(Kind::StructValue(members)) => metadata_json(members),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// What a client says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// The kind of proxy: `ztunnel`, `sidecar`, ...
    pub(crate) kind: String,
    /// Its address.
    pub(crate) ip: Option<IpAddr>,
    /// Its pod's name.
    pub(crate) name: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// The whole id.
    pub(crate) id: String,
    /// The Kubernetes node it is on.
    pub(crate) node: String,
    /// The cluster it is in.
    pub(crate) cluster: String,
    /// Its version.
    pub(crate) version: String,
}

/// The kinds of proxies there are.
const KINDS: [&str; 6] = ["sidecar", "router", "waypoint", "ztunnel", "agentgateway", TOOL];

/// What a tool of an operator calls itself, which only asks questions.
const TOOL: &str = "debug";

impl Proxy {
    /// Reads a node, and checks that one of the proven identities may be it. Without identities there is nothing to check.
    pub(crate) fn of(node: &Node, identities: &[Identity]) -> Result<Proxy, Status> {
        let invalid = |problem: &str| {
            let id: String = node.id.chars().take(200).collect();
            Status::invalid_argument(format!("node id '{}': {problem}", id.escape_debug()))
        };
        let parts: Vec<&str> = node.id.split('~').collect();
        let [kind, address, pod, domain] = parts.as_slice() else {
            return Err(invalid("it must have four parts, type~address~name.namespace~domain"));
        };
        if !KINDS.contains(kind) {
            return Err(invalid("its type is not known"));
        }
        let text = |key: &str| metadata(node, key).unwrap_or_default();
        let addresses: Vec<IpAddr> = text("INSTANCE_IPS")
            .split(',')
            .filter_map(|ip| ip.trim().parse().ok())
            .collect();
        let ip = addresses.first().copied().or_else(|| address.parse().ok());
        if ip.is_none() {
            return Err(invalid("it has no valid address"));
        }
        let namespace = match text("NAMESPACE") {
            "" => domain.split('.').next().unwrap_or_default(),
            namespace => namespace,
        };
        let account = text("SERVICE_ACCOUNT");
        let may_be = |identity: &Identity| {
            identity.namespace == namespace && (account.is_empty() || identity.service_account == account)
        };
        if !identities.is_empty() && !identities.iter().any(may_be) {
            let found: Vec<String> = identities.iter().map(ToString::to_string).collect();
            return Err(Status::permission_denied(format!(
                "{} may not be a proxy of namespace '{namespace}'",
                found.join(", ")
            )));
        }
        Ok(Proxy {
            kind: (*kind).to_owned(),
            ip,
            name: pod.strip_suffix(&format!(".{namespace}")).unwrap_or(pod).to_owned(),
            namespace: namespace.to_owned(),
            id: node.id.clone(),
            node: text("NODE_NAME").to_owned(),
            cluster: text("CLUSTER_ID").to_owned(),
            version: text("ISTIO_VERSION").to_owned(),
        })
    }

    /// Whether it is no proxy but a tool that asks questions.
    pub(crate) fn is_tool(&self) -> bool {
        self.kind == TOOL
    }

    /// `name.namespace`, as tools name proxies.
    pub(crate) fn short(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }
}

fn metadata<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    match node.metadata.as_ref()?.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use corten_proto::{Struct, Value};

    use super::*;

    fn node(id: &str, metadata: &[(&str, &str)]) -> Node {
        let value = |text: &str| Value {
            kind: Some(Kind::StringValue(text.to_owned())),
        };
        let fields = metadata.iter().map(|(key, text)| ((*key).to_owned(), value(text)));
        Node {
            id: id.to_owned(),
            metadata: Some(Struct {
                fields: fields.collect(),
            }),
            ..Node::default()
        }
    }

    #[track_caller]
    fn check(id: &str, metadata: &[(&str, &str)], identity: Option<&str>, expected: Result<&str, &str>) {
        let identities: Vec<Identity> = identity
            .into_iter()
            .map(|text| text.parse().expect("an identity"))
            .collect();
        let found = Proxy::of(&node(id, metadata), &identities);
        let found = found
            .as_ref()
            .map(|proxy| proxy.short())
            .map_err(|status| status.message());
        assert_eq!(found, expected.map(str::to_owned));
    }

    #[test]
    fn nodes_are_read_and_must_fit_the_identity() {
        let id = "ztunnel~10.0.0.1~ztunnel-x.istio-system~istio-system.svc.cluster.local";
        check(id, &[], None, Ok("ztunnel-x.istio-system"));
        check(
            id,
            &[],
            Some("spiffe://td/ns/istio-system/sa/ztunnel"),
            Ok("ztunnel-x.istio-system"),
        );
        let account = [("SERVICE_ACCOUNT", "ztunnel"), ("NAMESPACE", "istio-system")];
        check(
            id,
            &account,
            Some("spiffe://td/ns/istio-system/sa/ztunnel"),
            Ok("ztunnel-x.istio-system"),
        );
        check(
            id,
            &account,
            Some("spiffe://td/ns/istio-system/sa/other"),
            Err("spiffe://td/ns/istio-system/sa/other may not be a proxy of namespace 'istio-system'"),
        );
        check(
            id,
            &[],
            Some("spiffe://td/ns/payments/sa/ztunnel"),
            Err("spiffe://td/ns/payments/sa/ztunnel may not be a proxy of namespace 'istio-system'"),
        );
    }

    #[test]
    fn what_is_no_node_is_refused() {
        check(
            "ztunnel~10.0.0.1~x",
            &[],
            None,
            Err("node id 'ztunnel~10.0.0.1~x': it must have four parts, type~address~name.namespace~domain"),
        );
        check(
            "debug~0.0.0.0~istioctl~cluster.local",
            &[("NAMESPACE", "istio-system")],
            Some("spiffe://td/ns/istio-system/sa/istiod"),
            Ok("istioctl.istio-system"),
        );
        check(
            "toaster~1.1.1.1~a.b~b.svc",
            &[],
            None,
            Err("node id 'toaster~1.1.1.1~a.b~b.svc': its type is not known"),
        );
        check(
            "ztunnel~~a.b~b.svc",
            &[],
            None,
            Err("node id 'ztunnel~~a.b~b.svc': it has no valid address"),
        );
        check("ztunnel~~a.b~b.svc", &[("INSTANCE_IPS", "10.0.0.1")], None, Ok("a.b"));
    }
}
