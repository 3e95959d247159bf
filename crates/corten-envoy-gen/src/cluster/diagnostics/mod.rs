//! What DestinationRules and ServiceEntries say that takes no effect.

mod entry;
mod rule;
#[cfg(test)]
mod tests;

use corten_api::diagnostic::Diagnostic;
use corten_routing::Catalog;

/// What takes no effect, by object and field. What decides about it is the mesh alone, not who asks.
pub fn diagnostics(catalog: &Catalog) -> Vec<Diagnostic> {
    let mut said = rule::diagnostics(catalog);
    said.extend(entry::diagnostics(catalog));
    said
}
