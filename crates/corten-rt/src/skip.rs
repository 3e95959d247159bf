//! Tests that cannot run on a machine say so, are counted, and become failures where everything is required.

/// Prints `SKIPPED: reason` for the test runner to count; panics instead when `CORTEN_TEST_REQUIRE` is `all`.
///
/// Use [`skip!`](crate::skip), which also returns from the test.
#[track_caller]
pub fn skip_reason(reason: &str) {
    let required = std::env::var("CORTEN_TEST_REQUIRE").is_ok_and(|value| value == "all");
    assert!(!required, "CORTEN_TEST_REQUIRE=all, but this test cannot run: {reason}");
    println!("SKIPPED: {reason}");
}

/// Ends the calling test as skipped, with the reason it cannot run on this machine.
///
/// Takes the arguments of [`format!`]. The reason names what is missing and, where known, how to get it.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        $crate::skip_reason(&format!($($reason)*));
        return;
    }};
}
