//! Diagnostics: what of the objects is not honoured, and what is wrong with them.

use corten_api::{
    diagnostic::{Code, Diagnostic, ObjectRef, Severity},
    gateway_api::{
        gateway::ListenerTLSConfig,
        shared::{BackendRef, Condition, ConditionStatus, RouteParentStatus},
    },
    metadata::Metadata,
};

use crate::{
    Conversion, Inputs,
    condition::Problem,
    input::Settings,
    reference::{GATEWAY_GROUP, Kind},
    tls,
};

/// A field that nothing obeys.
pub const NOT_HONOURED: Code = Code("CRT0201");
/// A part of an object that is not accepted.
pub const NOT_ACCEPTED: Code = Code("CRT0202");

fn reference(kind: &str, meta: &Metadata) -> ObjectRef {
    let api_version = match kind {
        "XBackend" | "XBackendTrafficPolicy" => "gateway.networking.x-k8s.io/v1alpha1".to_owned(),
        _ => format!("{GATEWAY_GROUP}/v1"),
    };
    ObjectRef {
        api_version,
        kind: kind.to_owned(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
    }
}

fn diagnostic(code: Code, severity: Severity, object: ObjectRef, path: String, message: String) -> Diagnostic {
    Diagnostic {
        code,
        severity,
        object: Some(object),
        path,
        location: None,
        message,
    }
}

fn failed(kind: &str, meta: &Metadata, path: &str, message: &str, out: &mut Conversion) {
    let object = reference(kind, meta);
    let (path, message) = (path.to_owned(), message.to_owned());
    out.diagnostics
        .push(diagnostic(NOT_ACCEPTED, Severity::Error, object, path, message));
}

/// What the conditions of a Gateway or ListenerSet say against it; addresses come and go by themselves.
pub(crate) fn conditions(kind: Kind<'_>, meta: &Metadata, conditions: &[Condition], out: &mut Conversion) {
    for condition in conditions {
        let path = match condition.type_.as_str() {
            "Accepted" => "spec",
            "ResolvedRefs" => "spec.tls.backend.clientCertificateRef",
            _ => continue,
        };
        if condition.status == ConditionStatus::False {
            failed(kind.kind, meta, path, &condition.message, out);
        }
    }
}

/// What the conditions of a listener say against it.
pub(crate) fn listener(kind: Kind<'_>, meta: &Metadata, name: &str, conditions: &[Condition], out: &mut Conversion) {
    let bad = |condition: &&Condition| match condition.type_.as_str() {
        "Accepted" | "ResolvedRefs" => condition.status == ConditionStatus::False,
        "Conflicted" => condition.status == ConditionStatus::True,
        _ => false,
    };
    for condition in conditions.iter().filter(bad) {
        failed(
            kind.kind,
            meta,
            &format!("spec.listeners[{name}]"),
            &condition.message,
            out,
        );
    }
}

/// What is wrong with a route.
pub(crate) fn route(
    kind: Kind<'_>,
    meta: &Metadata,
    parents: &[RouteParentStatus],
    problems: &[Problem],
    out: &mut Conversion,
) {
    for parent in parents {
        let refused = |c: &&Condition| c.type_ == "Accepted" && c.status == ConditionStatus::False;
        for condition in parent.conditions.iter().filter(refused) {
            let path = format!("spec.parentRefs[{}]", parent.parent_ref.name);
            failed(kind.kind, meta, &path, &condition.message, out);
        }
    }
    for problem in problems {
        failed(kind.kind, meta, "spec.rules", &problem.message, out);
    }
}

/// What is wrong with a policy.
pub(crate) fn policy(kind: &str, meta: &Metadata, problems: &[Problem], out: &mut Conversion) {
    for problem in problems {
        failed(kind, meta, "spec", &problem.message, out);
    }
}

/// What of the inputs nothing honours.
pub(crate) fn inputs(inputs: &Inputs, out: &mut Vec<Diagnostic>) {
    let mut unheard = Unheard { out };
    let no = "is not supported";
    for object in &inputs.classes {
        let mut at = unheard.of("GatewayClass", &object.metadata);
        at.field(object.spec.parameters_ref.is_some(), "spec.parametersRef", no);
    }
    for object in &inputs.gateways {
        let mut at = unheard.of("Gateway", &object.metadata);
        at.field(object.spec.default_scope.is_some(), "spec.defaultScope", no);
        let backend = object.spec.tls.as_ref().and_then(|tls| tls.backend.as_ref());
        at.field(
            backend.is_some_and(|backend| backend.client_certificate_ref.is_some()),
            "spec.tls.backend.clientCertificateRef",
            "is checked, and shown to no backend",
        );
        for (index, listener) in object.spec.listeners.iter().enumerate() {
            at.tls(index, listener.tls.as_ref());
        }
    }
    for object in &inputs.listener_sets {
        let mut at = unheard.of("ListenerSet", &object.metadata);
        for (index, listener) in object.spec.listeners.iter().enumerate() {
            at.tls(index, listener.tls.as_ref());
        }
    }
    for object in &inputs.http_routes {
        let mut at = unheard.of("HTTPRoute", &object.metadata);
        at.field(
            object.spec.use_default_gateways.is_some(),
            "spec.useDefaultGateways",
            no,
        );
        for (i, rule) in object.spec.rules.iter().enumerate() {
            let path = format!("spec.rules[{i}].sessionPersistence");
            at.field(rule.session_persistence.is_some(), &path, no);
        }
    }
    for object in &inputs.grpc_routes {
        let mut at = unheard.of("GRPCRoute", &object.metadata);
        at.field(
            object.spec.use_default_gateways.is_some(),
            "spec.useDefaultGateways",
            no,
        );
        for (i, rule) in object.spec.rules.iter().enumerate() {
            let path = format!("spec.rules[{i}].sessionPersistence");
            at.field(rule.session_persistence.is_some(), &path, no);
        }
    }
    for object in &inputs.tcp_routes {
        let mut at = unheard.of("TCPRoute", &object.metadata);
        at.field(
            object.spec.use_default_gateways.is_some(),
            "spec.useDefaultGateways",
            no,
        );
        let rules = object.spec.rules.iter().map(|rule| rule.backend_refs.as_slice());
        at.later_rules(rules);
    }
    for object in &inputs.tls_routes {
        let mut at = unheard.of("TLSRoute", &object.metadata);
        at.field(
            object.spec.use_default_gateways.is_some(),
            "spec.useDefaultGateways",
            no,
        );
        let rules = object.spec.rules.iter().map(|rule| rule.backend_refs.as_slice());
        at.later_rules(rules);
    }
    for object in &inputs.udp_routes {
        let mut at = unheard.of("UDPRoute", &object.metadata);
        at.field(true, "spec", "is not honoured: datagrams are not routed");
    }
    for object in &inputs.backend_tls_policies {
        let mut at = unheard.of("BackendTLSPolicy", &object.metadata);
        at.field(!object.spec.options.is_empty(), "spec.options", no);
        let path = "spec.validation.caCertificateRefs";
        let several = object.spec.validation.ca_certificate_refs.len() > 1;
        at.field(several, path, "counts only with its first entry");
    }
    experimental(inputs, &inputs.settings, &mut unheard);
}

fn experimental(inputs: &Inputs, settings: &Settings, unheard: &mut Unheard<'_>) {
    let off = "is not honoured: experimental kinds of the Gateway API are off";
    for object in &inputs.backend_traffic_policies {
        let mut at = unheard.of("XBackendTrafficPolicy", &object.metadata);
        at.field(!settings.experimental, "spec", off);
        at.field(
            object.spec.session_persistence.is_some(),
            "spec.sessionPersistence",
            "is not supported",
        );
        let rate = object
            .spec
            .retry_constraint
            .as_ref()
            .and_then(|c| c.min_retry_rate.as_ref());
        let path = "spec.retryConstraint.minRetryRate.interval";
        let given = rate.is_some_and(|rate| rate.interval.is_some());
        at.field(given, path, "is not supported: the count bounds concurrent retries");
    }
    for object in &inputs.backends {
        let mut at = unheard.of("XBackend", &object.metadata);
        at.field(!settings.experimental, "spec", off);
        let certificate = object
            .spec
            .tls
            .as_ref()
            .and_then(|tls| tls.client_certificate_ref.as_ref());
        at.field(
            certificate.is_some(),
            "spec.tls.clientCertificateRef",
            "is not supported",
        );
    }
}

/// Collects what is not heard.
struct Unheard<'a> {
    out: &'a mut Vec<Diagnostic>,
}

struct At<'a> {
    out: &'a mut Vec<Diagnostic>,
    object: ObjectRef,
}

impl Unheard<'_> {
    fn of(&mut self, kind: &str, meta: &Metadata) -> At<'_> {
        At {
            out: self.out,
            object: reference(kind, meta),
        }
    }
}

impl At<'_> {
    fn field(&mut self, given: bool, path: &str, why: &str) {
        if given {
            let name = path.rsplit('.').next().unwrap_or(path);
            let message = format!("{name} {why}");
            let object = self.object.clone();
            let path = path.to_owned();
            self.out
                .push(diagnostic(NOT_HONOURED, Severity::Warning, object, path, message));
        }
    }

    fn tls(&mut self, listener: usize, tls: Option<&ListenerTLSConfig>) {
        for option in tls.iter().flat_map(|tls| tls.options.keys()) {
            let path = format!("spec.listeners[{listener}].tls.options[{option}]");
            self.field(
                !tls::OPTIONS.contains(&option.as_str()),
                &path,
                "is not an option that is known",
            );
        }
    }

    /// Rules of connections have no matches, so that the first takes everything.
    fn later_rules<'a>(&mut self, rules: impl Iterator<Item = &'a [BackendRef]>) {
        for i in (0..rules.count()).skip(1) {
            self.field(
                true,
                &format!("spec.rules[{i}]"),
                "is never reached: the first rule takes every connection",
            );
        }
    }
}
