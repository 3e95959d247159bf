//! Derives decoding with diagnostics, encoding and schema from one resource type definition.
//!
//! The macros only lay out tables and matches; everything that decides is in `corten_api::codec`, whose traits they
//! implement. They know nothing of Kubernetes or Istio beyond the words of their attributes:
//!
//! - `Message` for a struct: each field becomes a property in camelCase. `#[api(flatten)]` on an `Option<enum>` field
//!   puts the variants of a one-of in the parent; `#[api(flatten)]` with a struct puts its fields there.
//! - `OneOf` for an enum of one-field variants: each variant is a property, of which one may be given.
//! - `Enumeration` for an enum of unit variants: names in SCREAMING_SNAKE_CASE, numbers in order.
//!
//! Attributes, all within `#[api(...)]`: `name = "..."` (the JSON name), `required`, `kubernetes` (on a type: exact
//! names only, no protobuf spellings), `hidden` (not in the schema), `also = "..."` (a second spelling that the schema
//! has as well), `experimental` (only in that channel), `null_items` (a list
//! whose `null` items are left out), `number = N` (of an enum value), and the facts of a schema:
//! `min_length`, `max_length`, `pattern`, `minimum`, `maximum`, `min_items`, `max_items`, `min_properties`,
//! `max_properties`, `format`, `nullable`, `list_type`, `list_map_keys`, `map_type`, `default` (JSON), `int_or_string`,
//! `rule("expression", "message")`, `duration_rule` (at least a millisecond), `items(...)` and `values(...)` for the
//! facts of elements, `when(condition, ...)` for those of one channel (`experimental`, `standard`) or version, `schema = "..."` (JSON, for what has no word).

mod attributes;
mod enumeration;
mod message;
mod one_of;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// A struct whose fields are the properties of an object. See the crate documentation.
#[proc_macro_derive(Message, attributes(api))]
pub fn message(input: TokenStream) -> TokenStream {
    expand(message::derive(&parse_macro_input!(input as DeriveInput)))
}

/// An enum whose variants are properties of the parent, of which one may be given. See the crate documentation.
#[proc_macro_derive(OneOf, attributes(api))]
pub fn one_of(input: TokenStream) -> TokenStream {
    expand(one_of::derive(&parse_macro_input!(input as DeriveInput)))
}

/// An enum of names. See the crate documentation.
#[proc_macro_derive(Enumeration, attributes(api))]
pub fn enumeration(input: TokenStream) -> TokenStream {
    expand(enumeration::derive(&parse_macro_input!(input as DeriveInput)))
}

fn expand(result: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    result.unwrap_or_else(|error| error.to_compile_error()).into()
}
