//! A connection that leaves a pod: capture, route, reach, ask, established.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use corten_hbone::Tunnel as Hbone;
use corten_hbone::h2::{Settings, StreamId};
use corten_identity::{Priority, State};
use corten_traffic::{Connect, Expected, Outbound, OutboundError, Protocol};
use rustls::pki_types::{IpAddr as PkiIp, Ipv4Addr as PkiIpv4, ServerName};

use super::Shard;
use super::flow::{About, Direction, End, Flow, Leg, Phase, StreamEnd};
use super::mailbox::{Asker, Resolve};
use super::pod::PoolKey;
use super::poll::{Slot, Token};
use super::sockets::original_destination;
use super::tunnel::{Owner, Stage, Transport, Tunnel};
use crate::telemetry::baggage::{self, Baggage};
use crate::telemetry::failure::{Code, Failure, Flag, Side};

/// How long a connection waits for the control plane to tell of its pod.
pub(super) const WORKLOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection waits for a certificate.
pub(super) const CERTIFICATE_TIMEOUT: Duration = Duration::from_secs(10);

impl Shard {
    /// Capture: who calls, and whom.
    pub(super) fn capture(&mut self, pod: Slot, socket: OwnedFd, source: SocketAddr) {
        let destination = match original_destination(socket.as_fd()) {
            Ok(destination) => destination,
            // It is gone already.
            Err(_) => return self.socket_gone(pod, true),
        };
        let about = About::new(source, destination, self.now);
        let Some(slot) = self.open_flow(pod, Direction::Outbound, End::Socket(Leg::new(socket)), about) else {
            return;
        };
        self.route(slot);
    }

    /// Route: where that leads.
    pub(super) fn route(&mut self, slot: Slot) {
        let random = self.random();
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let Some(pod) = self.pods.get_mut(flow.pod) else { return };
        let Some(workload) = pod.workload.clone() else {
            flow.phase = Phase::AwaitWorkload;
            flow.about.deadline = self.now + WORKLOAD_TIMEOUT;
            pod.waiting.push(slot);
            return;
        };
        let call = Outbound {
            source: &workload,
            client: flow.about.source.ip(),
            destination: flow.about.destination,
            random,
        };
        let decided = self.tables.outbound(&self.common.traffic, &call);
        flow.about.source_workload = Some(workload.clone());
        let upstream = match decided {
            Ok(upstream) => upstream,
            Err(error) => return self.finish(slot, Some(misrouted(&error))),
        };
        flow.about.destination_workload = upstream.workload.clone();
        flow.about.service = upstream.service.clone();
        let connect = upstream.connect.clone();
        flow.about.upstream = Some(Box::new(upstream));
        match connect {
            Connect::Address(address) => self.reach(slot, address),
            Connect::Hostname {
                hostname, prefer_ipv6, ..
            } => {
                flow.phase = Phase::AwaitAddress;
                flow.about.deadline = self.now + self.common.config.connections.connect_timeout;
                let asker = Asker {
                    mailbox: self.mailbox.clone(),
                    flow: slot,
                };
                let question = Resolve {
                    hostname,
                    prefer_ipv6,
                    source: workload,
                    asker,
                };
                if self.common.resolver.try_send(question).is_err() {
                    let text = "too many names wait to be resolved";
                    self.finish(
                        slot,
                        Some(Failure::new(Flag::Connect, Code::Resolve, Side::ClientProxy, text)),
                    );
                }
            }
        }
    }

    /// The name that a connection leads to has been resolved, or not.
    pub(super) fn resolved(&mut self, slot: Slot, address: Result<IpAddr, String>) {
        let Some(flow) = self.flows.get_mut(slot) else { return };
        if flow.phase != Phase::AwaitAddress {
            return;
        }
        let port = match flow.about.upstream.as_ref().map(|upstream| &upstream.connect) {
            Some(Connect::Hostname { port, .. }) => *port,
            _ => return,
        };
        match address {
            Ok(address) => self.reach(slot, SocketAddr::new(address, port)),
            Err(error) => {
                let failure = Failure::new(Flag::Connect, Code::Resolve, Side::Network, error);
                self.finish(slot, Some(failure));
            }
        }
    }

    /// Reach: a connection of its own, or a tunnel.
    fn reach(&mut self, slot: Slot, to: SocketAddr) {
        let Some(flow) = self.flows.get_mut(slot) else { return };
        flow.about.next_hop = Some(to);
        let protocol = flow.about.upstream.as_ref().map(|upstream| upstream.protocol);
        match protocol {
            Some(Protocol::Tcp) | None => self.dial(slot, to, None),
            Some(Protocol::Hbone | Protocol::DoubleHbone) => self.reach_by_tunnel(slot),
        }
    }

    /// Finds a tunnel with room, waits for one, or makes one.
    pub(super) fn reach_by_tunnel(&mut self, slot: Slot) {
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let (Some(upstream), Some(to), Some(workload)) =
            (&flow.about.upstream, flow.about.next_hop, &flow.about.source_workload)
        else {
            return;
        };
        flow.about.authority.get_or_insert_with(|| {
            let authority = upstream.authority.as_ref().map(|authority| authority.text(to.ip()));
            authority.unwrap_or_default().into()
        });
        let key = PoolKey {
            source: workload.identity.clone(),
            expected: upstream.expected.clone(),
            destination: to,
            client: flow.about.source.ip(),
        };
        let pod_slot = flow.pod;
        let pooled = self.pods.get(pod_slot).and_then(|pod| pod.pool.get(&key));
        let limit = self.common.config.connections.pool_streams_max as usize;
        let mut coming = None;
        for &candidate in pooled.into_iter().flatten() {
            let Some(tunnel) = self.tunnels.get_mut(candidate) else {
                continue;
            };
            match tunnel.stage {
                Stage::Open if tunnel.used < limit && tunnel.hbone.h2().openable() > 0 => {
                    return self.ask(slot, candidate);
                }
                Stage::Connecting | Stage::Handshaking if tunnel.waiting.len() < limit => coming = Some(candidate),
                _ => {}
            }
        }
        let Some(flow) = self.flows.get_mut(slot) else { return };
        flow.phase = Phase::AwaitTunnel;
        flow.about.deadline = self.now + self.common.config.connections.connect_timeout + CERTIFICATE_TIMEOUT;
        if let Some(tunnel) = coming.and_then(|coming| self.tunnels.get_mut(coming)) {
            tunnel.waiting.push_back(slot);
            return;
        }
        self.make_tunnel(slot, pod_slot, key);
    }

    /// Makes a tunnel for a flow, and for those that come after it.
    fn make_tunnel(&mut self, slot: Slot, pod_slot: Slot, key: PoolKey) {
        let Some(bundle) = self.common.identities.current(&key.source) else {
            return self.await_certificate(slot, pod_slot, &key);
        };
        let tls = bundle.client_config(&key.expected.iter().cloned().collect::<Vec<_>>());
        let hbone = match Hbone::client(&tls, no_name(), self.client_settings()) {
            Ok(hbone) => hbone,
            Err(error) => {
                let failure = Failure::new(Flag::Tls, Code::TlsHandshake, Side::ClientProxy, error.to_string());
                return self.finish(slot, Some(failure));
            }
        };
        let to = key.destination;
        let how = &self.common.config.connections;
        let Some(pod) = self.pods.get_mut(pod_slot) else { return };
        let dialled = match self.sockets.dial(&pod.namespace, to, None, how) {
            Ok(dialled) => dialled,
            Err(error) => return self.finish(slot, Some(Failure::connect(&error, to, Side::Network))),
        };
        pod.connections[0] += 1;
        self.common.metrics.sockets_open[0].add(1);
        let transport = Transport::Socket(dialled.socket);
        let addresses = (to, to);
        let made = Tunnel::new(
            pod_slot,
            Some(key.clone()),
            hbone,
            transport,
            Stage::Connecting,
            addresses,
            self.now,
        );
        let tunnel = self.tunnels.insert(made);
        pod.pool.entry(key).or_default().push(tunnel);
        if let Some(made) = self.tunnels.get_mut(tunnel) {
            made.waiting.push_back(slot);
            if let Some(fd) = made.fd()
                && let Err(error) = self.poll.watch(fd, Token::Tunnel(tunnel))
            {
                let failure = Failure::connect(&error, to, Side::ClientProxy);
                self.lose_tunnel(tunnel, &failure);
            }
        }
    }

    fn await_certificate(&mut self, slot: Slot, pod_slot: Slot, key: &PoolKey) {
        if let State::Unavailable(reason) = self.common.identities.state(&key.source) {
            let text = format!("no certificate for {}: {reason}", key.source);
            let failure = Failure::new(Flag::Identity, Code::CertificateMissing, Side::ClientProxy, text);
            return self.finish(slot, Some(failure));
        }
        self.common.identities.want(&key.source, Priority::RealTime);
        let (Some(flow), Some(pod)) = (self.flows.get_mut(slot), self.pods.get_mut(pod_slot)) else {
            return;
        };
        flow.phase = Phase::AwaitCertificate;
        flow.about.deadline = self.now + CERTIFICATE_TIMEOUT;
        pod.waiting.push(slot);
    }

    pub(super) fn client_settings(&self) -> Settings {
        let how = &self.common.config.connections;
        Settings {
            assumed_streams_max: how.pool_streams_max,
            stream_window_max: how.stream_window,
            stream_window: Settings::client().stream_window.min(how.stream_window),
            connection_window: how.connection_window,
            frame_size_max: how.frame_size,
            ..Settings::client()
        }
    }

    /// Ask: a stream of the tunnel for this connection.
    pub(super) fn ask(&mut self, slot: Slot, tunnel_slot: Slot) {
        let (high, low, span) = (self.random(), self.random(), self.random());
        let trace = baggage::trace(u128::from(high) << 64 | u128::from(low), span);
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let (Some(tunnel), Some(pod)) = (self.tunnels.get_mut(tunnel_slot), self.pods.get(flow.pod)) else {
            return;
        };
        let about = &mut flow.about;
        let host = about.service.as_ref().map(|service| &*service.hostname);
        let forwarded = corten_traffic::forwarded(about.source, host);
        let mut headers: Vec<(&str, &[u8])> = vec![
            ("baggage", pod.baggage.as_bytes()),
            ("forwarded", forwarded.as_bytes()),
            ("traceparent", &trace),
        ];
        if about.inside {
            headers.push(("x-forwarded-network", self.common.config.network.as_bytes()));
        }
        let authority = about.authority.as_deref().unwrap_or_default();
        match tunnel.hbone.h2().connect(authority, &headers) {
            Ok(stream) => {
                tunnel.set_owner(stream, Owner::Flow(slot));
                tunnel.used_at = self.now;
                flow.phase = Phase::AwaitResponse;
                // The other side takes its time to reach the application, too.
                about.deadline = self.now + self.common.config.connections.connect_timeout * 2;
                if about.peer_identity.is_none() {
                    about.peer_identity = tunnel.peer_identity.clone();
                }
                flow.callee = End::Stream(StreamEnd {
                    tunnel: tunnel_slot,
                    stream,
                    eof: false,
                    shut: false,
                });
                self.touch(tunnel_slot);
            }
            Err(_) => {
                // There was room a moment ago; another one is found or made.
                self.retire(tunnel_slot);
                self.reach_by_tunnel(slot);
            }
        }
    }

    /// The next hop has answered.
    pub(super) fn response(&mut self, slot: Slot, stream: StreamId, status: u16, baggage: Option<Box<Baggage>>) {
        let Some(Owner::Flow(flow_slot)) = self.tunnels.get(slot).and_then(|tunnel| tunnel.owner(stream)) else {
            return;
        };
        let Some(flow) = self.flows.get_mut(flow_slot) else {
            return;
        };
        if flow.phase != Phase::AwaitResponse {
            return;
        }
        if status != 200 {
            let (side, code) = match status {
                503 => (Side::ServerApp, Code::Status(status)),
                _ => (Side::ServerProxy, Code::Status(status)),
            };
            let failure = Failure::new(Flag::Connect, code, side, format!("http status: {status}"));
            return self.finish(flow_slot, Some(failure));
        }
        let double = flow
            .about
            .upstream
            .as_ref()
            .is_some_and(|upstream| upstream.protocol == Protocol::DoubleHbone);
        if double && !flow.about.inside {
            return self.tunnel_inside(flow_slot, slot, stream);
        }
        if double {
            flow.about.baggage = baggage;
        }
        self.established(flow_slot);
    }

    /// The gateway of the other network has answered: through its stream goes a tunnel to the destination itself.
    fn tunnel_inside(&mut self, slot: Slot, outer: Slot, stream: StreamId) {
        let Some(flow) = self.flows.get_mut(slot) else { return };
        flow.about.inside = true;
        flow.callee = End::Absent;
        flow.phase = Phase::AwaitTunnel;
        let (Some(upstream), Some(workload), Some(to)) =
            (&flow.about.upstream, &flow.about.source_workload, flow.about.next_hop)
        else {
            return;
        };
        let expected: Expected = upstream.expected_inside.clone().unwrap_or_default();
        let (identity, pod, source) = (workload.identity.clone(), flow.pod, flow.about.source);
        let tls = self
            .common
            .identities
            .current(&identity)
            .map(|bundle| bundle.client_config(&expected.iter().cloned().collect::<Vec<_>>()));
        let made = tls.and_then(|tls| Hbone::client(&tls, no_name(), self.client_settings()).ok());
        let Some(hbone) = made else {
            let text = format!("no certificate for {identity}");
            let failure = Failure::new(Flag::Identity, Code::CertificateMissing, Side::ClientProxy, text);
            return self.finish(slot, Some(failure));
        };
        let key = PoolKey {
            source: identity,
            expected,
            destination: to,
            client: source.ip(),
        };
        let transport = Transport::Stream {
            tunnel: outer,
            stream,
            carry: Vec::new(),
        };
        let mut tunnel = Tunnel::new(
            pod,
            Some(key),
            hbone,
            transport,
            Stage::Handshaking,
            (to, source),
            self.now,
        );
        tunnel.waiting.push_back(slot);
        let inner = self.tunnels.insert(tunnel);
        if let Some(around) = self.tunnels.get_mut(outer) {
            around.set_owner(stream, Owner::Tunnel(inner));
        }
        self.touch(inner);
    }

    /// Established: bytes may pass.
    pub(super) fn established(&mut self, slot: Slot) {
        let Some(flow) = self.flows.get_mut(slot) else { return };
        flow.phase = Phase::Copying;
        self.young = self.young.saturating_sub(1);
        // Decisions have done their work.
        flow.about.target = None;
        flow.about.upstream = None;
        if let Some(leg) = flow.callee.leg()
            && !flow.about.early.is_empty()
        {
            let mut early = std::mem::take(&mut flow.about.early);
            early.append(&mut leg.pending);
            leg.pending = early;
        }
        let pod = flow.pod;
        self.account_open(slot);
        self.enqueue(pod, Token::Caller(slot));
    }

    /// Begins a TCP connection for a flow's called side.
    pub(super) fn dial(&mut self, slot: Slot, to: SocketAddr, source: Option<IpAddr>) {
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let Some(pod) = self.pods.get_mut(flow.pod) else { return };
        let inbound = flow.direction != Direction::Outbound;
        let side = if inbound { Side::ServerApp } else { Side::Network };
        let dialled = match self
            .sockets
            .dial(&pod.namespace, to, source, &self.common.config.connections)
        {
            Ok(dialled) => dialled,
            Err(error) => return self.finish(slot, Some(Failure::connect(&error, to, side))),
        };
        pod.connections[usize::from(inbound)] += 1;
        self.common.metrics.sockets_open[usize::from(inbound)].add(1);
        let leg = Leg::new(dialled.socket);
        let watched = self.poll.watch(leg.fd(), Token::Callee(slot));
        flow.callee = End::Socket(leg);
        flow.phase = Phase::Connecting;
        flow.about.deadline = self.now + self.common.config.connections.connect_timeout;
        if let Err(error) = watched {
            return self.finish(slot, Some(Failure::connect(&error, to, side)));
        }
        if dialled.connected {
            if let Some(leg) = flow.callee.leg() {
                leg.writable = true;
            }
            self.connected(slot);
        }
    }

    /// Counts and watches a new flow.
    pub(super) fn open_flow(
        &mut self,
        pod_slot: Slot,
        direction: Direction,
        caller: End,
        about: Box<About>,
    ) -> Option<Slot> {
        let pod = self.pods.get_mut(pod_slot)?;
        pod.flows += 1;
        self.young += 1;
        let slot = self.flows.insert(Flow {
            pod: pod_slot,
            direction,
            phase: Phase::AwaitWorkload,
            caller,
            callee: End::Absent,
            forth: 0,
            back: 0,
            counted: (0, 0),
            queued: false,
            about,
        });
        let flow = self.flows.get_mut(slot)?;
        if let End::Socket(leg) = &flow.caller
            && let Err(error) = self.poll.watch(leg.fd(), Token::Caller(slot))
        {
            let text = format!("cannot watch the connection: {error}");
            self.finish(
                slot,
                Some(Failure::new(
                    Flag::Connect,
                    Code::ConnectFailed,
                    Side::ClientProxy,
                    text,
                )),
            );
            return None;
        }
        Some(slot)
    }
}

/// Nothing is sent as a server name, and nothing is compared with it.
fn no_name() -> ServerName<'static> {
    ServerName::IpAddress(PkiIp::V4(PkiIpv4::from([0, 0, 0, 0])))
}

fn misrouted(error: &OutboundError) -> Failure {
    let (code, side) = match error {
        OutboundError::SelfCall(_) => (Code::SelfCall, Side::ClientApp),
        OutboundError::NoHealthyUpstream { .. } | OutboundError::NoValidDestination { .. } => {
            (Code::NoEndpoint, Side::ServerApp)
        }
        OutboundError::UnknownWaypoint { .. } | OutboundError::UnknownNetworkGateway { .. } => {
            (Code::NoGateway, Side::ServerProxy)
        }
    };
    Failure::new(Flag::Connect, code, side, error.to_string())
}
