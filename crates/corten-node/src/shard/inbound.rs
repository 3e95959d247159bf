//! A connection that enters a pod: accept, validate, authorize, dial, answer. Through a tunnel, or without one.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use corten_hbone::Tunnel as Hbone;
use corten_hbone::h2::{Reason, Settings, StreamId};
use corten_identity::{Bundle, Priority};
use corten_traffic::Peer;

use super::Shard;
use super::flow::{About, Direction, End, Leg, Phase, StreamEnd};
use super::outbound::WORKLOAD_TIMEOUT;
use super::pod::WaitingCaller;
use super::poll::{Slot, Token};
use super::sockets::{connect_outcome, local_address, original_destination};
use super::tunnel::{Head, Owner, Stage, Transport, Tunnel};
use crate::telemetry::failure::{Code, Failure, Flag, Side};

/// Characters of what a peer asks for that are kept for the log.
const AUTHORITY_SHOWN: usize = 300;

impl Shard {
    /// Accept: somebody opens a tunnel to a pod.
    pub(super) fn accept_tunnel(&mut self, pod_slot: Slot, socket: OwnedFd, peer: SocketAddr, transparent: bool) {
        let Some(pod) = self.pods.get_mut(pod_slot) else { return };
        let identity = pod.workload.as_ref().map(|workload| workload.identity.clone());
        let bundle = identity
            .as_ref()
            .and_then(|identity| self.common.identities.current(identity));
        if let Some(bundle) = bundle {
            return self.serve_caller(pod_slot, socket, peer, transparent, &bundle);
        }
        if let Some(identity) = identity {
            self.common.identities.want(&identity, Priority::RealTime);
        }
        pod.callers.push(WaitingCaller {
            socket,
            peer,
            deadline: self.now + WORKLOAD_TIMEOUT,
            transparent,
        });
        self.young += 1;
    }

    fn serve_caller(&mut self, pod: Slot, socket: OwnedFd, peer: SocketAddr, transparent: bool, bundle: &Bundle) {
        let local = match local_address(socket.as_fd()) {
            Ok(local) => local,
            Err(_) => return self.socket_gone(pod, false),
        };
        let hbone = match Hbone::server(&bundle.server_config(), self.server_settings()) {
            Ok(hbone) => hbone,
            Err(error) => {
                let failure = Failure::new(Flag::Tls, Code::TlsHandshake, Side::ServerProxy, error.to_string());
                self.early_failure(pod, peer, local, &failure);
                return self.socket_gone(pod, false);
            }
        };
        let mut tunnel = Tunnel::new(
            pod,
            None,
            hbone,
            Transport::Socket(socket),
            Stage::Handshaking,
            (peer, local),
            self.now,
        );
        tunnel.transparent = transparent;
        let slot = self.tunnels.insert(tunnel);
        if let Some(fd) = self.tunnels.get(slot).and_then(|tunnel| tunnel.fd())
            && let Err(error) = self.poll.watch(fd, Token::Tunnel(slot))
        {
            let failure = Failure::connect(&error, peer, Side::ServerProxy);
            return self.lose_tunnel(slot, &failure);
        }
        self.expect_name(pod, slot);
    }

    /// Those who have not said who they are give way to newer callers when they are too many: a handshake takes its time only for who does not
    /// mean it.
    fn expect_name(&mut self, pod: Slot, tunnel: Slot) {
        let limit = self.common.config.limits.handshakes_max;
        let Some(known) = self.pods.get_mut(pod) else { return };
        known.handshakes.push_back(tunnel);
        if known.handshakes.len() <= limit {
            return;
        }
        // Most have said it since.
        let mut waiting = std::mem::take(&mut known.handshakes);
        waiting.retain(|slot| {
            self.tunnels
                .get(*slot)
                .is_some_and(|tunnel| tunnel.stage == Stage::Handshaking)
        });
        let late = if waiting.len() > limit {
            waiting.pop_front()
        } else {
            None
        };
        if let Some(known) = self.pods.get_mut(pod) {
            known.handshakes = waiting;
        }
        if let Some(late) = late {
            let text = format!("the tls handshake was not completed, and {limit} newer callers wait for theirs");
            self.lose_tunnel(late, &Failure::new(Flag::Tls, Code::Limit, Side::ClientProxy, text));
        }
    }

    fn server_settings(&self) -> Settings {
        let how = &self.common.config.connections;
        Settings {
            stream_window_max: how.stream_window,
            stream_window: Settings::server().stream_window.min(how.stream_window),
            connection_window: how.connection_window,
            frame_size_max: how.frame_size,
            ..Settings::server()
        }
    }

    /// Callers that came before the pod's certificate may be served now.
    pub(super) fn retry_callers(&mut self, pod_slot: Slot) {
        let Some(pod) = self.pods.get_mut(pod_slot) else { return };
        let identity = pod.workload.as_ref().map(|workload| workload.identity.clone());
        let Some(bundle) = identity.and_then(|identity| self.common.identities.current(&identity)) else {
            return;
        };
        let callers = std::mem::take(&mut pod.callers);
        self.young = self.young.saturating_sub(callers.len());
        for caller in callers {
            self.serve_caller(pod_slot, caller.socket, caller.peer, caller.transparent, &bundle);
        }
    }

    /// Validate, authorize, dial: a request in a tunnel.
    pub(super) fn request(&mut self, slot: Slot, stream: StreamId, head: Head) {
        let Some(tunnel) = self.tunnels.get_mut(slot) else {
            return;
        };
        let (pod_slot, peer, local, transparent) = (tunnel.pod, tunnel.peer, tunnel.local, tunnel.transparent);
        let mut about = About::new(peer, local, self.now);
        about.peer_identity = tunnel.peer_identity.clone();
        about.baggage = head.baggage;
        about.forwarded_host = head.forwarded_host;
        // Longer than any name: it is only for the log.
        about.authority = Some(head.authority.chars().take(AUTHORITY_SHOWN).collect());
        about.transparent = transparent;
        let limits = self.common.config.limits;
        let full = self
            .pods
            .get(pod_slot)
            .is_none_or(|pod| pod.flows >= limits.streams_max);
        let caller = End::Stream(StreamEnd {
            tunnel: slot,
            stream,
            eof: false,
            shut: false,
        });
        let Some(flow_slot) = self.open_flow(pod_slot, Direction::InboundTunnel, caller, about) else {
            return;
        };
        if let Some(tunnel) = self.tunnels.get_mut(slot) {
            tunnel.set_owner(stream, Owner::Flow(flow_slot));
        }
        if full {
            let text = format!("the pod has {} connections, as many as it may", limits.streams_max);
            return self.refuse(
                flow_slot,
                503,
                Failure::new(Flag::Connect, Code::Limit, Side::ServerProxy, text),
            );
        }
        if !head.connect {
            let failure = Failure::new(
                Flag::Connect,
                Code::BadRequest,
                Side::ClientProxy,
                "the method is not CONNECT",
            );
            return self.refuse(flow_slot, 400, failure);
        }
        let Some(workload) = self.pods.get(pod_slot).and_then(|pod| pod.workload.clone()) else {
            let failure = Failure::new(
                Flag::Connect,
                Code::WorkloadUnknown,
                Side::ServerProxy,
                "unknown workload",
            );
            return self.refuse(flow_slot, 503, failure);
        };
        let target = self
            .tables
            .inbound(&self.common.traffic, &workload, local, &head.authority);
        let Some(flow) = self.flows.get_mut(flow_slot) else {
            return;
        };
        let about = &mut flow.about;
        // Another network's addresses may be ours, too; who calls from there is known by what it says only.
        let own_network = &self.common.config.network;
        if head
            .network
            .is_none_or(|network| network.eq_ignore_ascii_case(own_network))
        {
            about.source_workload = self.tables.workload_at(own_network, peer.ip()).cloned();
        }
        about.destination_workload = Some(workload.clone());
        about.service = about
            .forwarded_host
            .as_deref()
            .and_then(|host| self.tables.intended_service(&workload, host))
            .cloned();
        match target {
            Ok(target) => {
                about.service = about.service.take().or_else(|| target.service.clone());
                about.target = Some(Box::new(target));
                self.admit(flow_slot);
            }
            Err(error) => {
                let status = error.status();
                let (code, side) = match status {
                    400 => (Code::BadRequest, Side::ClientProxy),
                    _ => (Code::NoEndpoint, Side::ServerProxy),
                };
                self.refuse(
                    flow_slot,
                    status,
                    Failure::new(Flag::Connect, code, side, error.to_string()),
                );
            }
        }
    }

    /// Accept: somebody connects to a pod without a tunnel.
    pub(super) fn accept_plain(&mut self, pod_slot: Slot, socket: OwnedFd, peer: SocketAddr, transparent: bool) {
        let destination = match original_destination(socket.as_fd()) {
            Ok(destination) => destination,
            Err(_) => return self.socket_gone(pod_slot, false),
        };
        if self.common.config.illegal_port(destination.port()) {
            let text = format!("attempted recursive call to ourselves: {destination} is a port of this proxy");
            let failure = Failure::new(Flag::Connect, Code::SelfCall, Side::ClientApp, text);
            self.early_failure(pod_slot, peer, destination, &failure);
            return self.socket_gone(pod_slot, false);
        }
        let mut about = About::new(peer, destination, self.now);
        about.transparent = transparent;
        let caller = End::Socket(Leg::new(socket));
        if let Some(flow) = self.open_flow(pod_slot, Direction::InboundPlain, caller, about) {
            self.receive_plain(flow);
        }
    }

    /// Goes on with a plain connection once the pod is known.
    pub(super) fn receive_plain(&mut self, slot: Slot) {
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let Some(pod) = self.pods.get_mut(flow.pod) else { return };
        let Some(workload) = pod.workload.clone() else {
            flow.phase = Phase::AwaitWorkload;
            flow.about.deadline = self.now + WORKLOAD_TIMEOUT;
            pod.waiting.push(slot);
            return;
        };
        let network = &self.common.config.network;
        flow.about.source_workload = self.tables.workload_at(network, flow.about.source.ip()).cloned();
        flow.about.destination_workload = Some(workload);
        self.admit(slot);
    }

    /// Authorize, and dial what may be called.
    fn admit(&mut self, slot: Slot) {
        if let Some(failure) = self.forbidden(slot) {
            return self.refuse(slot, 401, failure);
        }
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let about = &flow.about;
        let (connect, destination, loopback) = match &about.target {
            Some(target) => (target.connect, target.destination, target.connect.ip().is_loopback()),
            None => (
                about.destination,
                about.destination,
                about.destination.ip().is_loopback(),
            ),
        };
        let source = about.source.ip();
        let spoof = about.transparent && source != destination.ip() && !loopback;
        flow.about.next_hop = Some(destination);
        self.dial(slot, connect, spoof.then_some(source));
    }

    /// What forbids a connection to a pod, if anything does.
    pub(super) fn forbidden(&mut self, slot: Slot) -> Option<Failure> {
        let flow = self.flows.get_mut(slot)?;
        let pod = self.pods.get(flow.pod)?;
        let workload = pod.workload.as_ref()?;
        let about = &mut flow.about;
        let destination = about
            .next_hop
            .or_else(|| about.target.as_ref().map(|target| target.destination));
        let peer = Peer {
            source: about.source.ip(),
            identity: about
                .peer_identity
                .as_deref()
                .filter(|_| flow.direction == Direction::InboundTunnel),
            destination: destination.unwrap_or(about.destination),
        };
        let verdict = self.tables.authorize(workload, &peer);
        let policy = verdict.reason.policy();
        if self.common.config.authz_info_logging || !verdict.dry_run.is_empty() {
            let allowed = verdict.allowed;
            let (reason, dry_run) = (&verdict.reason, &verdict.dry_run);
            tracing::info!(target: "rbac", src = %about.source, dst = %peer.destination, allowed, %reason, ?dry_run, "authorization");
        }
        if verdict.allowed {
            about.allowed_by = policy.cloned();
            return None;
        }
        let text = format!("connection closed due to policy rejection: {}", verdict.reason);
        let failure = Failure::new(Flag::Deny, Code::PolicyDenied, Side::ServerProxy, text);
        Some(failure.by_policy(policy))
    }

    /// Answers a request that goes no further, or closes a plain connection.
    fn refuse(&mut self, slot: Slot, status: u16, failure: Failure) {
        self.respond(slot, status);
        self.finish(slot, Some(failure));
    }

    /// Tells the peer's proxy how it stands with its request.
    pub(super) fn respond(&mut self, slot: Slot, status: u16) {
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let End::Stream(end) = &mut flow.caller else { return };
        let (tunnel_slot, stream) = (end.tunnel, end.stream);
        let Some(tunnel) = self.tunnels.get_mut(tunnel_slot) else {
            return;
        };
        let ok = status == 200;
        end.shut |= !ok;
        let baggage = self.pods.get(flow.pod).map(|pod| pod.baggage.clone());
        let described = baggage.filter(|_| ok && self.common.config.response_baggage);
        let headers: Vec<(&str, &[u8])> = described.iter().map(|text| ("baggage", text.as_bytes())).collect();
        tunnel.hbone.h2().respond(stream, status, &headers, !ok);
        self.touch(tunnel_slot);
    }

    /// The connection to the called side has come about, or has failed.
    pub(super) fn advance(&mut self, slot: Slot) {
        let Some(flow) = self.flows.get_mut(slot) else { return };
        match flow.phase {
            Phase::Copying => self.pump(slot),
            Phase::Connecting => {
                let Some(leg) = flow.callee.leg() else { return };
                if !leg.writable {
                    return;
                }
                match connect_outcome(leg.fd()) {
                    Ok(()) => self.connected(slot),
                    Err(error) => {
                        let inbound = flow.direction != Direction::Outbound;
                        let side = if inbound { Side::ServerApp } else { Side::Network };
                        let to = flow.about.next_hop.unwrap_or(flow.about.destination);
                        self.refuse(slot, 503, Failure::connect(&error, to, side));
                    }
                }
            }
            // The caller has gone before it was let through.
            _ => {
                if let Some(leg) = flow.caller.leg()
                    && leg.broken
                {
                    let text = "the caller hung up before it was connected";
                    let failure = Failure::new(Flag::Connect, Code::ConnectionReset, Side::ClientApp, text);
                    self.finish(slot, Some(failure));
                }
            }
        }
    }

    /// Answer: the application is there.
    pub(super) fn connected(&mut self, slot: Slot) {
        let Some(flow) = self.flows.get_mut(slot) else { return };
        if flow.direction == Direction::InboundTunnel {
            // What changed while the application was dialled counts, too.
            if let Some(failure) = self.forbidden(slot) {
                return self.refuse(slot, 401, failure);
            }
            self.respond(slot, 200);
            self.introduce(slot);
        }
        self.established(slot);
    }

    /// The PROXY header, for applications that want one.
    fn introduce(&mut self, slot: Slot) {
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let about = &mut flow.about;
        let Some(destination) = about.target.as_ref().and_then(|target| target.proxy_header) else {
            return;
        };
        let mut header = corten_traffic::proxy_header(about.source, destination, about.peer_identity.as_deref());
        header.append(&mut about.early);
        about.early = header;
    }

    /// Ends a stream as far as the peer is concerned: the reason follows from why the flow ends.
    pub(super) fn reset_reason(failure: Option<&Failure>) -> Reason {
        match failure.map(|failure| failure.code) {
            None => Reason::NO_ERROR,
            Some(Code::ConnectionReset | Code::ConnectFailed) => Reason::CONNECT_ERROR,
            Some(_) => Reason::INTERNAL_ERROR,
        }
    }
}
