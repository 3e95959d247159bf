//! Puts a network namespace into the mesh: redirection rules, policy routing, probe sets, namespace hand-over (ZDS).
