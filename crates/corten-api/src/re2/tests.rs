//! What is taken and what is not. A test beside the generator asks a proxy about the same patterns.

use super::{Problem, check};

#[test]
fn patterns_are_taken_as_re2_takes_them() {
    let mut wrong = Vec::new();
    for line in include_str!("patterns.txt").lines() {
        let (mark, pattern) = line.split_at(1);
        let pattern = pattern.strip_prefix(' ').unwrap_or(pattern);
        match (mark, check(pattern)) {
            ("+", Ok(())) | ("-", Err(_)) => {}
            (_, judged) => wrong.push(format!("{line}: {judged:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_large_is_refused_and_what_is_deep_is_read() {
    assert_eq!(check(&"a".repeat(20_000)), Ok(()));
    assert_eq!(check(&"a".repeat(5_000_000)), Err(Problem::TooLarge));
    let deep = format!("{}a{}", "(".repeat(5_000), ")".repeat(5_000));
    assert_eq!(check(&deep), Ok(()));
    assert_eq!(check(&"(".repeat(10_000)), Err(Problem::Unclosed));
    assert_eq!(check(&"(".repeat(1_000_000)), Err(Problem::TooLarge));
    assert_eq!(check(&"[".repeat(1_000_000)), Err(Problem::UnclosedClass));
    assert_eq!(check(&".{1000}".repeat(10)), Err(Problem::TooLarge));
    assert_eq!(check(&"(a{1000})".repeat(1000)), Err(Problem::TooLarge));
}

#[test]
fn it_is_said_what_is_wrong() {
    for (pattern, message) in [
        ("a**", "\"*\" repeats a repetition; put that into parentheses"),
        (
            "a(?!b)",
            "\"(?!\" means nothing; looking ahead and back is not possible",
        ),
        (
            "a{2000}",
            "\"{2000}\" repeats too often: at most 1000 times, all repetitions in each other together",
        ),
        ("[z-a]", "\"z-a\" is no class or range of characters"),
        (r"\k", r#""\\k" means nothing"#),
        ("", "it is empty"),
    ] {
        assert_eq!(
            check(pattern).map_err(|problem| problem.to_string()),
            Err(message.to_owned()),
            "{pattern}"
        );
    }
}
