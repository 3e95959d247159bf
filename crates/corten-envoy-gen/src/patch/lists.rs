//! Patches to lists whose order counts: filters, and routes.

use corten_api::istio::envoy_filter::EnvoyFilterPatchOperation as Operation;

/// What an operation does with a list. `chosen` tells which of its items a patch is about; `None`: it is about none in particular.
/// Merging is not among these operations. Whether anything came of it.
pub(super) fn change<T>(
    items: &mut Vec<T>,
    operation: Operation,
    made: Option<T>,
    chosen: Option<&dyn Fn(&T) -> bool>,
) -> bool {
    let place = chosen.map(|chosen| items.iter().position(chosen));
    match (operation, made, place) {
        (Operation::Remove, _, Some(Some(_))) => {
            if let Some(chosen) = chosen {
                items.retain(|item| !chosen(item));
            }
        }
        (Operation::Add, Some(made), _) | (Operation::InsertAfter, Some(made), None) => items.push(made),
        (Operation::InsertFirst, Some(made), _) | (Operation::InsertBefore, Some(made), None) => items.insert(0, made),
        (Operation::InsertBefore, Some(made), Some(Some(place))) => items.insert(place, made),
        (Operation::InsertAfter, Some(made), Some(Some(place))) => items.insert(place + 1, made),
        (Operation::Replace, Some(made), Some(Some(place))) => items[place] = made,
        _ => return false,
    }
    true
}
