//! The few fields that nothing depends on, by design: each with the reason, and the test that shows that it has to be so.
//!
//! A field belongs here only if somebody who writes it expects nothing to happen. One that turns out to be honoured must leave the table.

use crate::{kinds::Judged, schema::Leaf};

/// A field without an effect.
#[derive(Debug)]
pub(crate) struct Plain {
    kind: &'static str,
    path: &'static str,
    reason: &'static str,
    /// The test that shows it, a function in the workspace's sources.
    #[cfg(test)]
    pub(crate) test: &'static str,
}

/// All of them.
pub(crate) const PLAIN: &[Plain] = &[
    Plain {
        kind: "Sidecar",
        path: "spec.egress[].port.name",
        reason: "a label for people: what is spoken is `protocol`'s to say",
        #[cfg(test)]
        test: "a_port_of_a_sidecar_is_what_it_says",
    },
    Plain {
        kind: "GatewayClass",
        path: "spec.description",
        reason: "a description, for people",
        #[cfg(test)]
        test: "names_and_descriptions_are_for_people",
    },
    Plain {
        kind: "TLSRoute",
        path: "spec.rules[].name",
        reason: "a name to refer to; nothing refers to rules of connections",
        #[cfg(test)]
        test: "names_and_descriptions_are_for_people",
    },
    Plain {
        kind: "TCPRoute",
        path: "spec.rules[].name",
        reason: "a name to refer to; nothing refers to rules of connections",
        #[cfg(test)]
        test: "names_and_descriptions_are_for_people",
    },
];

/// Why a field has no effect, if it is one of these.
pub(crate) fn reason(kind: &Judged, leaf: &Leaf) -> Option<&'static str> {
    let found = PLAIN
        .iter()
        .find(|plain| plain.kind == kind.folder() && plain.path == leaf.shown());
    found.map(|plain| plain.reason)
}

/// Those that need not be here: they are honoured after all, or no field.
pub(crate) fn superfluous(left: &dyn Fn(&str, &str) -> bool) -> Vec<String> {
    let gone = PLAIN.iter().filter(|plain| !left(plain.kind, plain.path));
    gone.map(|plain| {
        format!(
            "{} {}: is in the table of plain fields, and need not be",
            plain.kind, plain.path
        )
    })
    .collect()
}
