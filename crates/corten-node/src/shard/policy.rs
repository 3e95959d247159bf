//! News for the shard: tables, certificates; and what they mean for connections that wait or are open.

use corten_identity::{Refusal, Usage};

use super::Shard;
use super::flow::{Direction, Phase};
use super::poll::Slot;
use super::tunnel::Stage;
use crate::telemetry::failure::{Code, Failure, Flag, Side};

impl Shard {
    /// New tables: pods look themselves up, waiting connections go on, and open ones that are now forbidden are closed.
    pub(super) fn tables_changed(&mut self) {
        let new = self.common.tables.load_full();
        let policies = new.policies_version() != self.tables.policies_version();
        self.tables = new;
        let mut changed = Vec::new();
        for slot in self.pods.slots() {
            let Some(pod) = self.pods.get_mut(slot) else { continue };
            if pod.refresh(&self.common, &self.tables) {
                changed.push(slot);
                if let Some(workload) = &pod.workload {
                    self.common
                        .identities
                        .want(&workload.identity, corten_identity::Priority::Warmup);
                }
            }
        }
        if policies || !changed.is_empty() {
            self.judge_again(|pod| policies || changed.contains(&pod));
        }
        for slot in changed {
            self.retry(slot);
        }
    }

    /// Closes inbound connections that are forbidden now. Those that are being made are judged again before they are answered.
    fn judge_again(&mut self, concerned: impl Fn(Slot) -> bool) {
        for slot in self.flows.slots() {
            let judged = self.flows.get(slot).is_some_and(|flow| {
                flow.direction != Direction::Outbound && flow.phase == Phase::Copying && concerned(flow.pod)
            });
            if !judged {
                continue;
            }
            if let Some(mut failure) = self.forbidden(slot) {
                failure.text = "connection closed due to policy change".to_owned();
                failure.code = Code::PolicyChanged;
                self.finish(slot, Some(failure));
            }
        }
    }

    /// New certificates: whoever waits for one goes on.
    pub(super) fn certificates_changed(&mut self) {
        for slot in self.pods.slots() {
            self.retry(slot);
        }
        self.close_revoked();
    }

    /// Closes tunnels whose peer's certificate has been revoked since they were made.
    fn close_revoked(&mut self) {
        for slot in self.tunnels.slots() {
            let Some(tunnel) = self.tunnels.get(slot) else { continue };
            let workload = self.pods.get(tunnel.pod).and_then(|pod| pod.workload.as_ref());
            let Some(workload) = workload.filter(|_| tunnel.stage != Stage::Connecting) else {
                continue;
            };
            let client = tunnel.key.is_some();
            let usage = if client { Usage::Server } else { Usage::Client };
            let chain = tunnel.hbone.peer_certificates();
            // An old tunnel may outlive the certificate it was made with; only a revocation ends it.
            let revoked = match self.common.identities.recheck(&workload.identity, chain, usage) {
                Some(Err(Refusal::Revoked)) if !chain.is_empty() => Refusal::Revoked,
                _ => continue,
            };
            let reporter = if client { "source" } else { "destination" };
            self.common.metrics.crl_rejections.add(&[("reporter", reporter)], 1);
            let side = if client { Side::ServerProxy } else { Side::ClientProxy };
            let failure = Failure::new(Flag::Revoked, Code::Revoked, side, format!("tls: {revoked}"));
            self.lose_tunnel(slot, &failure);
        }
    }

    /// Connections of a pod that wait for its workload or certificate try again.
    fn retry(&mut self, pod_slot: Slot) {
        self.retry_callers(pod_slot);
        let Some(pod) = self.pods.get_mut(pod_slot) else { return };
        for slot in std::mem::take(&mut pod.waiting) {
            let Some(flow) = self.flows.get(slot) else { continue };
            match (flow.phase, flow.direction) {
                (Phase::AwaitWorkload, Direction::Outbound) => self.route(slot),
                (Phase::AwaitWorkload, _) => self.receive_plain(slot),
                (Phase::AwaitCertificate, _) => self.reach_by_tunnel(slot),
                _ => {}
            }
        }
    }
}
