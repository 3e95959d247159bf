//! Texts to objects: no text makes the decoder panic, hang, or keep more than a small multiple of the text's size, and
//! what was decoded decodes again from its JSON form.
#![no_main]

use corten_api::decode::{Limits, Node, objects, objects_within};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let limits = Limits { alias_bytes: 1 << 16, ..Limits::default() };
    let (found, diagnostics) = objects_within("fuzz.yaml", text, &limits);
    for diagnostic in &diagnostics {
        assert!(!diagnostic.to_string().is_empty());
    }
    for object in &found {
        let value = object.to_value();
        assert_eq!(Node::from_value(&value).to_value(), value);
        let (again, problems) = objects("again.json", &value.to_string());
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(again.iter().map(|o| o.to_value()).collect::<Vec<_>>(), [value]);
        // Whatever it is, judging it must not panic.
        let _ = corten_api::validate::object(object);
    }
});
