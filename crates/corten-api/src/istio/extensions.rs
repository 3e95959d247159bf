//! WasmPlugin and TrafficExtension: code loaded into proxies.

use corten_derive::{Enumeration, Message, OneOf};

use super::selector::{PolicyTargetReference, PortSelector, WorkloadMode, WorkloadSelector};
use crate::codec::Struct;

/// Code loaded into proxies: WebAssembly or Lua.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(
    rule(
        "(has(self.selector) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
        "only one of targetRefs or selector can be set"
    ),
    rule("has(self.wasm) != has(self.lua)", "exactly one of wasm or lua must be set")
)]
pub struct TrafficExtensionSpec {
    /// The workloads it is for; all of the namespace, when left out.
    pub selector: Option<WorkloadSelector>,
    /// The objects it is attached to.
    #[api(max_items = 16)]
    pub target_refs: Vec<PolicyTargetReference>,
    /// Where in the chain of filters it goes.
    pub phase: ExecutionPhase,
    /// The order among those of the same phase; higher comes first.
    #[api(nullable)]
    pub priority: Option<i32>,
    /// The conditions.
    pub match_: Vec<TrafficSelector>,
    /// The filter config.
    #[api(flatten)]
    pub filter_config: Option<TrafficExtensionFilterConfig>,
}

/// The traffic extension filter config.
#[derive(Debug, Clone, PartialEq, OneOf)]
pub enum TrafficExtensionFilterConfig {
    /// The wasm.
    Wasm(WasmConfig),
    /// The lua.
    Lua(LuaConfig),
}

/// A WebAssembly module loaded into proxies.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(rule(
    "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
    "only one of targetRefs or selector can be set"
))]
pub struct WasmPluginSpec {
    /// The workloads it is for; all of the namespace, when left out.
    pub selector: Option<WorkloadSelector>,
    /// The one object it is attached to; deprecated in favour of `targetRefs`.
    pub target_ref: Option<PolicyTargetReference>,
    /// The objects it is attached to.
    #[api(max_items = 16)]
    pub target_refs: Vec<PolicyTargetReference>,
    /// Where the module comes from: oci, http, https or file.
    #[api(required, min_length = 1, rule(r#"isURL(self) ? (url(self).getScheme() in ["", "http", "https", "oci", "file"]) : (isURL("http://" + self) &&
url("http://" + self).getScheme() in ["", "http", "https", "oci", "file"])"#, "url must have schema one of [http, https, file, oci]"))]
    pub url: String,
    /// The checksum of the module.
    #[api(pattern = "(^$|^[a-f0-9]{64}$)")]
    pub sha256: String,
    /// When the image is fetched again.
    pub image_pull_policy: PullPolicy,
    /// The secret to fetch the image with.
    #[api(max_length = 253, min_length = 1)]
    pub image_pull_secret: String,
    /// The verification key.
    pub verification_key: String,
    /// The configuration handed to the module.
    pub plugin_config: Option<Struct>,
    /// The name the module knows itself by.
    #[api(max_length = 256, min_length = 1)]
    pub plugin_name: String,
    /// Where in the chain of filters it goes.
    pub phase: PluginPhase,
    /// The order among those of the same phase; higher comes first.
    #[api(nullable)]
    pub priority: Option<i32>,
    /// What happens when the module fails.
    pub fail_strategy: FailStrategy,
    /// The environment of the module.
    pub vm_config: Option<VmConfig>,
    /// The conditions.
    pub match_: Vec<WasmPluginTrafficSelector>,
    /// The type.
    pub type_: PluginType,
}

/// The wasm config.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct WasmConfig {
    /// Where the module comes from.
    #[api(required, min_length = 1, rule(r#"isURL(self) ? (url(self).getScheme() in ["", "http", "https", "file", "oci"]) : (isURL("http://" + self) &&
url("http://" + self).getScheme() in ["", "http", "https", "file", "oci"])"#, "url must have schema one of [http, https, file, oci]"))]
    pub url: String,
    /// The checksum of the module.
    #[api(pattern = "(^$|^[a-f0-9]{64}$)")]
    pub sha256: String,
    /// When the image is fetched again.
    pub image_pull_policy: PullPolicy,
    /// The secret to fetch the image with.
    #[api(max_length = 253, min_length = 1)]
    pub image_pull_secret: String,
    /// The verification key.
    pub verification_key: String,
    /// The configuration handed to the module.
    pub plugin_config: Option<Struct>,
    /// The name the module knows itself by.
    #[api(max_length = 256, min_length = 1)]
    pub plugin_name: String,
    /// What happens when the module fails.
    pub fail_strategy: FailStrategy,
    /// The environment of the module.
    pub vm_config: Option<VmConfig>,
    /// The type.
    pub type_: PluginType,
}

/// The lua config.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct LuaConfig {
    /// The inline code.
    #[api(required, max_length = 65536, min_length = 1)]
    pub inline_code: String,
}

/// The traffic selector.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TrafficSelector {
    /// The mode.
    pub mode: WorkloadMode,
    /// The ports.
    #[api(list_map_keys("number"), list_type = "map")]
    pub ports: Vec<PortSelector>,
}

/// The wasm plugin traffic selector.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct WasmPluginTrafficSelector {
    /// The mode.
    pub mode: WorkloadMode,
    /// The ports.
    #[api(list_map_keys("number"), list_type = "map")]
    pub ports: Vec<PortSelector>,
}

/// The vm config.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct VmConfig {
    /// The env.
    #[api(max_items = 256, list_map_keys("name"), list_type = "map")]
    pub env: Vec<EnvVar>,
}

/// The env var.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(rule(
    r#"(has(self.valueFrom) ? self.valueFrom : "") != "HOST" || !has(self.value)"#,
    "value may only be set when valueFrom is INLINE"
))]
pub struct EnvVar {
    /// The name.
    #[api(required, max_length = 256, min_length = 1)]
    pub name: String,
    /// The value from.
    pub value_from: EnvValueSource,
    /// The value.
    #[api(max_length = 2048)]
    pub value: String,
}

/// The execution phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum ExecutionPhase {
    /// The value `UNSPECIFIED`.
    #[default]
    Unspecified,
    /// The value `AUTHN`.
    Authn,
    /// The value `AUTHZ`.
    Authz,
    /// The value `STATS`.
    Stats,
}

/// The plugin type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum PluginType {
    /// The value `UNSPECIFIED_PLUGIN_TYPE`.
    #[default]
    UnspecifiedPluginType,
    /// The value `HTTP`.
    Http,
    /// The value `NETWORK`.
    Network,
}

/// The plugin phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum PluginPhase {
    /// The value `UNSPECIFIED_PHASE`.
    #[default]
    UnspecifiedPhase,
    /// The value `AUTHN`.
    Authn,
    /// The value `AUTHZ`.
    Authz,
    /// The value `STATS`.
    Stats,
}

/// The pull policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum PullPolicy {
    /// The value `UNSPECIFIED_POLICY`.
    #[default]
    UnspecifiedPolicy,
    /// The if not present.
    #[api(name = "IfNotPresent")]
    Ifnotpresent,
    /// The always.
    #[api(name = "Always")]
    Always,
}

/// The env value source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum EnvValueSource {
    /// The value stands here.
    #[default]
    Inline,
    /// The proxy's own variable of this name.
    Host,
}

/// The fail strategy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum FailStrategy {
    /// Requests are refused.
    #[default]
    FailClose,
    /// Requests go on without the module.
    FailOpen,
    /// The module is loaded again.
    FailReload,
}
