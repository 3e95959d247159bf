//! The table: one section for each kind, one line for each field.

use crate::{
    judge::Outcome,
    kinds::{Judged, MESH_GROUP},
    schema::Leaf,
};

/// What the page begins with.
const HEAD: &str = "\
# Every field, and what becomes of it

This page is made from the code: `cargo xtask fields` writes it, and a test fails where it is not what the code says.
The fields are those of the types that decode the resources.
Of each, a small mesh below `crates/corten-fields/testdata` (or of the generators' own tests) sets it, and the mesh is made again without it and with other values of it.
*Honoured* means that something that is sent to a proxy, or written back, is different then; named is what.
How proxies run is shown by the pods that injection makes, by what the agents in them start Envoy with, and by what such an Envoy is sent; that a pod or a node carries the words along is no effect.
Anything else is *said* where it is written: as a warning of the API server, by `corten compile`, and in the object's status, with the message shown here.
*None* is the outcome of what is for people alone, with the reason.
Names of an enumeration that do what an absent field does are listed as such.
";

/// The page.
pub(crate) fn page(judged: &[(Judged, Vec<(Leaf, Outcome)>)]) -> String {
    let mut page = HEAD.to_owned();
    for (kind, rows) in judged {
        let group = if kind.group == MESH_GROUP {
            String::new()
        } else {
            format!(" ({})", kind.group)
        };
        page.push_str(&format!("\n## {}{group}\n\n", kind.title()));
        page.push_str("| field | holds | outcome | shown by |\n| --- | --- | --- | --- |\n");
        for (leaf, outcome) in rows {
            page.push_str(&row(leaf, outcome));
        }
    }
    page
}

fn row(leaf: &Leaf, outcome: &Outcome) -> String {
    let default = leaf
        .default
        .as_ref()
        .map_or(String::new(), |value| format!(" (default {value})"));
    let (what, world) = match outcome {
        Outcome::Honoured { by, world, as_unset } => {
            let mut what = by.iter().copied().collect::<Vec<_>>().join(", ");
            if !as_unset.is_empty() {
                what.push_str(&format!("; as if absent: {}", as_unset.join(", ")));
            }
            (what, world.clone())
        }
        Outcome::Reported { code, message, world } => (format!("**said** {code}: {message}"), world.clone()),
        Outcome::Silent { worlds } => {
            let worlds: Vec<&str> = worlds.iter().map(String::as_str).collect();
            ("**IGNORED**".to_owned(), worlds.join(", "))
        }
        Outcome::Plain { reason, worlds } => {
            let worlds: Vec<&str> = worlds.iter().map(String::as_str).collect();
            (format!("none: {reason}"), worlds.join(", "))
        }
        Outcome::Unset => ("**NOT JUDGED**".to_owned(), String::new()),
    };
    let plain = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let path = leaf.shown();
    let path = path.strip_prefix("spec.").unwrap_or(&path);
    format!(
        "| `{path}` | {}{} | {} | {world} |\n",
        plain(&leaf.holds),
        plain(&default),
        plain(&what)
    )
}
