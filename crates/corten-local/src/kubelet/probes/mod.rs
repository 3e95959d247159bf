//! When a container is probed, and what its answers mean.
//!
//! Pure: the schedule and the counting. Asking is done by [`http`], [`grpc`] and the driver, which hand back an [`Answer`].

pub(crate) mod grpc;
pub(crate) mod http;
#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1;

/// What a probe decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    /// As messages name it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Readiness => "readiness",
            Self::Liveness => "liveness",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// What came of asking once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Success,
    /// Passed, but the user should know.
    Warning(String),
    Failure(String),
    /// It could not be asked at all.
    Error(String),
}

/// What follows from an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// An Event's reason and message.
    pub(crate) event: Option<(&'static str, String)>,
    /// The probe has made up its mind, or changed it.
    pub(crate) verdict: Option<bool>,
}

/// A program that has just been executed is given this long to begin listening before its refusals count or are told.
///
/// The real kubelet counts the first refusal and comes back a whole period later; here a pod is to be ready as soon as its program is.
const WARM_UP: SignedDuration = SignedDuration::from_secs(2);
const WARM_PAUSE: (SignedDuration, SignedDuration) = (SignedDuration::from_millis(5), SignedDuration::from_millis(100));

/// One probe of one running container.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) kind: Kind,
    /// Tells an answer for this run of the container from one for an earlier run.
    pub(crate) run: u64,
    started_at: Timestamp,
    period: SignedDuration,
    initial_delay: SignedDuration,
    success_threshold: u32,
    failure_threshold: u32,
    next_at: Option<Timestamp>,
    warm_pauses: u32,
    successes: u32,
    failures: u32,
    verdict: Option<bool>,
}

impl Probe {
    /// A probe of the container that was started at `started_at`.
    pub(crate) fn new(kind: Kind, spec: &v1::Probe, run: u64, started_at: Timestamp, now: Timestamp) -> Self {
        let positive = |value: Option<i32>, default: u32| {
            value
                .and_then(|of| u32::try_from(of).ok())
                .filter(|of| *of > 0)
                .unwrap_or(default)
        };
        let seconds = |value: u32| SignedDuration::from_secs(i64::from(value));
        let initial_delay = seconds(positive(spec.initial_delay_seconds, 0));
        Self {
            kind,
            run,
            started_at,
            period: seconds(positive(spec.period_seconds, 10)),
            initial_delay,
            success_threshold: positive(spec.success_threshold, 1),
            failure_threshold: positive(spec.failure_threshold, 3),
            next_at: Some((started_at + initial_delay).max(now)),
            warm_pauses: 0,
            successes: 0,
            failures: 0,
            verdict: None,
        }
    }

    /// When to ask next; `None` while an answer is awaited.
    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        self.next_at
    }

    /// The question is on its way.
    pub(crate) fn asked(&mut self) {
        self.next_at = None;
    }

    /// Counts an answer.
    pub(crate) fn answered(&mut self, answer: &Answer, now: Timestamp) -> Outcome {
        let kind = self.kind.title();
        let (passed, event) = match answer {
            Answer::Success => (true, None),
            Answer::Warning(output) => (true, Some(("ProbeWarning", format!("{kind} probe warning: {output}")))),
            Answer::Failure(output) => (false, Some(("Unhealthy", format!("{kind} probe failed: {output}")))),
            Answer::Error(error) => {
                let told = format!("{kind} probe errored and resulted in unknown state: {error}");
                (false, Some(("Unhealthy", told)))
            }
        };
        if !passed && self.is_warming_up(now) {
            let pause = WARM_PAUSE.0 * (1 << self.warm_pauses.min(8));
            self.warm_pauses += 1;
            self.next_at = Some(now + pause.min(WARM_PAUSE.1).min(self.period));
            return Outcome::default();
        }
        self.next_at = Some(now + self.period);
        let (counted, threshold) = if passed {
            self.failures = 0;
            self.successes += 1;
            (self.successes, self.success_threshold)
        } else {
            self.successes = 0;
            self.failures += 1;
            (self.failures, self.failure_threshold)
        };
        let mut outcome = Outcome { event, verdict: None };
        if counted >= threshold && self.verdict != Some(passed) {
            self.verdict = Some(passed);
            outcome.verdict = Some(passed);
        }
        outcome
    }

    fn is_warming_up(&self, now: Timestamp) -> bool {
        let undecided = self.verdict.is_none() && self.failures == 0 && self.kind != Kind::Liveness;
        undecided && self.initial_delay.is_zero() && now.duration_since(self.started_at) < WARM_UP
    }
}

/// The port a probe or hook names: a number, or the name of one of the container's ports.
pub(crate) fn port(
    port: &k8s_openapi::apimachinery::pkg::util::intstr::IntOrString,
    container: &v1::Container,
) -> Result<u16, String> {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container
                .ports
                .iter()
                .flatten()
                .find(|of| of.name.as_ref() == Some(name));
            named.map(|of| of.container_port).or_else(|| name.parse().ok())
        }
    };
    let valid = number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0);
    valid.ok_or_else(|| match (port, number) {
        (IntOrString::String(name), None) => format!("couldn't find port: {name:?}"),
        (_, number) => format!("invalid port number: {}", number.unwrap_or_default()),
    })
}
