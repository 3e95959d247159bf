//! Listeners: accepting, and not accepting more than a pod may have.

use std::os::fd::AsFd;

use super::Shard;
use super::flow::Direction;
use super::mailbox::Serve;
use super::pod::{Listener, Pod, Role};
use super::poll::{Slot, Token};
use super::sockets::{Listen, PodNamespace, accept};
use crate::config::{HBONE_PORT, INBOUND_PLAIN_PORT, OUTBOUND_PORT, OriginalSource};

/// Connections accepted before others have their turn.
const ACCEPTS: usize = 32;

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
        pod.refresh(&self.tables);
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
            let Some(pod) = self.pods.get_mut(pod_slot) else { return };
            if pod.connections >= self.common.config.limits.connections_max {
                // The rest waits in the kernel's queue, and callers beyond that are told to wait by it.
                listener.paused = true;
                return;
            }
            let (socket, peer) = match accept(listener.socket.as_fd()) {
                Ok(Some(accepted)) => accepted,
                Ok(None) => return,
                // A caller that has gone meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    tracing::error!(pod = %pod.info.name, %error, "cannot accept a connection; trying again in a moment");
                    listener.paused = true;
                    return;
                }
            };
            pod.connections += 1;
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

    /// Listeners that could not accept for lack of files try again.
    pub(super) fn resume_listeners(&mut self) {
        let limit = self.common.config.limits.connections_max;
        for slot in self.listeners.slots() {
            let Some(listener) = self.listeners.get_mut(slot) else {
                continue;
            };
            let pod_slot = listener.pod;
            if listener.paused && self.pods.get(pod_slot).is_some_and(|pod| pod.connections < limit) {
                listener.paused = false;
                self.enqueue(pod_slot, Token::Listener(slot));
            }
        }
    }

    /// Closes the listeners of a pod, after everything that was queued in them has been accepted.
    pub(super) fn close_listeners(&mut self, pod_slot: Slot) {
        let Some(pod) = self.pods.get_mut(pod_slot) else { return };
        for slot in std::mem::take(&mut pod.listeners) {
            // What is queued here would be reset by closing.
            for _ in 0..8 {
                self.accept(slot);
            }
            if let Some(listener) = self.listeners.remove(slot) {
                self.poll.forget(listener.socket.as_fd());
            }
        }
    }
}
