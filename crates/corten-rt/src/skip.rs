//! Tests that cannot run on a machine say so, are counted, and become failures where everything is required.

use std::io::Write;

/// Prints `SKIPPED: reason` for the test runner to count; panics instead when `CORTEN_TEST_REQUIRE` is `all`.
///
/// Use [`skip!`](crate::skip), which also returns from the test. With `CORTEN_SKIP_LOG` set, the line is appended to that file too.
#[track_caller]
pub fn skip_reason(reason: &str) {
    let required = std::env::var("CORTEN_TEST_REQUIRE").is_ok_and(|value| value == "all");
    assert!(!required, "CORTEN_TEST_REQUIRE=all, but this test cannot run: {reason}");
    println!("SKIPPED: {reason}");
    // The runner captures the output of tests that pass, so it is also told by a file.
    if let Some(log) = std::env::var_os("CORTEN_SKIP_LOG") {
        let line = format!("{}: {reason}\n", std::thread::current().name().unwrap_or("a test"));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log);
        // One write of a short line is atomic for a file opened to append.
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the file in CORTEN_SKIP_LOG can be written");
    }
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
