//! The trust domains of the mesh, followed while we run.
//!
//! Aliases can change at any time: they only say whom else to believe. The trust domain itself stays as it was at the start, as with istiod:
//! two workloads with certificates of different trust domains refuse each other, so a change is an interruption that the operator chooses,
//! by restarting the control plane.

use std::sync::Arc;

use corten_model::Settings;
use tokio::sync::watch;

/// The trust domains that count now, our own first.
pub(crate) type Known = watch::Receiver<Arc<[String]>>;

/// Follows the mesh's configuration.
#[derive(Debug)]
pub(crate) struct TrustDomains {
    own: Arc<str>,
    known: watch::Sender<Arc<[String]>>,
}

impl TrustDomains {
    /// As the mesh's configuration says at the start.
    pub(crate) fn new(settings: &Settings) -> (TrustDomains, Known) {
        let (known, receiver) = watch::channel(listed(settings));
        let own = Arc::clone(&settings.trust_domain);
        (TrustDomains { own, known }, receiver)
    }

    /// Takes over what settings say about aliases, and puts the trust domain that counts into them. Returns what needs a restart.
    pub(crate) fn follow(&self, settings: &mut Settings) -> Option<String> {
        let wanted = std::mem::replace(&mut settings.trust_domain, Arc::clone(&self.own));
        let now = listed(settings);
        self.known.send_if_modified(|before| {
            let changed = **before != *now;
            *before = now;
            changed
        });
        (wanted != self.own).then(|| {
            format!(
                "trustDomain: '{wanted}' takes effect when the control plane is restarted; until then it is '{}'",
                self.own
            )
        })
    }
}

fn listed(settings: &Settings) -> Arc<[String]> {
    std::iter::once(&settings.trust_domain)
        .chain(&settings.trust_domain_aliases)
        .map(ToString::to_string)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(own: &str, aliases: &[&str]) -> Settings {
        Settings {
            trust_domain: Arc::from(own),
            trust_domain_aliases: aliases.iter().map(|alias| Arc::from(*alias)).collect(),
            ..Settings::default()
        }
    }

    #[test]
    fn aliases_are_followed_and_the_trust_domain_waits_for_a_restart() {
        let (domains, mut known) = TrustDomains::new(&settings("a", &["b"]));
        assert_eq!(**known.borrow_and_update(), ["a", "b"]);
        let mut same = settings("a", &["b"]);
        assert_eq!(domains.follow(&mut same), None);
        assert!(!known.has_changed().expect("it is followed"));

        let mut wanted = settings("c", &["a"]);
        let restart = domains.follow(&mut wanted).expect("a restart is needed");
        assert_eq!(
            restart,
            "trustDomain: 'c' takes effect when the control plane is restarted; until then it is 'a'"
        );
        assert_eq!(wanted, settings("a", &["a"]));
        assert_eq!(**known.borrow_and_update(), ["a", "a"]);
    }
}
