//! Changing keys and roots without a moment in which two workloads do not trust each other.
//!
//! A new root is first trusted by everybody, and only then signed with; an old one is trusted until nothing that it
//! signed is left. Both take as long as a workload may go on with the roots it has: it learns new ones when its own
//! certificate is renewed. Pure: time is an argument, and the state is kept by the caller.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;

use crate::material::Material;

/// How long old and new overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap {
    /// From trusting a new root to signing with it.
    pub announce: Duration,
    /// From the last signature with an old root to no longer trusting it.
    pub retire: Duration,
}

impl Overlap {
    /// As long as workload certificates live.
    pub fn of_lifetime(leaf_lifetime: Duration) -> Overlap {
        Overlap {
            announce: leaf_lifetime,
            retire: leaf_lifetime,
        }
    }
}

/// What became of new keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// They are the ones in use.
    Same,
    /// Everybody trusts their root already: they sign from now on.
    Switched,
    /// Their root is trusted from now on; they sign from the given time on.
    Announced(SystemTime),
}

/// Which keys sign, and which roots are to be trusted.
#[derive(Debug, Clone)]
pub struct Rotation {
    pub(crate) active: Arc<Material>,
    /// Since when each root of the bundle is in it; those that were there at the start have always been.
    pub(crate) trusted: Vec<(CertificateDer<'static>, SystemTime)>,
    pub(crate) next: Option<Arc<Material>>,
    pub(crate) retiring: Vec<Retiring>,
    overlap: Overlap,
}

/// A root that signs no more.
#[derive(Debug, Clone)]
pub(crate) struct Retiring {
    pub(crate) root: CertificateDer<'static>,
    pub(crate) until: SystemTime,
    /// Its keys, where we have them: they sign revocation lists until the end.
    pub(crate) material: Option<Arc<Material>>,
}

impl Rotation {
    /// At the start: these keys sign, and everybody is taken to trust their roots.
    pub fn new(active: Arc<Material>, overlap: Overlap) -> Rotation {
        let trusted = active
            .roots()
            .iter()
            .map(|root| (root.clone(), SystemTime::UNIX_EPOCH))
            .collect();
        Rotation {
            active,
            trusted,
            next: None,
            retiring: Vec::new(),
            overlap,
        }
    }

    /// How long old and new overlap, from now on.
    pub fn set_overlap(&mut self, overlap: Overlap) {
        self.overlap = overlap;
    }

    /// How long old and new overlap.
    pub fn overlap(&self) -> Overlap {
        self.overlap
    }

    /// Whether nothing is to come and nothing to go.
    pub fn is_settled(&self) -> bool {
        self.next.is_none() && self.retiring.is_empty()
    }

    /// Roots that were in the published bundle before we started and are not ours any more: workloads may still hold
    /// certificates of theirs.
    pub fn keep_published(&mut self, roots: Vec<CertificateDer<'static>>, now: SystemTime) {
        let until = now + self.overlap.retire;
        for root in roots {
            if !self.bundle().contains(&root) {
                self.retiring.push(Retiring {
                    root,
                    until,
                    material: None,
                });
            }
        }
    }

    /// New keys are there, from a file or newly made.
    pub fn offer(&mut self, material: Arc<Material>, now: SystemTime) -> Offered {
        if material.same_as(&self.active) {
            // Whatever was to come has been taken back.
            if let Some(next) = self.next.take() {
                self.retire(next.roots().to_vec(), None, now);
            }
            return Offered::Same;
        }
        match self.sign_from(&material) {
            Some(at) if at <= now => {
                self.switch(material, now);
                Offered::Switched
            }
            _ => {
                for root in material.roots() {
                    if !self.trusted.iter().any(|(known, _)| known == root) {
                        self.trusted.push((root.clone(), now));
                    }
                }
                let at = self.sign_from(&material).unwrap_or(now);
                self.next = Some(material);
                Offered::Announced(at)
            }
        }
    }

    /// When the root of some keys is known to everybody; `None`: it is not announced.
    fn sign_from(&self, material: &Material) -> Option<SystemTime> {
        let (_, since) = self.trusted.iter().find(|(root, _)| root == material.anchor())?;
        Some(*since + self.overlap.announce)
    }

    /// Does what is due. Returns whether anything changed.
    pub fn tick(&mut self, now: SystemTime) -> bool {
        let mut changed = false;
        if let Some(next) = self.next.clone()
            && self.sign_from(&next).is_none_or(|at| at <= now)
        {
            self.switch(next, now);
            changed = true;
        }
        let before = self.retiring.len();
        self.retiring.retain(|retiring| now < retiring.until);
        changed | (self.retiring.len() != before)
    }

    /// When something will be due.
    pub fn wake_at(&self) -> Option<SystemTime> {
        let switch = self.next.as_ref().and_then(|next| self.sign_from(next));
        self.retiring.iter().map(|retiring| retiring.until).chain(switch).min()
    }

    fn switch(&mut self, material: Arc<Material>, now: SystemTime) {
        let before = std::mem::replace(&mut self.active, material);
        self.next = None;
        let known = std::mem::take(&mut self.trusted);
        let gone: Vec<_> = known.iter().map(|(root, _)| root.clone()).collect();
        self.trusted = self
            .active
            .roots()
            .iter()
            .map(|root| {
                let since = known.iter().find(|(other, _)| other == root).map(|(_, since)| *since);
                (root.clone(), since.unwrap_or(now))
            })
            .collect();
        self.retire(gone, Some(before), now);
    }

    /// Roots that are not among the active ones any more are trusted a while longer.
    fn retire(&mut self, roots: Vec<CertificateDer<'static>>, material: Option<Arc<Material>>, now: SystemTime) {
        let until = now + self.overlap.retire;
        let active = self.active.roots();
        self.trusted.retain(|(root, _)| active.contains(root));
        self.retiring.retain(|retiring| !active.contains(&retiring.root));
        for root in roots {
            if active.contains(&root) || self.retiring.iter().any(|retiring| retiring.root == root) {
                continue;
            }
            let material = material.clone().filter(|material| *material.anchor() == root);
            self.retiring.push(Retiring { root, until, material });
        }
    }

    /// The keys that sign now.
    pub fn signer(&self) -> &Arc<Material> {
        &self.active
    }

    /// The keys that will sign next.
    pub fn next(&self) -> Option<&Arc<Material>> {
        self.next.as_ref()
    }

    /// The roots everybody is to trust: those in use, those to come, those that go.
    pub fn bundle(&self) -> Vec<CertificateDer<'static>> {
        let mut bundle: Vec<CertificateDer<'static>> = self.active.roots().to_vec();
        let trusted = self.trusted.iter().map(|(root, _)| root);
        for root in trusted.chain(self.retiring.iter().map(|retiring| &retiring.root)) {
            if !bundle.contains(root) {
                bundle.push(root.clone());
            }
        }
        bundle
    }

    /// All keys we have: in use, to come, going.
    pub fn materials(&self) -> impl Iterator<Item = &Arc<Material>> {
        let retiring = self.retiring.iter().filter_map(|retiring| retiring.material.as_ref());
        std::iter::once(&self.active).chain(&self.next).chain(retiring)
    }
}

#[cfg(test)]
mod tests;
