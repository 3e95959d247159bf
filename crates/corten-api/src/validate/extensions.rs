//! WasmPlugin and TrafficExtension.

use std::collections::BTreeSet;

use super::{
    Context, Report, Validate,
    selector::Attachment,
    text::{self, shown},
    url,
};
use crate::istio::{
    extensions::{EnvValueSource, TrafficExtensionFilterConfig, TrafficExtensionSpec, VmConfig, WasmPluginSpec},
    selector::PortSelector,
};

/// Where a module comes from and what it is called.
struct Module<'a> {
    at: &'static str,
    url: &'a str,
    sha256: &'a str,
    image_pull_secret: &'a str,
    plugin_name: &'a str,
    vm_config: Option<&'a VmConfig>,
}

impl Validate for WasmPluginSpec {
    fn validate(&self, _: Context<'_>, report: &mut Report) {
        let attachment = Attachment {
            selector: self.selector.as_ref(),
            target_ref: self.target_ref.as_ref(),
            target_refs: &self.target_refs,
        };
        attachment.validate(report);
        let module = Module {
            at: "spec",
            url: &self.url,
            sha256: &self.sha256,
            image_pull_secret: &self.image_pull_secret,
            plugin_name: &self.plugin_name,
            vm_config: self.vm_config.as_ref(),
        };
        module.validate(report);
        ports(self.match_.iter().map(|selector| selector.ports.as_slice()), report);
    }
}

impl Validate for TrafficExtensionSpec {
    fn validate(&self, _: Context<'_>, report: &mut Report) {
        let attachment = Attachment {
            selector: self.selector.as_ref(),
            target_ref: None,
            target_refs: &self.target_refs,
        };
        attachment.validate(report);
        match &self.filter_config {
            None => report.error("spec", "needs wasm or lua"),
            Some(TrafficExtensionFilterConfig::Lua(lua)) => {
                const MOST: usize = 64 << 10;
                match lua.inline_code.len() {
                    0 => report.error("spec.lua.inlineCode", "required"),
                    bytes if bytes > MOST => {
                        report.error("spec.lua.inlineCode", format!("{bytes} bytes are more than {MOST}"));
                    }
                    _ => {}
                }
            }
            Some(TrafficExtensionFilterConfig::Wasm(wasm)) => {
                let module = Module {
                    at: "spec.wasm",
                    url: &wasm.url,
                    sha256: &wasm.sha256,
                    image_pull_secret: &wasm.image_pull_secret,
                    plugin_name: &wasm.plugin_name,
                    vm_config: wasm.vm_config.as_ref(),
                };
                module.validate(report);
            }
        }
        ports(self.match_.iter().map(|selector| selector.ports.as_slice()), report);
    }
}

impl Module<'_> {
    fn validate(&self, report: &mut Report) {
        let at = self.at;
        report.check(format!("{at}.url"), url::module(self.url));
        let digest = self.sha256.len() == 64 && self.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !self.sha256.is_empty() && !digest {
            report.error(format!("{at}.sha256"), "must be 64 digits and letters from a to f");
        }
        for (field, value, most) in [
            ("imagePullSecret", self.image_pull_secret, 253),
            ("pluginName", self.plugin_name, 256),
        ] {
            if value.len() > most {
                report.error(format!("{at}.{field}"), format!("has more than {most} characters"));
            }
        }
        let mut names = BTreeSet::new();
        for (i, variable) in self.vm_config.iter().flat_map(|config| &config.env).enumerate() {
            let at = format!("{at}.vmConfig.env[{i}]");
            match variable.name.len() {
                0 => report.error(format!("{at}.name"), "required"),
                1..=256 => {}
                _ => report.error(format!("{at}.name"), "has more than 256 characters"),
            }
            if !names.insert(&variable.name) {
                report.error(
                    format!("{at}.name"),
                    format!("{} is already given", shown(&variable.name)),
                );
            }
            if variable.value_from != EnvValueSource::Inline && !variable.value.is_empty() {
                report.error(format!("{at}.value"), "only when valueFrom is INLINE");
            }
        }
    }
}

fn ports<'a>(matches: impl Iterator<Item = &'a [PortSelector]>, report: &mut Report) {
    for (i, ports) in matches.enumerate() {
        for (j, port) in ports.iter().enumerate() {
            report.check(format!("spec.match[{i}].ports[{j}].number"), text::port(port.number.0));
        }
    }
}
