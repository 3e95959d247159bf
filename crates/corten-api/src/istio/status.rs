//! The status of all Istio kinds.

use corten_derive::{Enumeration, Message};

use crate::codec::{Struct, Timestamp};

/// What became of an object.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct IstioStatus {
    /// The aspects of the state.
    pub conditions: Vec<IstioCondition>,
    /// What analysis found.
    pub validation_messages: Vec<AnalysisMessageBase>,
    /// The generation of the object that this is about.
    #[api(int_or_string)]
    pub observed_generation: i64,
}

/// One aspect of an object's state.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct IstioCondition {
    /// The type.
    pub type_: String,
    /// The status.
    pub status: String,
    /// When the state was looked at last.
    pub last_probe_time: Option<Timestamp>,
    /// When the state changed last.
    pub last_transition_time: Option<Timestamp>,
    /// Why, in one word, for programs.
    pub reason: String,
    /// What there is to say, for people.
    pub message: String,
    /// The generation of the object that this is about.
    #[api(int_or_string)]
    pub observed_generation: i64,
}

/// The analysis message base type.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct AnalysisMessageBaseType {
    /// The name.
    pub name: String,
    /// The code.
    pub code: String,
}

/// The analysis message base.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct AnalysisMessageBase {
    /// The type.
    pub type_: Option<AnalysisMessageBaseType>,
    /// The level.
    pub level: AnalysisMessageBaseLevel,
    /// The documentation url.
    pub documentation_url: String,
}

/// The arg type.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ArgType {
    /// The name.
    pub name: String,
    /// The go type.
    pub go_type: String,
}

/// The analysis message weak schema.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct AnalysisMessageWeakSchema {
    /// The message base.
    pub message_base: Option<AnalysisMessageBase>,
    /// The description.
    pub description: String,
    /// The template.
    pub template: String,
    /// The args.
    pub args: Vec<ArgType>,
}

/// The generic analysis message.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct GenericAnalysisMessage {
    /// The message base.
    pub message_base: Option<AnalysisMessageBase>,
    /// The args.
    pub args: Option<Struct>,
    /// The resource paths.
    pub resource_paths: Vec<String>,
}

/// The internal error analysis message.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct InternalErrorAnalysisMessage {
    /// The message base.
    pub message_base: Option<AnalysisMessageBase>,
    /// The detail.
    pub detail: String,
}

/// The analysis message base level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum AnalysisMessageBaseLevel {
    /// The value `UNKNOWN`.
    #[default]
    Unknown,
    /// The value `ERROR`.
    #[api(number = 3)]
    Error,
    /// The value `WARNING`.
    #[api(number = 8)]
    Warning,
    /// The value `INFO`.
    #[api(number = 12)]
    Info,
}
