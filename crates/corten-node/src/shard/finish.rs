//! The end of a flow: sockets closed, streams ended, counters and log told, and the same for what never became one.

use std::net::SocketAddr;

use super::Shard;
use super::flow::{Direction, End, Flow, Phase};
use super::poll::Slot;
use super::sockets::close_with_reset;
use crate::telemetry::access::Level;
use crate::telemetry::failure::{Failure, Flag};
use crate::telemetry::series::{Parties, Reporter};

impl Shard {
    /// Ends a flow, in good order or by a failure.
    pub(super) fn finish(&mut self, slot: Slot, failure: Option<Failure>) {
        let Some(mut flow) = self.flows.remove(slot) else {
            return;
        };
        if flow.phase != Phase::Copying {
            self.young = self.young.saturating_sub(1);
        }
        let failure = failure.as_ref();
        self.account_close(&mut flow, failure);
        self.log_close(&flow, failure);
        let inbound = flow.direction != Direction::Outbound;
        let ends = [
            std::mem::replace(&mut flow.caller, End::Absent),
            std::mem::replace(&mut flow.callee, End::Absent),
        ];
        for end in ends {
            match end {
                End::Absent => {}
                End::Socket(leg) => {
                    if failure.is_some() && flow.phase == Phase::Copying {
                        // What was cut off must not look complete.
                        close_with_reset(leg.fd());
                    }
                    self.account_buffer(flow.pod, leg.pending.len(), 0);
                    drop(leg);
                    self.socket_gone(flow.pod, !inbound);
                }
                End::Stream(end) => {
                    let done = end.eof && end.shut;
                    // A refusal has been answered already: the stream ends with that, and the peer is told not to send on.
                    let reason = if end.shut && !end.eof && failure.is_some() && flow.phase != Phase::Copying {
                        corten_hbone::h2::Reason::NO_ERROR
                    } else {
                        Self::reset_reason(failure)
                    };
                    self.drop_stream(slot, end.tunnel, end.stream, (!done).then_some(reason));
                }
            }
        }
        if let Some(pod) = self.pods.get_mut(flow.pod) {
            pod.flows = pod.flows.saturating_sub(1);
        }
        self.leave_if_done(flow.pod);
    }

    /// One socket of a pod is gone; a listener that waits for that goes on.
    pub(super) fn socket_gone(&mut self, pod_slot: Slot, source: bool) {
        self.common.metrics.sockets_open[usize::from(!source)].add(-1);
        let Some(pod) = self.pods.get_mut(pod_slot) else { return };
        let open = &mut pod.connections[usize::from(!source)];
        *open = open.saturating_sub(1);
        if self.paused > 0 {
            self.resume_listeners(pod_slot);
        }
    }

    fn series_of(&mut self, flow: &Flow, flag: Flag) -> std::sync::Arc<crate::telemetry::series::Series> {
        let about = &flow.about;
        let secure = about.peer_identity.is_some();
        let outbound = flow.direction == Direction::Outbound;
        let baggage = about.baggage.as_deref();
        let source_identity = match outbound {
            true => about.source_workload.as_ref().map(|workload| &workload.identity),
            false => about.peer_identity.as_ref(),
        };
        let parties = Parties {
            reporter: if outbound {
                Reporter::Source
            } else {
                Reporter::Destination
            },
            source: about.source_workload.as_ref(),
            source_baggage: baggage.filter(|_| !outbound && about.source_workload.is_none()),
            source_identity: source_identity.filter(|_| secure),
            destination: about.destination_workload.as_ref(),
            destination_baggage: baggage.filter(|_| outbound && about.destination_workload.is_none()),
            service: about.service.as_ref(),
            secure,
        };
        self.series.series(&parties, flag)
    }

    /// Bytes begin to pass.
    pub(super) fn account_open(&mut self, slot: Slot) {
        let Some(flow) = self.flows.remove_for_now(slot) else {
            return;
        };
        let mut flow = flow;
        let series = self.series_of(&flow, Flag::None);
        series.open();
        flow.about.opened = true;
        flow.about.series = Some(series);
        if self.common.access.wants(Level::Debug) {
            self.log(&flow, Level::Debug, "connection opened", None);
        }
        self.flows.put_back(slot, flow);
    }

    /// Tells the counters what has passed since they were told last.
    pub(super) fn count_bytes(flow: &mut Flow) {
        if let Some(series) = &flow.about.series {
            let (forth, back) = flow.counted;
            series.add(flow.forth - forth, flow.back - back);
            flow.counted = (flow.forth, flow.back);
        }
    }

    fn account_close(&mut self, flow: &mut Flow, failure: Option<&Failure>) {
        let Some(failure) = failure else {
            Self::count_bytes(flow);
            if let Some(series) = &flow.about.series {
                series.close(false);
            }
            return;
        };
        Self::count_bytes(flow);
        if flow.about.series.is_none() {
            // It was opened, as far as the caller can tell.
            self.series_of(flow, Flag::None).open();
        }
        self.series_of(flow, failure.flag).close(true);
    }

    fn log_close(&mut self, flow: &Flow, failure: Option<&Failure>) {
        let level = if failure.is_some() { Level::Error } else { Level::Info };
        if self.common.access.wants(level) {
            self.log(flow, level, "connection complete", failure);
        }
    }

    fn log(&mut self, flow: &Flow, level: Level, message: &str, failure: Option<&Failure>) {
        let about = &flow.about;
        let mut line = self.common.access.line(&mut self.lines, level, message);
        let outbound = flow.direction == Direction::Outbound;
        let baggage = about.baggage.as_deref();
        line.plain("src.addr", about.source);
        match (&about.source_workload, baggage.filter(|_| !outbound)) {
            (Some(workload), _) => {
                line.quoted("src.workload", &workload.name)
                    .quoted("src.namespace", &workload.namespace);
            }
            (None, Some(said)) => {
                line.maybe("src.workload", said.service.as_deref());
                line.maybe("src.namespace", said.namespace.as_deref());
            }
            (None, None) => {}
        }
        if about.peer_identity.is_some() {
            let identity = match outbound {
                true => about
                    .source_workload
                    .as_ref()
                    .map(|workload| workload.identity.to_string()),
                false => about.peer_identity.as_ref().map(ToString::to_string),
            };
            line.maybe("src.identity", identity.as_deref());
        }
        line.maybe(
            "src.cluster",
            about.source_workload.as_ref().map(|workload| &*workload.cluster),
        );
        let destination = if outbound {
            about.next_hop.unwrap_or(about.destination)
        } else {
            about.destination
        };
        line.plain("dst.addr", destination);
        if let Some(authority) = about.authority.as_deref().filter(|authority| !authority.is_empty()) {
            match authority.parse::<SocketAddr>() {
                Ok(address) => line.plain("dst.hbone_addr", address),
                // The words of a peer.
                Err(_) => line.quoted("dst.hbone_addr", authority),
            };
        }
        line.maybe("dst.service", about.service.as_ref().map(|service| &*service.hostname));
        if let Some(workload) = &about.destination_workload {
            line.quoted("dst.workload", &workload.name)
                .quoted("dst.namespace", &workload.namespace);
            if about.peer_identity.is_some() {
                let identity = match outbound {
                    true => about.peer_identity.as_ref().map(ToString::to_string),
                    false => Some(workload.identity.to_string()),
                };
                line.maybe("dst.identity", identity.as_deref());
            }
            line.maybe("dst.cluster", Some(&*workload.cluster));
        }
        // Bytes as the pod sees them: what it has sent, what it has got.
        let (sent, received) = if outbound {
            (flow.forth, flow.back)
        } else {
            (flow.back, flow.forth)
        };
        line.quoted("direction", if outbound { "outbound" } else { "inbound" });
        if message != "connection opened" {
            line.number("bytes_sent", sent).number("bytes_recv", received);
            let duration = self.now.saturating_duration_since(about.started).as_millis();
            line.quoted("duration", &format!("{duration}ms"));
        }
        if let Some(failure) = failure {
            line.quoted("error", &failure.text);
            line.quoted("reason", failure.code.as_str())
                .quoted("side", failure.side.as_str());
            line.maybe("policy", failure.policy.as_deref());
        }
        line.end();
    }

    /// A call to a pod that failed before there was a flow.
    pub(super) fn early_failure(&mut self, pod: Slot, source: SocketAddr, destination: SocketAddr, failure: &Failure) {
        let network = &self.common.config.network;
        let known = self.pods.get(pod);
        let parties = Parties {
            reporter: Reporter::Destination,
            source: self.tables.workload_at(network, source.ip()),
            source_baggage: None,
            source_identity: None,
            destination: known.and_then(|pod| pod.workload.as_ref()),
            destination_baggage: None,
            service: None,
            secure: false,
        };
        self.series.series(&parties, failure.flag).refuse();
        if !self.common.access.wants(Level::Warn) {
            return;
        }
        let mut line = self
            .common
            .access
            .line(&mut self.lines, Level::Warn, "connection failed");
        line.plain("src.addr", source).plain("dst.addr", destination);
        line.quoted("direction", "inbound");
        line.quoted("error", &failure.text);
        line.quoted("reason", failure.code.as_str())
            .quoted("side", failure.side.as_str());
        line.end();
    }
}
