//! The walk-through of `docs/routing.md`, with the objects of `examples/sidecars`.

use std::path::Path;

use corten_e2e::{Namespace, eventually};

use super::support::{SETTLING, asks, counts, none_rejected, until_status};

pub(crate) fn through(ns: &Namespace<'_>) {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/sidecars");
    let shop = Namespace::new(ns.runtime(), "shop");
    let apply = |file: &str| {
        eventually(SETTLING, || {
            let applied = shop.corten("apply", &["-f", &examples.join(file).to_string_lossy()]);
            (applied.code == Some(0)).then_some(()).ok_or(applied.stderr)
        });
    };
    apply("shop.yaml");
    for pod in ["web", "reviews-v1", "reviews-v2"] {
        shop.wait(&format!("pod/{pod}"), "condition=Ready");
    }
    let answer = until_status(&shop, "web", "reviews/", 200);
    assert!(
        answer
            .get("header x-forwarded-client-cert")
            .ends_with("URI=spiffe://cluster.local/ns/shop/sa/web"),
        "{}",
        answer.text
    );
    apply("rules.yaml");
    until_status(&shop, "web", "-X POST reviews/", 403);
    until_status(&shop, "web", "reviews/", 200);
    // Of a hundred, ten are for the version of which one call in five fails, each of them up to four times: 0.016 are expected to fail.
    let statuses = counts(asks(&shop, "web", 100, "reviews/").iter().map(|answer| answer.status));
    assert!(statuses.get(&200).copied().unwrap_or_default() >= 95, "{statuses:?}");
    none_rejected(&shop, &["web", "reviews-v1", "reviews-v2"]);
}
