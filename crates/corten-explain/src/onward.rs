//! From one proxy to the next: the call as it arrives where a hop sends it.

use std::net::SocketAddr;

use crate::trace::{Destination, EndpointShare, Hop};
use crate::{Call, Certificate, Entry, Protocol, Request, Tls};

/// The call that arrives at an endpoint of a destination of the hop, as the sidecar there sees it: redirected to port 15006. A call that was put
/// into a tunnel arrives at the socket that the tunnel leads to.
///
/// `certificate` is what the sending proxy shows when asked. `None`: the endpoint has no address, only a name, or is within the proxy itself.
pub fn onward(
    hop: &Hop,
    destination: &Destination,
    endpoint: &EndpointShare,
    certificate: Option<Certificate>,
) -> Option<Call> {
    let address: SocketAddr = endpoint.address.parse().ok()?;
    let transport = &endpoint.transport;
    // What was opened here goes on in the clear, or in the proxy's own TLS; what was not goes on as it came.
    let came = hop.call.tls.clone().filter(|_| hop.tls.is_none());
    let own = || match &*transport.mode {
        "tls" | "mtls" => Some(Tls {
            sni: transport.sni.clone(),
            alpn: transport.alpn.clone(),
            certificate: certificate.clone().filter(|_| transport.mode == "mtls"),
            accepts: None,
            mutual_only: false,
        }),
        _ => None,
    };
    let mut call = Call {
        entry: Entry::Redirected(15006),
        destination: address,
        source: hop.call.source,
        protocol: hop.call.protocol,
        tls: came.clone(),
        request: destination.request.clone().or_else(|| hop.call.request.clone()),
        inside: hop.call.inside.clone(),
        filter_state: std::collections::BTreeMap::new(),
        now: hop.call.now,
    };
    if let Some(authority) = &hop.tunnel {
        let inside = Call {
            destination: authority.parse().unwrap_or(address),
            ..call.clone()
        };
        let request = Request {
            method: "CONNECT".to_owned(),
            host: authority.clone(),
            path: String::new(),
            headers: Vec::new(),
        };
        call = Call {
            entry: Entry::Direct,
            protocol: Protocol::Http2,
            tls: own(),
            request: Some(request),
            inside: Some(Box::new(inside)),
            ..call
        };
        return Some(call);
    }
    // TLS in TLS is still what it was inside; only the outer one can be opened by the next proxy.
    call.tls = own().or(came);
    Some(call)
}
