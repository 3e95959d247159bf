//! HTTP routes of several objects for the same host of the same parent become one VirtualService, because a host has one.

use std::collections::BTreeMap;

use super::{Routes, order};
use crate::annotation;

/// Merges VirtualServices by key: the oldest gives the rest its metadata, and all matches are ordered together.
pub(crate) fn merge(routes: Vec<(String, Routes)>) -> Vec<Routes> {
    let mut groups: BTreeMap<String, Vec<Routes>> = BTreeMap::new();
    for (key, routes) in routes {
        groups.entry(key).or_default().push(routes);
    }
    let merged = groups.into_iter().filter_map(|(key, mut group)| {
        group.sort_by(|a, b| {
            let (a, b) = (&a.object.metadata, &b.object.metadata);
            let age = a.creation_timestamp.cmp(&b.creation_timestamp);
            let place = || (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name));
            age.then_with(place)
        });
        let several = group.len() > 1;
        let mut group = group.into_iter();
        let mut base = group.next()?;
        for other in group {
            base.object.spec.http.extend(other.object.spec.http);
            base.pickers.extend(other.pickers);
            let from = other.object.metadata.annotations.get(annotation::PARENTS);
            if let (Some(parents), Some(from)) = (base.object.metadata.annotations.get_mut(annotation::PARENTS), from) {
                parents.push(',');
                parents.push_str(from);
            }
        }
        if several {
            order::sort(&mut base.object.spec.http);
        }
        base.object.metadata.name = key.replace('/', "~");
        Some(base)
    });
    merged.collect()
}
