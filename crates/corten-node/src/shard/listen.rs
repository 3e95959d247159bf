//! Listeners: accepting, and not accepting more than a pod may have.
//!
//! Two things bound the connections of a pod: its own limit in each direction, and its share of the files that this process may open once those
//! become scarce, so that one pod cannot take them from others. The rest waits in the kernel's queue, and callers beyond that are told to wait by
//! it.

use std::os::fd::AsFd;
use std::time::Duration;

use super::Shard;
use super::flow::Direction;
use super::mailbox::Serve;
use super::pod::{Listener, Pod, Role};
use super::poll::{Slot, Token};
use super::sockets::{Listen, PodNamespace, accept};
use crate::config::{HBONE_PORT, INBOUND_PLAIN_PORT, OUTBOUND_PORT, OriginalSource};

/// Connections accepted before others have their turn.
const ACCEPTS: usize = 8;

/// How often it is told that a pod has as much as it may.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// Why a pod gets no more connections for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// It has as many as it may.
    Limit,
    /// The process has few files left, and this pod has its share of them.
    Files,
}

/// Whether a pod that has `open` connections in one direction and `all` in both may have one more, where `total` are open for `pods` pods and the
/// process may open `files`.
fn full(open: usize, limit: usize, all: usize, total: usize, pods: usize, files: usize) -> Option<Full> {
    if open >= limit {
        return Some(Full::Limit);
    }
    // A quarter is for listeners, for the callees of what is accepted, and for everything else. The first half of the rest is for who comes first,
    // the other half is shared.
    let half = files / 8 * 3;
    (total >= half && all >= (half / pods.max(1)).max(1)).then_some(Full::Files)
}

impl Shard {
    /// Begins to serve a pod.
    pub(super) fn add_pod(
        &mut self,
        uid: String,
        info: corten_proto::zds::WorkloadInfo,
        namespace: PodNamespace,
        serve: Serve,
    ) -> Result<(), String> {
        let mut pod = Pod::new(uid, info, namespace.clone(), serve);
        pod.refresh(&self.common, &self.tables);
        if let Some(workload) = pod.workload.as_ref().filter(|_| serve == Serve::Pod) {
            self.common
                .identities
                .want(&workload.identity, corten_identity::Priority::Warmup);
        }
        let config = &self.common.config;
        let mut listeners = Vec::new();
        let roles: &[(u16, Role)] = match serve {
            _ if !config.proxy => &[],
            Serve::Pod => &[
                (OUTBOUND_PORT, Role::Outbound),
                (INBOUND_PLAIN_PORT, Role::InboundPlain),
                (HBONE_PORT, Role::InboundTunnel),
            ],
            Serve::Itself => &[(HBONE_PORT, Role::InboundTunnel)],
        };
        for &(port, role) in roles {
            let how = Listen {
                port,
                transparent: match role {
                    Role::InboundPlain | Role::InboundTunnel if serve == Serve::Pod => config.original_source,
                    // Its own servers listen in a namespace without the rules that bring answers to foreign addresses back.
                    _ => OriginalSource::Off,
                },
                reuse: config.port_reuse,
                ipv6: config.ipv6,
            };
            let listening = self.sockets.listen(&namespace, how, &config.connections);
            listeners.push((
                role,
                listening.map_err(|error| format!("cannot listen on port {port}: {error}"))?,
            ));
        }
        let slot = self.pods.insert(pod);
        for (role, (socket, transparent)) in listeners {
            let listener = self.listeners.insert(Listener {
                pod: slot,
                role,
                socket,
                transparent,
                paused: false,
                queued: false,
            });
            if let Some(known) = self.listeners.get(listener) {
                let watched = self.poll.watch(known.socket.as_fd(), Token::Listener(listener));
                watched.map_err(|error| format!("cannot watch a listener: {error}"))?;
            }
            if let Some(pod) = self.pods.get_mut(slot) {
                pod.listeners.push(listener);
            }
        }
        Ok(())
    }

    /// Accepts what has come, up to a share.
    pub(super) fn accept(&mut self, slot: Slot) {
        for round in 0..=ACCEPTS {
            let Some(listener) = self.listeners.get_mut(slot) else {
                return;
            };
            let (pod_slot, role, transparent) = (listener.pod, listener.role, listener.transparent);
            if round == ACCEPTS {
                return self.enqueue(pod_slot, Token::Listener(slot));
            }
            let inbound = role != Role::Outbound;
            if let Some(why) = self.full(pod_slot, inbound) {
                self.tell_full(pod_slot, inbound, why);
                return self.pause(slot);
            }
            let (Some(listener), Some(pod)) = (self.listeners.get_mut(slot), self.pods.get_mut(pod_slot)) else {
                return;
            };
            let (socket, peer) = match accept(listener.socket.as_fd()) {
                Ok(Some(accepted)) => accepted,
                Ok(None) => return,
                // A caller that has gone meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    tracing::error!(pod = %pod.info.name, %error, "cannot accept a connection; trying again in a moment");
                    return self.pause(slot);
                }
            };
            pod.connections[usize::from(inbound)] += 1;
            self.was_called();
            let direction = match role {
                Role::Outbound => Direction::Outbound,
                Role::InboundPlain => Direction::InboundPlain,
                Role::InboundTunnel => Direction::InboundTunnel,
            };
            self.common.metrics.sockets_open[usize::from(direction != Direction::Outbound)].add(1);
            match direction {
                Direction::Outbound => self.capture(pod_slot, socket, peer),
                Direction::InboundPlain => self.accept_plain(pod_slot, socket, peer, transparent),
                Direction::InboundTunnel => self.accept_tunnel(pod_slot, socket, peer, transparent),
            }
        }
    }

    /// Why a pod may not have one more connection in a direction, if it may not.
    fn full(&self, pod: Slot, inbound: bool) -> Option<Full> {
        let metrics = &self.common.metrics;
        let total: i64 = metrics.sockets_open.iter().map(|gauge| gauge.get()).sum();
        let known = self.pods.get(pod)?;
        full(
            known.connections[usize::from(inbound)],
            self.common.config.limits.connections_max,
            known.connections.iter().sum(),
            usize::try_from(total).unwrap_or(0),
            usize::try_from(metrics.proxies_active.get()).unwrap_or(0),
            self.files,
        )
    }

    /// Says that a pod has as much as it may, now and then.
    fn tell_full(&mut self, pod: Slot, inbound: bool, why: Full) {
        let now = self.now;
        let Some(pod) = self.pods.get_mut(pod) else { return };
        if pod.told_full.is_some_and(|told| now < told + TELL_AGAIN) {
            return;
        }
        pod.told_full = Some(now);
        let (namespace, name, open) = (&pod.info.namespace, &pod.info.name, pod.connections);
        let direction = if inbound { "inbound" } else { "outbound" };
        match why {
            Full::Limit => tracing::warn!(
                %namespace, pod = %name, direction, reason = "limit", limit = self.common.config.limits.connections_max,
                "the pod has as many connections as it may: more wait until some end, or raise CORTEN_POD_CONNECTIONS_MAX"
            ),
            Full::Files => tracing::warn!(
                %namespace, pod = %name, direction, reason = "limit", outbound = open[0], inbound = open[1], files = self.files,
                "this process has few files left, and the pod has its share of them: more connections wait until some end, or raise the limit of open files"
            ),
        }
        let what = if why == Full::Limit { "connections" } else { "files" };
        self.common
            .metrics
            .limits
            .add(&[("limit", what), ("namespace", namespace), ("pod", name)], 1);
    }

    /// A listener accepts nothing for a while.
    fn pause(&mut self, slot: Slot) {
        if let Some(listener) = self.listeners.get_mut(slot)
            && !std::mem::replace(&mut listener.paused, true)
        {
            self.paused += 1;
        }
    }

    /// Listeners of a pod that had to wait try again, if it may have more.
    pub(super) fn resume_listeners(&mut self, pod_slot: Slot) {
        let Some(pod) = self.pods.get(pod_slot) else { return };
        for slot in pod.listeners.clone() {
            let Some(listener) = self.listeners.get(slot).filter(|listener| listener.paused) else {
                continue;
            };
            if self.full(pod_slot, listener.role != Role::Outbound).is_some() {
                continue;
            }
            if let Some(listener) = self.listeners.get_mut(slot) {
                listener.paused = false;
                self.paused -= 1;
                self.enqueue(pod_slot, Token::Listener(slot));
            }
        }
    }

    /// Closes the listeners of a pod, after everything that was queued in them has been accepted.
    pub(super) fn close_listeners(&mut self, pod_slot: Slot) {
        let Some(pod) = self.pods.get_mut(pod_slot) else { return };
        for slot in std::mem::take(&mut pod.listeners) {
            // What is queued here would be reset by closing.
            for _ in 0..256 / ACCEPTS {
                self.accept(slot);
            }
            if let Some(listener) = self.listeners.remove(slot) {
                self.paused -= usize::from(listener.paused);
                self.poll.forget(listener.socket.as_fd());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_its_limit_in_each_direction_and_its_share_of_scarce_files() {
        const FILES: usize = 8000;
        // open, limit, all, total, pods: half of the usable files is 3000.
        for (open, limit, all, total, pods, expected) in [
            (0, 10, 0, 0, 1, None),
            (9, 10, 19, 19, 1, None),
            (10, 10, 10, 10, 1, Some(Full::Limit)),
            (2999, 65_536, 2999, 2999, 3, None),
            // The greedy one waits, the others have what is left.
            (3000, 65_536, 3000, 3000, 3, Some(Full::Files)),
            (0, 65_536, 0, 3000, 3, None),
            (999, 65_536, 999, 5000, 3, None),
            (500, 65_536, 1000, 5000, 3, Some(Full::Files)),
            // However many pods there are, each has one.
            (0, 65_536, 0, 5000, 10_000, None),
        ] {
            assert_eq!(
                full(open, limit, all, total, pods, FILES),
                expected,
                "{open} {all} {total} {pods}"
            );
        }
    }
}
