//! The fuzzer's corpus, replayed: what it once found interesting stays covered by plain `cargo test`.

use std::path::Path;

use corten_api::{decode::objects, validate};

#[test]
fn the_corpus_decodes_without_a_panic() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/decode");
    let files: Vec<_> = std::fs::read_dir(&corpus)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    assert!(!files.is_empty(), "no corpus at {}", corpus.display());
    for file in files {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap_or_default()).into_owned();
        for object in objects("corpus", &text).0 {
            let (again, problems) = objects("again", &object.to_value().to_string());
            assert_eq!(problems, [], "{}", file.display());
            assert_eq!(
                again.first().map(|o| o.to_value()),
                Some(object.to_value()),
                "{}",
                file.display()
            );
            validate::object(&object);
        }
    }
}
