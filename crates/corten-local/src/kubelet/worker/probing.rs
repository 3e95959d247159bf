//! A pod's probes: made when a container runs, asked when they are due, their verdicts handed to the lifecycle.

use jiff::Timestamp;
use k8s_openapi::api::core::v1;

use super::{Done, Worker};
use crate::kubelet::hooks;
use crate::kubelet::lifecycle::{Input, State};
use crate::kubelet::probes::{Answer, Kind, Probe};

impl Worker {
    pub(super) fn make_probes(&mut self, container: usize) {
        self.forget_probes(container);
        let Some(spec) = self.spec_of(container) else { return };
        // The others begin when the startup probe has passed.
        if let Some(startup) = &spec.startup_probe {
            return self.add_probe(container, Kind::Startup, startup);
        }
        self.make_later_probes(container, &spec);
    }

    pub(super) fn make_later_probes(&mut self, container: usize, spec: &v1::Container) {
        if let Some(readiness) = &spec.readiness_probe {
            self.add_probe(container, Kind::Readiness, readiness);
        }
        if let Some(liveness) = &spec.liveness_probe {
            self.add_probe(container, Kind::Liveness, liveness);
        }
    }

    pub(super) fn add_probe(&mut self, container: usize, kind: Kind, spec: &v1::Probe) {
        let now = self.now();
        let started_at = match &self.life.containers[container].state {
            State::Running { since, .. } => *since,
            _ => now,
        };
        let probe = Probe::new(kind, spec, self.runs[container], started_at, now);
        self.probes.push((container, probe));
    }

    pub(super) fn forget_probes(&mut self, container: usize) {
        self.probes.retain(|(of, _)| *of != container);
    }

    /// Asks what is due; returns when the next question is.
    pub(super) fn ask_due_probes(&mut self, now: Timestamp) -> Option<Timestamp> {
        let mut due = Vec::new();
        let mut wake: Option<Timestamp> = None;
        for (container, probe) in &mut self.probes {
            // A postStart hook that has not ended holds back the first question; its end is an event of its own.
            let wanted = probe.kind == Kind::Readiness || self.life.wants_probes(*container);
            let Some(at) = probe
                .next_at()
                .filter(|_| wanted && !self.life.containers[*container].in_post_start)
            else {
                continue;
            };
            if at <= now {
                probe.asked();
                due.push((*container, probe.kind, probe.run));
            } else {
                wake = Some(wake.map_or(at, |earlier| earlier.min(at)));
            }
        }
        for (container, kind, run) in due {
            let spec = self.probe_spec(container, kind);
            if let (Some(target), Some(spec)) = (self.target(container), spec) {
                self.pending.push(Box::pin(async move {
                    let answer = hooks::ask(target, spec).await;
                    Done::Answer {
                        container,
                        kind,
                        run,
                        answer,
                    }
                }));
            }
        }
        wake
    }

    pub(super) fn probe_spec(&self, container: usize, kind: Kind) -> Option<v1::Probe> {
        let spec = self.spec_of(container)?;
        match kind {
            Kind::Startup => spec.startup_probe,
            Kind::Readiness => spec.readiness_probe,
            Kind::Liveness => spec.liveness_probe,
        }
    }

    pub(super) fn answered(&mut self, container: usize, kind: Kind, run: u64, answer: &Answer) {
        let now = self.now();
        let probe = self
            .probes
            .iter_mut()
            .find(|(of, probe)| *of == container && probe.kind == kind && probe.run == run);
        let Some((_, probe)) = probe else { return };
        let outcome = probe.answered(answer, now);
        if let Some((reason, message)) = outcome.event {
            self.tell(Some(container), true, reason, message);
        }
        let grace = self
            .probe_spec(container, kind)
            .and_then(|spec| spec.termination_grace_period_seconds);
        match (kind, outcome.verdict) {
            (_, None) | (Kind::Liveness, Some(true)) => {}
            (Kind::Readiness, Some(ready)) => self.input(Input::Readiness { container, ready }),
            (Kind::Startup, Some(true)) => {
                self.forget_probes(container);
                self.input(Input::StartupPassed { container });
                if let Some(spec) = self.spec_of(container) {
                    self.make_later_probes(container, &spec);
                }
            }
            (Kind::Liveness | Kind::Startup, Some(false)) => {
                let probe = kind.word();
                self.input(Input::Unhealthy {
                    container,
                    probe,
                    grace,
                });
            }
        }
    }
}
