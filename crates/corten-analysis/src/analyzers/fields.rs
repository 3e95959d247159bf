//! Every object on its own: what of it cannot be decoded, and what breaks the rules of its kind.

use std::sync::Arc;

use corten_api::diagnostic::{Code, Diagnostic, Severity};
use corten_api::validate;

use super::Input;
use crate::catalogue;
use crate::objects::{Object, World};
use crate::report::Report;

pub(super) fn check(world: &World, inputs: &[Input], report: &mut Report) {
    for object in &world.all {
        if inputs.iter().any(|input| object.is(input.group, input.kind)) {
            for found in validate::object(&object.spanned) {
                say(object, found, report);
            }
        }
    }
}

fn say(object: &Arc<Object>, found: Diagnostic, report: &mut Report) {
    if unused(object, &found, report).is_some() {
        return;
    }
    let text = match found.path.as_str() {
        "" => found.message,
        path => format!("{path}: {}", found.message),
    };
    if found.code != Code::INVALID {
        report.add_text(found.code, found.severity, object, &found.path, text);
        return;
    }
    let kind = match found.severity {
        Severity::Error => &catalogue::SCHEMA_VALIDATION_ERROR,
        Severity::Warning | Severity::Info => &catalogue::SCHEMA_WARNING,
    };
    report.add(kind, object, &found.path, &[("err", &text)]);
}

/// Routes and matches that are never used have codes of their own.
fn unused(object: &Arc<Object>, found: &Diagnostic, report: &mut Report) -> Option<()> {
    if !object.is("networking.istio.io", "VirtualService") || found.severity != Severity::Warning {
        return None;
    }
    let reason = ["never used: ", "may never be used: "]
        .iter()
        .find_map(|begin| found.message.strip_prefix(begin))?;
    let (list, rest) = found.path.strip_prefix("spec.")?.split_once('[')?;
    let (index, rest) = rest.split_once(']')?;
    let rule = |index: &str| named(object, &["spec", list], index);
    let Some(request) = rest.strip_prefix(".match[").and_then(|rest| rest.strip_suffix(']')) else {
        let parameters = [("ruleno", &*rule(index)), ("reason", reason)];
        report.add(
            &catalogue::VIRTUAL_SERVICE_UNREACHABLE_RULE,
            object,
            &found.path,
            &parameters,
        );
        return Some(());
    };
    // The reason begins with the route that has it, too.
    let (_, before) = reason.split_once('[')?;
    let (before, _) = before.split_once(']')?;
    let parameters = [
        ("ruleno", &*rule(index)),
        ("matchno", &*format!("#{request}")),
        ("dupno", &*rule(before)),
    ];
    report.add(
        &catalogue::VIRTUAL_SERVICE_INEFFECTIVE_MATCH,
        object,
        &found.path,
        &parameters,
    );
    Some(())
}

/// An item of a list by its name, or else by its number.
fn named(object: &Object, list: &[&str], index: &str) -> String {
    let node = list
        .iter()
        .try_fold(&object.spanned.root, |node, field| node.get(field));
    let item = index.parse().ok().and_then(|index: usize| node?.items().get(index));
    match item.and_then(|item| item.get("name")?.as_str()) {
        Some(name) if !name.is_empty() => format!("{name:?}"),
        _ => format!("#{index}"),
    }
}
