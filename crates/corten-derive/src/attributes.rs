//! What `#[api(...)]` and doc comments say, ready to be laid out.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Attribute, Expr, ExprLit, Lit, LitStr, Meta, Token, meta::ParseNestedMeta, punctuated::Punctuated};

/// The attributes of one type, field or variant.
#[derive(Default)]
pub(crate) struct Attributes {
    pub(crate) name: Option<String>,
    pub(crate) also: Option<String>,
    pub(crate) number: Option<i32>,
    pub(crate) required: bool,
    pub(crate) flatten: bool,
    pub(crate) kubernetes: bool,
    pub(crate) hidden: bool,
    pub(crate) experimental: bool,
    pub(crate) null_items: bool,
    pub(crate) doc: String,
    pub(crate) facts: Facts,
}

/// Facts of a schema as JSON members.
#[derive(Default)]
pub(crate) struct Facts {
    members: Vec<(String, String)>,
    rules: Vec<String>,
}

impl Facts {
    /// The facts as a JSON object; empty when there are none.
    pub(crate) fn json(&self) -> String {
        let mut members: Vec<String> = self
            .members
            .iter()
            .map(|(key, json)| {
                if key == SPLICE {
                    json.clone()
                } else {
                    format!("{}:{json}", quoted(key))
                }
            })
            .collect();
        if !self.rules.is_empty() {
            members.push(format!("\"x-kubernetes-validations\":[{}]", self.rules.join(",")));
        }
        if members.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", members.join(","))
        }
    }

    fn member(&mut self, key: &str, json: impl Into<String>) {
        self.members.push((key.to_owned(), json.into()));
    }
}

impl Attributes {
    pub(crate) fn parse(attributes: &[Attribute]) -> syn::Result<Attributes> {
        let mut parsed = Attributes::default();
        let mut doc = Vec::new();
        for attribute in attributes {
            if attribute.path().is_ident("doc") {
                if let Meta::NameValue(pair) = &attribute.meta
                    && let Expr::Lit(ExprLit {
                        lit: Lit::Str(text), ..
                    }) = &pair.value
                {
                    doc.push(text.value().trim().to_owned());
                }
            } else if attribute.path().is_ident("api") {
                attribute.parse_nested_meta(|meta| parsed.word(&meta))?;
            }
        }
        parsed.doc = doc.join("\n").trim().to_owned();
        Ok(parsed)
    }

    fn word(&mut self, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        let word = meta.path.require_ident()?.to_string();
        match word.as_str() {
            "name" => self.name = Some(text(meta)?),
            "also" => self.also = Some(text(meta)?),
            "number" => self.number = Some(meta.value()?.parse::<syn::LitInt>()?.base10_parse()?),
            "required" => self.required = true,
            "flatten" => self.flatten = true,
            "kubernetes" => self.kubernetes = true,
            "hidden" => self.hidden = true,
            "experimental" => self.experimental = true,
            "null_items" => self.null_items = true,
            _ => self.facts.word(&word, meta)?,
        }
        Ok(())
    }
}

impl Facts {
    fn word(&mut self, word: &str, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        match word {
            "min_length" | "max_length" | "minimum" | "maximum" | "min_items" | "max_items" | "min_properties"
            | "max_properties" => {
                let key = camel(word);
                let number: Expr = meta.value()?.parse()?;
                self.member(&key, number.to_token_stream().to_string().replace(' ', ""));
            }
            "pattern" | "format" => self.member(word, quoted(&text(meta)?)),
            "list_type" => self.member("x-kubernetes-list-type", quoted(&text(meta)?)),
            "map_type" => self.member("x-kubernetes-map-type", quoted(&text(meta)?)),
            "nullable" => self.member("nullable", "true"),
            "default" | "schema" => {
                let json = text(meta)?;
                if word == "default" {
                    self.member("default", json);
                } else {
                    let inner = json.trim().strip_prefix('{').and_then(|j| j.strip_suffix('}'));
                    let inner = inner.ok_or_else(|| meta.error("`schema` takes a JSON object"))?;
                    // Spliced as it is: the members of the object follow those before them.
                    self.members.push((SPLICE.to_owned(), inner.to_owned()));
                }
            }
            "int_or_string" => {
                self.member("type", "null");
                self.member("format", "null");
                self.member("anyOf", r#"[{"type":"integer"},{"type":"string"}]"#);
                self.member("x-kubernetes-int-or-string", "true");
            }
            "duration_rule" => self.rules.push(rule(
                "duration(self) >= duration('1ms')",
                "must be a valid duration greater than 1ms",
            )),
            "rule" | "list_map_keys" => {
                let content;
                syn::parenthesized!(content in meta.input);
                let texts: Vec<String> = Punctuated::<LitStr, Token![,]>::parse_terminated(&content)?
                    .iter()
                    .map(LitStr::value)
                    .collect();
                match (word, texts.as_slice()) {
                    ("rule", [expression, message]) => self.rules.push(rule(expression, message)),
                    ("rule", _) => return Err(meta.error("rule(\"expression\", \"message\")")),
                    (_, keys) => {
                        let keys: Vec<String> = keys.iter().map(|k| quoted(k)).collect();
                        self.member("x-kubernetes-list-map-keys", format!("[{}]", keys.join(",")));
                    }
                }
            }
            "items" | "values" => {
                let mut facts = Facts::default();
                meta.parse_nested_meta(|nested| facts.word(&nested.path.require_ident()?.to_string(), &nested))?;
                self.member(
                    if word == "items" {
                        "items"
                    } else {
                        "additionalProperties"
                    },
                    facts.json(),
                );
            }
            "when" => {
                let (mut condition, mut facts) = (String::new(), Facts::default());
                meta.parse_nested_meta(|nested| {
                    let word = nested.path.require_ident()?.to_string();
                    if condition.is_empty() {
                        condition = word;
                        return Ok(());
                    }
                    facts.word(&word, &nested)
                })?;
                self.member(&format!("${condition}"), facts.json());
            }
            _ => return Err(meta.error(format!("unknown word `{word}`"))),
        }
        Ok(())
    }
}

const SPLICE: &str = "";

fn rule(expression: &str, message: &str) -> String {
    format!("{{\"rule\":{},\"message\":{}}}", quoted(expression), quoted(message))
}

fn text(meta: &ParseNestedMeta<'_>) -> syn::Result<String> {
    Ok(meta.value()?.parse::<LitStr>()?.value())
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `use_source_ip` to `useSourceIp`, as protobuf's JSON names do it.
pub(crate) fn camel(snake: &str) -> String {
    let mut out = String::new();
    let mut upper = false;
    for c in snake.trim_end_matches('_').chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                out.extend(c.to_uppercase());
                upper = false;
            }
            c => out.push(c),
        }
    }
    out
}

/// `UseSourceIp` to `use_source_ip`.
pub(crate) fn snake(pascal: &str) -> String {
    let mut out = String::new();
    for (i, c) in pascal.chars().enumerate() {
        if c.is_uppercase() && i > 0 {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// The table row of a field or variant.
pub(crate) fn field_info(attributes: &Attributes, proto: &str, kind: TokenStream, schema: &TokenStream) -> TokenStream {
    let name = attributes.name.clone().unwrap_or_else(|| camel(proto));
    let proto = proto.trim_end_matches('_');
    let also = attributes.also.as_deref().unwrap_or_default();
    let facts = attributes.facts.json();
    let (doc, required, hidden, experimental) = (
        &attributes.doc,
        attributes.required,
        attributes.hidden,
        attributes.experimental,
    );
    quote! {
        ::corten_api::codec::FieldInfo {
            name: #name, proto: #proto, also: #also, doc: #doc, facts: #facts, required: #required, hidden: #hidden,
            experimental: #experimental, kind: ::corten_api::codec::FieldKind::#kind,
            schema: #schema,
        }
    }
}
