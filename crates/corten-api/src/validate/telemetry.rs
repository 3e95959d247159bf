//! Telemetry.

use super::{Context, Report, Validate, selector::Attachment, text::shown};
use crate::istio::telemetry::{
    AccessLogging, MetricSelectorMetricMatch, Metrics, ProviderRef, TagOverrideOperation, TelemetrySpec, Tracing,
    TracingCustomTagType,
};

impl Validate for TelemetrySpec {
    fn validate(&self, _: Context<'_>, report: &mut Report) {
        let attachment = Attachment {
            selector: self.selector.as_ref(),
            target_ref: self.target_ref.as_ref(),
            target_refs: &self.target_refs,
        };
        attachment.validate(report);
        for (i, entry) in self.metrics.iter().enumerate() {
            metrics(&format!("spec.metrics[{i}]"), entry, report);
        }
        if self.tracing.len() > 1 {
            report.warning("spec.tracing", "only one entry is supported");
        }
        for (i, entry) in self.tracing.iter().enumerate() {
            tracing(&format!("spec.tracing[{i}]"), entry, report);
        }
        for (i, entry) in self.access_logging.iter().enumerate() {
            access_logging(&format!("spec.accessLogging[{i}]"), entry, report);
        }
    }
}

fn providers(at: &str, providers: &[ProviderRef], report: &mut Report) {
    for i in providers
        .iter()
        .enumerate()
        .filter(|(_, provider)| provider.name.is_empty())
        .map(|(i, _)| i)
    {
        report.error(format!("{at}.providers[{i}].name"), "required");
    }
}

fn metrics(at: &str, metrics: &Metrics, report: &mut Report) {
    providers(at, &metrics.providers, report);
    for (i, change) in metrics.overrides.iter().enumerate() {
        let at = format!("{at}.overrides[{i}]");
        for (name, tag) in &change.tag_overrides {
            let at = format!("{at}.tagOverrides[{name}]");
            if name.is_empty() {
                report.warning(&at, "a tag without a name has no effect");
            }
            match tag.operation {
                TagOverrideOperation::Upsert if tag.value.is_empty() => {
                    report.error(format!("{at}.value"), "required for operation UPSERT");
                }
                TagOverrideOperation::Remove if !tag.value.is_empty() => {
                    report.error(format!("{at}.value"), "only for operation UPSERT");
                }
                TagOverrideOperation::Upsert | TagOverrideOperation::Remove => {}
            }
        }
        let metric = change.match_.as_ref().and_then(|m| m.metric_match.as_ref());
        if matches!(metric, Some(MetricSelectorMetricMatch::CustomMetric(name)) if name.is_empty()) {
            report.error(format!("{at}.match.customMetric"), "must not be empty");
        }
    }
}

fn tracing(at: &str, tracing: &Tracing, report: &mut Report) {
    if tracing.providers.len() > 1 {
        report.warning(format!("{at}.providers"), "only one provider is supported");
    }
    providers(at, &tracing.providers, report);
    if let Some(percentage) = tracing
        .random_sampling_percentage
        .filter(|p| !(0.0..=100.0).contains(p))
    {
        report.error(
            format!("{at}.randomSamplingPercentage"),
            format!("{percentage} is not between 0 and 100"),
        );
    }
    for (name, tag) in &tracing.custom_tags {
        let at = format!("{at}.customTags[{name}]");
        if name.is_empty() {
            report.error(&at, "a tag needs a name");
        }
        let empty = match &tag.type_ {
            Some(TracingCustomTagType::Literal(literal)) => ("literal.value", literal.value.is_empty()),
            Some(TracingCustomTagType::Header(header)) => ("header.name", header.name.is_empty()),
            Some(TracingCustomTagType::Environment(variable)) => ("environment.name", variable.name.is_empty()),
            Some(TracingCustomTagType::Formatter(_)) | None => continue,
        };
        if let (field, true) = empty {
            report.error(format!("{at}.{field}"), "must not be empty");
        }
    }
}

fn access_logging(at: &str, logging: &AccessLogging, report: &mut Report) {
    if let Some(filter) = &logging.filter
        && let Err(error) = cel::Program::compile(&filter.expression)
    {
        let reason = error.to_string().lines().next().unwrap_or_default().to_owned();
        let message = format!("{} is not an expression of CEL: {reason}", shown(&filter.expression));
        report.error(format!("{at}.filter.expression"), message);
    }
    providers(at, &logging.providers, report);
}
