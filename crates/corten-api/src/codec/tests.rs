//! One definition, three uses, as data.

use std::collections::BTreeMap;

use corten_core::Duration;
use corten_derive::{Enumeration, Message, OneOf};
use serde_json::{Value, json};

use super::{SchemaCx, Struct, decode, message_schema};
use crate::{
    codec::{Field, Message as _},
    decode::documents,
};

/// Lunch.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(rule("self.size() > 0", "eat something"))]
struct Lunch {
    /// The dish.
    #[api(required, min_length = 1, pattern = "^[a-z\\d]+$")]
    main_dish: String,
    #[api(max_items = 3, items(max_length = 9))]
    sides: Vec<String>,
    #[api(duration_rule)]
    within: Option<Duration>,
    size: Size,
    prices: BTreeMap<String, f64>,
    #[api(flatten)]
    drink: Option<Drink>,
    extra: Option<Struct>,
    #[api(minimum = 1)]
    guests: Option<u32>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Enumeration)]
enum Size {
    #[default]
    Unset,
    VeryLarge,
}

#[derive(Debug, Clone, PartialEq, OneOf)]
enum Drink {
    FlatWater(bool),
    Wine(Box<Lunch>),
}

fn read(text: &str) -> (Lunch, Vec<String>) {
    let (nodes, _) = documents("f", text);
    let (lunch, problems) = decode::<Lunch>(&nodes[0]);
    let shown = problems
        .iter()
        .map(|p| format!("{} {} {}: {}", p.at, p.code, p.path, p.message))
        .collect();
    (lunch.unwrap_or_default(), shown)
}

#[test]
fn both_spellings_decode_and_one_is_written() {
    let (lunch, problems) = read(
        "main_dish: soup\nsides: [a, b]\nwithin: 1m30s\nsize: 1\nprices: {a: 1.5}\nflat_water: false\nextra: {x: [1]}\nguests: '3'",
    );
    assert_eq!(problems, [""; 0]);
    assert_eq!(
        lunch.encode(),
        json!({"mainDish": "soup", "sides": ["a", "b"], "within": "90s", "size": "VERY_LARGE", "prices": {"a": 1.5},
            "flatWater": false, "extra": {"x": [1]}, "guests": 3})
    );
}

#[test]
fn what_is_wrong_is_reported_and_the_rest_is_kept() {
    let (lunch, problems) = read(
        "mainDsh: soup\nsides: [a, 2]\nwithin: soon\nsize: huge\nprices: []\nflatWater: true\nwine: {mainDish: x}\nguests: -1",
    );
    assert_eq!(
        problems,
        [
            "1:1 CRT0005 mainDsh: unknown field; did you mean mainDish?",
            "2:12 CRT0006 sides[1]: a string (put the value in quotes) expected, this is a number",
            "3:9 CRT0007 within: 'soon' is not a duration such as 5s, 1m30s or 250ms",
            "4:7 CRT0007 size: 'huge' is not one of UNSET, VERY_LARGE",
            "5:9 CRT0006 prices: a mapping expected, this is a list",
            "7:7 CRT0009 wine: only one of this and flatWater may be given; remove one",
            "8:9 CRT0007 guests: -1 is not between 0 and 4294967295",
        ]
    );
    assert_eq!(
        lunch,
        Lunch {
            sides: vec!["a".into()],
            drink: Some(Drink::FlatWater(true)),
            ..Lunch::default()
        }
    );
}

#[test]
fn the_schema_has_the_facts() {
    // `Drink::Wine` nests the type in itself, which no schema can; look at one level only.
    fn shallow(field: &super::FieldInfo) -> Value {
        let cx = SchemaCx {
            experimental: false,
            version: "v1",
        };
        let info = Box::leak(Box::new(super::MessageInfo {
            name: "One",
            doc: "",
            facts: "",
            proto_names: true,
            fields: Box::leak(Box::new([super::FieldInfo {
                kind: super::FieldKind::Plain,
                ..*field
            }])),
        }));
        message_schema(info, &cx)["properties"][field.name].clone()
    }
    let fields = Lunch::INFO.fields;
    let schemas: Vec<Value> = [0, 1, 2, 3]
        .iter()
        .filter_map(|i| fields.get(*i))
        .map(shallow)
        .collect();
    assert_eq!(
        schemas,
        [
            json!({"type": "string", "minLength": 1, "pattern": "^[a-z\\d]+$", "description": "The dish."}),
            json!({"type": "array", "maxItems": 3, "items": {"type": "string", "maxLength": 9}}),
            json!({"type": "string", "x-kubernetes-validations": [{"rule": "duration(self) >= duration('1ms')", "message": "must be a valid duration greater than 1ms"}]}),
            json!({"type": "string", "enum": ["UNSET", "VERY_LARGE"]}),
        ]
    );
    assert_eq!(
        Lunch::INFO.facts,
        r#"{"x-kubernetes-validations":[{"rule":"self.size() > 0","message":"eat something"}]}"#
    );
}
