//! Leader election by a Lease: one replica of many does what must be done once.
//!
//! The decision is a pure function of the Lease as it was last seen change, by our own clock, as client-go makes it:
//! clocks of different machines are never compared.

use std::time::{Duration, Instant};

use corten_rt::Drain;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;

/// How long giving the lease back may take.
const RELEASE_MAX: Duration = Duration::from_secs(2);

/// Who stands for what.
#[derive(Debug, Clone)]
pub struct Election {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Our name among the candidates: that of our pod.
    pub identity: String,
    /// After this time without a renewal the leader is taken for gone.
    pub lease_duration: Duration,
    /// A leader that could not renew for this long steps down.
    pub renew_deadline: Duration,
    /// Time between attempts.
    pub retry_period: Duration,
}

impl Election {
    /// With Istio's times: 30 s, 15 s and 7.5 s.
    pub fn new(namespace: &str, name: &str, identity: &str) -> Election {
        Election {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            lease_duration: Duration::from_secs(30),
            renew_deadline: Duration::from_secs(15),
            retry_period: Duration::from_millis(7500),
        }
    }

    /// Stands until told to stop, and gives the leadership back then.
    pub async fn run(self, client: Client, leadership: watch::Sender<bool>, mut drain: Drain) {
        let leases: Api<Lease> = Api::namespaced(client, &self.namespace);
        let mut candidate = Candidate::default();
        loop {
            let attempt = self.attempt(&leases, &mut candidate);
            tokio::select! {
                biased;
                () = drain.wait() => break,
                // Short enough to be tried again before the deadline.
                result = tokio::time::timeout(self.renew_deadline / 3, attempt) => match result {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::warn!(lease = self.name, %error, "cannot take or renew the lease"),
                    Err(_) => tracing::warn!(lease = self.name, "the API server does not answer about the lease"),
                },
            }
            let leads = candidate.leads(self.renew_deadline, Instant::now());
            leadership.send_if_modified(|before| std::mem::replace(before, leads) != leads);
            // Having just lost an update to another, there is no use in hurrying either.
            let mut pause = self.retry_period.mul_f64(1.0 - 0.2 * f64::from(self.spread()));
            // Who leads notices the moment at which it no longer does; who does not has none to wait for.
            if let Some(renewed) = candidate.renewed.filter(|_| leads) {
                let left = self.renew_deadline.saturating_sub(renewed.elapsed());
                pause = pause.min(left.max(Duration::from_millis(10)));
            }
            tokio::select! {
                () = drain.wait() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        leadership.send_replace(false);
        match tokio::time::timeout(RELEASE_MAX, self.release(&leases)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(lease = self.name, %error, "cannot give the lease back; it ends by itself")
            }
            Err(_) => tracing::warn!(
                lease = self.name,
                "cannot give the lease back in time; it ends by itself"
            ),
        }
    }

    /// From 0 to 1, the same for one candidate: two of them do not try at the same moments.
    fn spread(&self) -> f32 {
        let sum: u32 = self
            .identity
            .bytes()
            .fold(7, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        (sum % 100) as f32 / 100.0
    }

    async fn attempt(&self, leases: &Api<Lease>, candidate: &mut Candidate) -> Result<(), kube::Error> {
        let live = leases.get_opt(&self.name).await?;
        let now = Instant::now();
        candidate.observe(live.as_ref(), now);
        let mine = live.as_ref().is_some_and(|lease| holder(lease) == self.identity);
        if !mine {
            candidate.renewed = None;
            if !candidate.is_free(live.as_ref(), now) {
                return Ok(());
            }
        }
        let wanted = self.wanted(live.as_ref(), mine);
        let parameters = PostParams::default();
        let written = match &live {
            None => leases.create(&parameters, &wanted).await,
            Some(_) => leases.replace(&self.name, &parameters, &wanted).await,
        };
        match written {
            Ok(lease) => {
                candidate.observe(Some(&lease), now);
                candidate.renewed = Some(now);
                Ok(())
            }
            // Another was quicker.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn wanted(&self, live: Option<&Lease>, mine: bool) -> Lease {
        let before = live.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let now = MicroTime(Timestamp::now());
        let transitions = before.lease_transitions.unwrap_or_default();
        Lease {
            metadata: live.map_or_else(
                || ObjectMeta {
                    name: Some(self.name.clone()),
                    namespace: Some(self.namespace.clone()),
                    ..ObjectMeta::default()
                },
                |lease| lease.metadata.clone(),
            ),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(self.lease_duration.as_secs().max(1)).ok(),
                acquire_time: if mine { before.acquire_time } else { Some(now.clone()) },
                renew_time: Some(now),
                lease_transitions: Some(if mine || live.is_none() {
                    transitions
                } else {
                    transitions + 1
                }),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Gives the Lease back, if it is still ours. It is read again: the answer to the last renewal may have been lost.
    async fn release(&self, leases: &Api<Lease>) -> Result<(), kube::Error> {
        let parameters = PostParams::default();
        loop {
            let Some(mut lease) = leases.get_opt(&self.name).await? else {
                return Ok(());
            };
            if holder(&lease) != self.identity {
                return Ok(());
            }
            if let Some(spec) = &mut lease.spec {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
                spec.renew_time = Some(MicroTime(Timestamp::now()));
            }
            match leases.replace(&self.name, &parameters, &lease).await {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                result => return result.map(|_| ()),
            }
        }
    }
}

/// Whether we lead, to be awaited.
pub type Leadership = watch::Receiver<bool>;

/// What a candidate knows.
#[derive(Debug, Default)]
struct Candidate {
    /// The Lease as it is, and when it was first seen so.
    seen: Option<(Lease, Instant)>,
    /// When we last took or renewed it, while it is ours.
    renewed: Option<Instant>,
}

impl Candidate {
    fn observe(&mut self, live: Option<&Lease>, now: Instant) {
        let same = match (&self.seen, live) {
            (Some((seen, _)), Some(live)) => seen.spec == live.spec,
            (None, None) => true,
            _ => false,
        };
        match live {
            Some(live) if same => {
                if let Some((seen, _)) = &mut self.seen {
                    *seen = live.clone();
                }
            }
            live => self.seen = live.map(|lease| (lease.clone(), now)),
        }
    }

    /// Whether nobody holds the Lease: given back, or not renewed for its duration, as far as we have watched.
    fn is_free(&self, live: Option<&Lease>, now: Instant) -> bool {
        let Some(live) = live else { return true };
        if holder(live).is_empty() {
            return true;
        }
        let seconds = live
            .spec
            .as_ref()
            .and_then(|spec| spec.lease_duration_seconds)
            .unwrap_or_default();
        let duration = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        self.seen
            .as_ref()
            .is_some_and(|(_, since)| now.duration_since(*since) > duration)
    }

    fn leads(&self, renew_deadline: Duration, now: Instant) -> bool {
        self.renewed
            .is_some_and(|renewed| now.duration_since(renewed) < renew_deadline)
    }
}

fn holder(lease: &Lease) -> &str {
    lease
        .spec
        .as_ref()
        .and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, renewed: i64) -> Lease {
        Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: Some(30),
                renew_time: Timestamp::from_second(renewed).ok().map(MicroTime),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        }
    }

    #[test]
    fn a_lease_is_free_when_it_was_not_renewed_for_as_long_as_it_lasts() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut candidate = Candidate::default();
        let held = lease("other", 1);
        candidate.observe(Some(&held), at(0));
        assert!(!candidate.is_free(Some(&held), at(29)));
        assert!(candidate.is_free(Some(&held), at(31)));
        // A renewal, whatever time the other's clock shows, starts the time anew.
        let renewed = lease("other", 0);
        candidate.observe(Some(&renewed), at(31));
        assert!(!candidate.is_free(Some(&renewed), at(60)));
        assert!(candidate.is_free(Some(&renewed), at(62)));
        assert!(candidate.is_free(None, at(0)));
        assert!(candidate.is_free(Some(&lease("", 5)), at(0)));
    }

    #[test]
    fn a_leader_that_cannot_renew_steps_down_before_its_lease_ends() {
        let start = Instant::now();
        let candidate = Candidate {
            seen: None,
            renewed: Some(start),
        };
        let deadline = Duration::from_secs(15);
        assert!(candidate.leads(deadline, start + Duration::from_secs(14)));
        assert!(!candidate.leads(deadline, start + Duration::from_secs(15)));
    }
}
