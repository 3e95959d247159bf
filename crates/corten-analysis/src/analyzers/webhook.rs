//! Webhooks of injection: overlaps, by which a pod would be injected twice, and services that do not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corten_api::kubernetes::admission::{MutatingWebhook, MutatingWebhookConfiguration};
use corten_api::kubernetes::meta::LabelSelector;

use crate::catalogue::{INVALID_WEBHOOK, list};
use crate::membership::{INJECT, INJECTION, REVISION};
use crate::objects::{Item, Labels, Object, World};
use crate::report::Report;
use crate::selector;

pub(super) fn check(world: &World, report: &mut Report) {
    let ours: Vec<&Item<MutatingWebhookConfiguration>> =
        world.mutating_webhooks.iter().filter(|item| is_istios(item)).collect();
    let named: BTreeMap<String, (&Arc<Object>, &MutatingWebhook)> = ours
        .iter()
        .flat_map(|item| {
            item.spec
                .webhooks
                .iter()
                .flatten()
                .map(|webhook| (&item.object, webhook))
        })
        .map(|(object, webhook)| (format!("{}/{}", object.full_name(), webhook.name), (object, webhook)))
        .collect();
    let revisions: BTreeSet<&str> = ours.iter().flat_map(|item| revisions(item)).collect();
    let namespaces = variants(INJECTION, ["enabled", "disabled"], &revisions);
    let pods = variants(INJECT, ["true", "false"], &revisions);
    for namespace in &namespaces {
        for pod in &pods {
            overlaps(&named, namespace, pod, report);
        }
    }
    for (object, webhook) in named.values() {
        let Some(service) = &webhook.client_config.service else {
            continue;
        };
        let exists = |found: &Item<corten_api::kubernetes::core::Service>| {
            found.object.key() == (service.namespace.as_str(), service.name.as_str())
        };
        if !world.services.iter().any(exists) {
            let name = format!("{}/{}", service.namespace, service.name);
            let error = format!("Injector refers to a control plane service that does not exist: {name}.");
            report.add_once(&INVALID_WEBHOOK, object, "", &[("error", &error)]);
        }
    }
}

/// Every pod must be for one webhook at most.
fn overlaps(
    named: &BTreeMap<String, (&Arc<Object>, &MutatingWebhook)>,
    namespace: &Labels,
    pod: &Labels,
    report: &mut Report,
) {
    let takes = |(_, (_, webhook)): &(&String, &(&Arc<Object>, &MutatingWebhook))| {
        selector::selects(webhook.namespace_selector.as_ref(), namespace)
            && selector::selects(webhook.object_selector.as_ref(), pod)
    };
    let taking: Vec<(&String, &(&Arc<Object>, &MutatingWebhook))> = named.iter().filter(takes).collect();
    if taking.len() < 2 {
        return;
    }
    for (name, (object, _)) in &taking {
        let others = list(taking.iter().map(|(other, _)| *other).filter(|other| other != name));
        let error = format!("Webhook overlaps with others: {others}. This may cause injection to occur twice.");
        report.add_once(&INVALID_WEBHOOK, object, "", &[("error", &error)]);
    }
}

fn is_istios(item: &Item<MutatingWebhookConfiguration>) -> bool {
    let mut webhooks = item.spec.webhooks.iter().flatten();
    webhooks.any(|webhook| webhook.name.ends_with("istio.io")) || !revisions(item).is_empty()
}

/// The revisions that a configuration is about.
fn revisions(item: &Item<MutatingWebhookConfiguration>) -> BTreeSet<&str> {
    let webhooks = item.spec.webhooks.iter().flatten();
    let selectors = webhooks.flat_map(|webhook| [&webhook.namespace_selector, &webhook.object_selector]);
    let mut found: BTreeSet<&str> = selectors.flatten().flat_map(revisions_of).collect();
    found.extend(item.object.labels.get(REVISION).map(String::as_str));
    found
}

fn revisions_of(selector: &LabelSelector) -> impl Iterator<Item = &str> {
    let label = selector.match_labels.as_ref().and_then(|labels| labels.get(REVISION));
    let expressions = selector
        .match_expressions
        .iter()
        .flatten()
        .filter(|found| found.key == REVISION);
    let values = expressions.flat_map(|found| found.values.iter().flatten());
    label.into_iter().chain(values).map(String::as_str)
}

/// All that labels can say: nothing or one of two words, with each revision or none.
fn variants(key: &str, words: [&str; 2], revisions: &BTreeSet<&str>) -> Vec<Labels> {
    let mut found = Vec::new();
    for revision in std::iter::once(None).chain(revisions.iter().map(Some)) {
        for word in [None, Some(words[0]), Some(words[1])] {
            let word = word.map(|word| (key.to_owned(), word.to_owned()));
            let revision = revision.map(|revision| (REVISION.to_owned(), (*revision).to_owned()));
            found.push(word.into_iter().chain(revision).collect());
        }
    }
    found
}
