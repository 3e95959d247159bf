//! What is wrong with configuration: questions about many objects at once, answered by messages with Istio's codes. Pure.
//!
//! Objects go in as they were written, with their places; messages come out, each with the object, the field and the place. One module answers
//! the questions of one subject, [`analyzers::ALL`] is the table of them. The command `corten analyze`, the webhook and status use the same code;
//! nothing here reads files, asks a cluster, or knows how messages are shown beyond their one-line form.

pub mod analyzers;
pub mod beside;
pub mod catalogue;
mod hosts;
mod membership;
pub mod message;
pub mod objects;
mod report;
mod selector;
pub mod suppress;

pub use message::Message;
pub use objects::{Sources, World};
pub use report::{Report, SUPPRESS};

use analyzers::Analyzer;

/// Everything that these analyzers say, the worst first.
pub fn analyze<'a>(world: &World, analyzers: impl IntoIterator<Item = &'a Analyzer>) -> Vec<Message> {
    let mut report = Report::default();
    for analyzer in analyzers {
        analyzer.run(world, &mut report);
    }
    let mut messages = report.into_messages();
    message::sort(&mut messages);
    messages
}

#[cfg(test)]
mod tests;
