//! Istio's own programs in place of ours: which ones, and the objects that run them.
//!
//! Each half of the mesh speaks a protocol that is Istio's, so that ztunnel can stand where `corten-node` does and istiod where
//! `corten-control` does. Knows manifests and image names only.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

const ZTUNNEL: &str = include_str!("stock-ztunnel.yaml");
const ISTIOD: &str = include_str!("stock-istiod.yaml");

/// The image that `stock-ztunnel.yaml` runs.
const ZTUNNEL_IMAGE: &str = "istio/ztunnel";
/// The image that `stock-istiod.yaml` runs.
const ISTIOD_IMAGE: &str = "istio/pilot";

/// Binaries of Istio that stand in for halves of the mesh; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    /// A `ztunnel`, in place of `corten-node`.
    pub ztunnel: Option<PathBuf>,
    /// A `pilot-discovery`, in place of `corten-control`.
    pub istiod: Option<PathBuf>,
    /// An Envoy, for the proxies that pods get; none: the one on the path.
    pub envoy: Option<PathBuf>,
}

impl Stock {
    /// What the images of the stock manifests run.
    pub(crate) fn images(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let ztunnel = self.ztunnel.as_deref().map(|program| (ZTUNNEL_IMAGE, program));
        let istiod = self.istiod.as_deref().map(|program| (ISTIOD_IMAGE, program));
        ztunnel.into_iter().chain(istiod)
    }

    /// Puts the objects of Istio's programs in the places of ours, by kind and name.
    pub(super) fn substitute(&self, manifests: &mut [Value]) {
        let given = [(&self.ztunnel, ZTUNNEL), (&self.istiod, ISTIOD)];
        for (_, text) in given.into_iter().filter(|(program, _)| program.is_some()) {
            for object in super::parse("a stock manifest", text) {
                let same = |it: &&mut Value| {
                    it["kind"] == object["kind"] && it["metadata"]["name"] == object["metadata"]["name"]
                };
                if let Some(ours) = manifests.iter_mut().find(same) {
                    *ours = object;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(stock: &Stock) -> Vec<String> {
        let mut manifests = super::super::manifests();
        stock.substitute(&mut manifests);
        let image = |object: &Value| object["spec"]["template"]["spec"]["containers"][0]["image"].clone();
        let images = manifests
            .iter()
            .filter_map(|object| image(object).as_str().map(str::to_owned));
        images.collect()
    }

    #[test]
    fn a_half_that_is_given_replaces_ours_and_nothing_else() {
        let path = || Some(PathBuf::from("/x"));
        let (ztunnel, istiod) = (path(), path());
        for (stock, expect) in [
            (
                Stock::default(),
                ["corten.dev/control", "corten.dev/node", "corten.dev/agent"],
            ),
            (
                Stock {
                    ztunnel,
                    ..Stock::default()
                },
                ["corten.dev/control", ZTUNNEL_IMAGE, "corten.dev/agent"],
            ),
            (
                Stock {
                    istiod,
                    ..Stock::default()
                },
                [ISTIOD_IMAGE, "corten.dev/node", "corten.dev/agent"],
            ),
        ] {
            assert_eq!(images(&stock), expect, "{stock:?}");
        }
    }
}
