//! The fuzzer's corpus, replayed: what it once found interesting stays covered by plain `cargo test`.

use std::path::Path;

#[path = "fuzzing/mod.rs"]
mod fuzzing;

#[track_caller]
fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let files: Vec<_> = std::fs::read_dir(&corpus)
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert!(!files.is_empty(), "no corpus at {}", corpus.display());
    for file in files {
        run(&std::fs::read(&file).expect("a file"));
    }
}

#[test]
fn h2_server() {
    replay("h2_server", fuzzing::server);
}

#[test]
fn h2_client() {
    replay("h2_client", fuzzing::client);
}

#[test]
fn hpack() {
    replay("hpack", fuzzing::hpack);
}
