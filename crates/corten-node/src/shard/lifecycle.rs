//! Commands, the once-a-second look at everything, and the end: of pods, and of the shard.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use corten_hbone::h2::Reason;

use super::flow::{Direction, End, Phase};
use super::mailbox::{Command, ConnectionView, PodView, Serve};
use super::poll::Slot;
use super::tunnel::Stage;
use super::{Draining, QUIET, Shard};
use crate::telemetry::failure::{Code, Failure, Flag, Side};

/// How long a shard that drains keeps its listeners after it has asked the kernel to give new connections to its successor: connections whose
/// handshake had begun before are still accepted.
const LISTEN_ON: Duration = Duration::from_secs(3);

/// While connections come there is no successor yet, which takes them all; it gets so long to come. Who deletes the proxy's pod, rather than
/// replacing it, has the next one only start then.
const LISTEN_MAX: Duration = Duration::from_secs(20);

impl Shard {
    /// Does what the control side says.
    pub(super) fn command(&mut self) {
        for command in self.mailbox.take() {
            match command {
                Command::AddPod {
                    uid,
                    info,
                    namespace,
                    serve,
                    done,
                } => {
                    let outcome = self.add_pod(uid, info, namespace, serve);
                    // Nobody waits for it any more when the process ends.
                    let _ = done.send(outcome);
                }
                Command::RemovePod { uid, done } => {
                    self.remove_pod(&uid);
                    let _ = done.send(());
                }
                Command::Tables => self.tables_changed(),
                Command::Certificates => self.certificates_changed(),
                Command::Resolved { flow, address } => self.resolved(flow, address),
                Command::Dump(answer) => {
                    let _ = answer.send(self.dump());
                }
                Command::Drain(deadline) => self.begin_drain(deadline),
            }
        }
    }

    /// A pod leaves the mesh, or ends: nothing new is accepted, and what is established goes on.
    fn remove_pod(&mut self, uid: &str) {
        let found = self.pods.iter().find(|(_, pod)| pod.uid == uid && !pod.leaving);
        let Some((slot, _)) = found else { return };
        self.close_listeners(slot);
        if let Some(pod) = self.pods.get_mut(slot) {
            pod.leaving = true;
        }
        self.say_goodbye(Some(slot));
        self.leave_if_done(slot);
    }

    /// Forgets a pod that is leaving once nothing of it is left.
    pub(super) fn leave_if_done(&mut self, slot: Slot) {
        let done = self
            .pods
            .get(slot)
            .is_some_and(|pod| pod.leaving && pod.flows == 0 && pod.connections == [0; 2] && pod.callers.is_empty());
        if !done {
            return;
        }
        let Some(pod) = self.pods.remove(slot) else { return };
        self.active.retain(|active| *active != slot);
        if let Some(workload) = &pod.workload {
            self.common.holds.release(&workload.identity, &self.common.identities);
        }
    }

    /// Tells the other ends of tunnels that no new streams are taken, and closes tunnels that have none.
    fn say_goodbye(&mut self, of: Option<Slot>) {
        for slot in self.tunnels.slots() {
            let Some(tunnel) = self.tunnels.get_mut(slot) else {
                continue;
            };
            if of.is_some_and(|pod| pod != tunnel.pod) || tunnel.stage != Stage::Open {
                continue;
            }
            if tunnel.key.is_none() {
                tunnel.hbone.h2().go_away(Reason::NO_ERROR);
                self.touch(slot);
            }
            self.retire(slot);
        }
    }

    fn begin_drain(&mut self, deadline: Duration) {
        if self.drain.is_some() {
            return;
        }
        let successor = 1;
        for slot in self.listeners.slots() {
            let Some(listener) = self.listeners.get(slot) else {
                continue;
            };
            // Where there is no successor the kernel goes on giving connections to this listener, and they are served.
            if let Err(error) = corten_linux::sockets::prefer_listener(&listener.socket, successor) {
                tracing::debug!(%error, "new connections cannot be given to a successor");
            }
        }
        self.drain = Some(Draining {
            close_listeners: self.now + LISTEN_ON.min(deadline / 2),
            listen_until: self.now + LISTEN_MAX.min(deadline / 2),
            deadline: self.now + deadline,
            listening: true,
        });
        self.say_goodbye(None);
    }

    /// A listener has been given a connection.
    pub(super) fn was_called(&mut self) {
        if let Some(drain) = &mut self.drain {
            drain.close_listeners = drain.listen_until.min(self.now + LISTEN_ON);
        }
    }

    /// Whether the shard has nothing left to do.
    pub(super) fn is_over(&mut self) -> bool {
        let Some(drain) = &self.drain else { return false };
        if self.now >= drain.deadline {
            let text = "the proxy ends and the time for connections to end by themselves is over";
            for slot in self.flows.slots() {
                let failure = Failure::new(Flag::None, Code::Shutdown, Side::ServerProxy, text);
                self.finish(slot, Some(failure));
            }
            for slot in self.tunnels.slots() {
                self.ended.push(slot);
            }
            self.reap();
            self.common.access.submit(&mut self.lines);
            return true;
        }
        !drain.listening && self.flows.len() == 0 && self.tunnels.len() == 0 && self.lingering.is_empty()
    }

    /// Once a second.
    pub(super) fn tick(&mut self) {
        self.next_tick = None;
        self.tick_tunnels();
        self.lingering.look(self.now);
        if self.young > 0 {
            self.give_up_late();
        }
        self.count();
        if self.paused > 0 {
            for slot in self.pods.slots() {
                self.resume_listeners(slot);
            }
        }
        if let Some(drain) = &mut self.drain
            && drain.listening
            && self.now >= drain.close_listeners
        {
            drain.listening = false;
            for slot in self.pods.slots() {
                self.close_listeners(slot);
            }
        }
        if self.drain.is_some() {
            self.say_goodbye(None);
        }
        let quiet = std::mem::take(&mut self.activity) <= QUIET;
        if quiet && !self.resting {
            self.rest();
        }
    }

    /// Nothing has happened for a while: gives back what is needed only while busy.
    fn rest(&mut self) {
        self.resting = true;
        self.scratch = Vec::new();
        self.inner_scratch = Vec::new();
        self.lines = Vec::new();
        corten_linux::memory::trim();
        // The program itself is shared by all shards.
        if self.common.resting.fetch_add(1, Relaxed) + 1 == self.common.config.shards {
            corten_linux::memory::forget_program();
        }
    }

    /// The opposite: there is work again.
    pub(super) fn stir(&mut self) {
        self.resting = false;
        self.common.resting.fetch_sub(1, Relaxed);
    }

    /// Long connections are counted while they last.
    fn count(&mut self) {
        for slot in self.flows.slots() {
            if let Some(flow) = self.flows.get_mut(slot) {
                Self::count_bytes(flow);
            }
        }
    }

    /// Connections that have not come about in time.
    fn give_up_late(&mut self) {
        for slot in self.flows.slots() {
            let Some(flow) = self.flows.get(slot) else { continue };
            if flow.phase == Phase::Copying || self.now < flow.about.deadline {
                continue;
            }
            let to = flow.about.next_hop.unwrap_or(flow.about.destination);
            let inbound = flow.direction != Direction::Outbound;
            let timed_out = std::io::Error::from(std::io::ErrorKind::TimedOut);
            let failure = match flow.phase {
                Phase::AwaitWorkload => Failure::new(
                    Flag::Connect,
                    Code::WorkloadUnknown,
                    if inbound { Side::ServerProxy } else { Side::ClientProxy },
                    "the control plane has not told of this pod in time",
                ),
                Phase::AwaitCertificate => Failure::new(
                    Flag::Identity,
                    Code::CertificateMissing,
                    Side::ClientProxy,
                    "the certificate did not come in time",
                ),
                Phase::AwaitAddress => Failure::new(
                    Flag::Connect,
                    Code::Resolve,
                    Side::Network,
                    "the name was not resolved in time",
                ),
                Phase::AwaitTunnel | Phase::AwaitResponse => Failure::connect(&timed_out, to, Side::ServerProxy),
                Phase::Connecting | Phase::Copying => {
                    Failure::connect(&timed_out, to, if inbound { Side::ServerApp } else { Side::Network })
                }
            };
            if inbound && flow.phase == Phase::Connecting {
                self.respond(slot, 503);
            }
            self.finish(slot, Some(failure));
        }
        for slot in self.pods.slots() {
            let now = self.now;
            let Some(pod) = self.pods.get_mut(slot) else { continue };
            let (late, waiting) = std::mem::take(&mut pod.callers)
                .into_iter()
                .partition(|caller| caller.deadline <= now);
            pod.callers = waiting;
            let late: Vec<super::pod::WaitingCaller> = late;
            self.young = self.young.saturating_sub(late.len());
            for caller in late {
                let text = "there is no certificate for this pod";
                let failure = Failure::new(Flag::Identity, Code::CertificateMissing, Side::ServerProxy, text);
                self.early_failure(slot, caller.peer, caller.peer, &failure);
                drop(caller);
                self.socket_gone(slot, false);
            }
        }
    }

    fn dump(&self) -> Vec<PodView> {
        let mut views: Vec<(Slot, PodView)> = self
            .pods
            .iter()
            .filter(|(_, pod)| !pod.leaving && pod.serve == Serve::Pod)
            .map(|(slot, pod)| {
                let view = PodView {
                    uid: pod.uid.clone(),
                    info: pod.info.clone(),
                    connections: Vec::new(),
                };
                (slot, view)
            })
            .collect();
        for (_, flow) in self.flows.iter() {
            let Some((_, view)) = views.iter_mut().find(|(slot, _)| *slot == flow.pod) else {
                continue;
            };
            let inbound = flow.direction != Direction::Outbound;
            let about = &flow.about;
            let double = about.inside;
            view.connections.push(ConnectionView {
                inbound,
                source: about.source,
                original_destination: match inbound {
                    true => about.forwarded_host.as_deref().map(str::to_owned),
                    false => Some(about.destination.to_string()),
                },
                actual_destination: about.next_hop.map(|address| address.to_string()),
                protocol: match (&flow.caller, &flow.callee) {
                    _ if double => "DOUBLEHBONE",
                    (End::Stream(_), _) | (_, End::Stream(_)) => "HBONE",
                    _ => "TCP",
                },
            });
        }
        views.into_iter().map(|(_, view)| view).collect()
    }
}
