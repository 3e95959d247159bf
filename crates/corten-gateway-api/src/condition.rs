//! Conditions of a status: what was found, written over what the object already says.
//!
//! A condition that says the same as before keeps its time, so that writing a status again changes nothing.

use std::collections::BTreeMap;

use corten_api::{
    codec::Timestamp,
    gateway_api::shared::{Condition, ConditionStatus},
};

/// What is wrong with an object, as a condition says it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// The reason, in camel case.
    pub reason: String,
    /// The message for people.
    pub message: String,
}

impl Problem {
    /// A problem of a reason.
    pub fn new(reason: &str, message: impl Into<String>) -> Problem {
        Problem {
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    /// Two problems told as one, with the reason of the first.
    pub(crate) fn join(first: Option<Problem>, second: Option<Problem>) -> Option<Problem> {
        match (first, second) {
            (Some(mut first), Some(second)) => {
                first.message = format!("{}; {}", first.message, second.message);
                Some(first)
            }
            (first, second) => first.or(second),
        }
    }
}

/// A condition as it is to be.
#[derive(Debug, Clone)]
struct Finding {
    good: ConditionStatus,
    reason: String,
    message: String,
    problem: Option<Problem>,
}

/// Conditions by their type.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions(BTreeMap<&'static str, Finding>);

impl Conditions {
    /// Adds a condition that holds.
    pub(crate) fn good(mut self, kind: &'static str, reason: &str, message: impl Into<String>) -> Conditions {
        self.set(kind, ConditionStatus::True, reason, message);
        self
    }

    /// Sets a condition to a status, without a problem.
    pub(crate) fn set(
        &mut self,
        kind: &'static str,
        status: ConditionStatus,
        reason: &str,
        message: impl Into<String>,
    ) {
        let finding = Finding {
            good: status,
            reason: reason.to_owned(),
            message: message.into(),
            problem: None,
        };
        self.0.insert(kind, finding);
    }

    /// Changes what a condition says while it holds.
    pub(crate) fn say(&mut self, kind: &'static str, reason: Option<&str>, message: impl Into<String>) {
        if let Some(finding) = self.0.get_mut(kind) {
            finding.message = message.into();
            if let Some(reason) = reason {
                reason.clone_into(&mut finding.reason);
            }
        }
    }

    /// Adds to what a condition says while it holds.
    pub(crate) fn add(&mut self, kind: &'static str, more: &str) {
        if let Some(finding) = self.0.get_mut(kind) {
            finding.message.push_str(more);
        }
    }

    /// Turns a condition around because of a problem.
    pub(crate) fn fail(&mut self, kind: &'static str, problem: Problem) {
        let finding = self.0.entry(kind).or_insert_with(|| Finding {
            good: ConditionStatus::True,
            reason: String::new(),
            message: String::new(),
            problem: None,
        });
        finding.problem = Some(problem);
    }

    /// Every problem.
    pub(crate) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.0.values().filter_map(|finding| finding.problem.as_ref())
    }

    /// Writes the conditions over those an object has.
    pub(crate) fn over(&self, existing: &[Condition], generation: i64, now: Timestamp) -> Vec<Condition> {
        let mut written = existing.to_vec();
        for (kind, finding) in &self.0 {
            let (status, reason, message) = match &finding.problem {
                Some(problem) => (inverse(finding.good), &problem.reason, &problem.message),
                None => (finding.good, &finding.reason, &finding.message),
            };
            let condition = Condition {
                last_transition_time: now,
                message: message.clone(),
                observed_generation: (generation != 0).then_some(generation),
                reason: reason.clone(),
                status,
                type_: (*kind).to_owned(),
            };
            write(&mut written, condition);
        }
        written
    }
}

/// Writes one condition; its time changes with its status only.
fn write(written: &mut Vec<Condition>, mut condition: Condition) {
    match written.iter_mut().find(|c| c.type_ == condition.type_) {
        Some(existing) => {
            if existing.status == condition.status {
                condition.last_transition_time = existing.last_transition_time;
            }
            *existing = condition;
        }
        None => written.push(condition),
    }
}

fn inverse(status: ConditionStatus) -> ConditionStatus {
    match status {
        ConditionStatus::False => ConditionStatus::True,
        ConditionStatus::True | ConditionStatus::Unknown => ConditionStatus::False,
    }
}

/// A list as people read it: `a`, `a and b`, `a, b, and c`.
pub(crate) fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [first @ .., last] => format!("{}, and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp(jiff::Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let first = Conditions::default()
            .good("Accepted", "Accepted", "fine")
            .over(&[], 1, at(1));
        let second = Conditions::default()
            .good("Accepted", "Accepted", "better")
            .over(&first, 2, at(2));
        assert_eq!(
            (second[0].message.as_str(), second[0].last_transition_time),
            ("better", at(1))
        );
        assert_eq!(second[0].observed_generation, Some(2));
        let mut broken = Conditions::default().good("Accepted", "Accepted", "fine");
        broken.fail("Accepted", Problem::new("Invalid", "no"));
        let third = broken.over(&second, 2, at(3));
        assert_eq!(
            (third[0].status, third[0].last_transition_time),
            (ConditionStatus::False, at(3))
        );
    }

    #[test]
    fn conditions_of_others_stay() {
        let theirs = Conditions::default().good("Theirs", "Reason", "").over(&[], 1, at(1));
        let both = Conditions::default().good("Ours", "Reason", "").over(&theirs, 1, at(2));
        let types: Vec<&str> = both.iter().map(|c| c.type_.as_str()).collect();
        assert_eq!(types, ["Theirs", "Ours"]);
    }

    #[test]
    fn lists_read_as_people_write_them() {
        let of = |n: usize| listed(&["a", "b", "c"][..n].iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!([of(0), of(1), of(2), of(3)], ["", "a", "a and b", "a, b, and c"]);
    }
}
