//! The list of cases that are known to fail, which only shrinks.

use std::collections::BTreeSet;

use crate::outcome::Case;

/// The cases listed in `known-failures.txt`.
#[derive(Debug, Default)]
pub(crate) struct KnownFailures(BTreeSet<String>);

impl KnownFailures {
    /// The list that is checked in beside this crate.
    pub(crate) fn shipped() -> Self {
        Self::parse(include_str!("../known-failures.txt"))
    }

    fn parse(text: &str) -> Self {
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(lines.map(str::to_owned).collect())
    }

    /// Whether the case is listed.
    pub(crate) fn contains(&self, case: &Case) -> bool {
        self.0.contains(&case.to_string())
    }

    /// The listed cases that are not among those that ran.
    pub(crate) fn missing_from(&self, cases: &[Case]) -> Vec<&str> {
        let ran: BTreeSet<String> = cases.iter().map(Case::to_string).collect();
        self.0
            .iter()
            .filter(|listed| !ran.contains(*listed))
            .map(String::as_str)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;

    #[test]
    fn comments_and_blank_lines_are_not_cases() {
        let known = KnownFailures::parse("# why\n\na/b c\n");
        let case = Case {
            area: "a".into(),
            case: "b c".into(),
            outcome: Outcome::Passed,
        };
        assert!(known.contains(&case));
        assert!(known.missing_from(&[case]).is_empty());
        assert_eq!(known.missing_from(&[]), ["a/b c"]);
    }
}
