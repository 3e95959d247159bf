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
