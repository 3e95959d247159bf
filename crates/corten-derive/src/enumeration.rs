//! `#[derive(Enumeration)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Fields, spanned::Spanned};

use crate::attributes::{Attributes, snake};

pub(crate) fn derive(input: &DeriveInput) -> syn::Result<TokenStream> {
    let Data::Enum(data) = &input.data else {
        return Err(syn::Error::new(input.span(), "Enumeration is for enums"));
    };
    let ty = &input.ident;
    let attributes = Attributes::parse(&input.attrs)?;
    let (mut rows, mut from, mut to) = (Vec::new(), Vec::new(), Vec::new());
    let mut next = 0;
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(syn::Error::new(
                variant.span(),
                "an enumeration's variants hold nothing",
            ));
        }
        let parsed = Attributes::parse(&variant.attrs)?;
        let ident = &variant.ident;
        let default_name = if attributes.kubernetes {
            ident.to_string()
        } else {
            snake(&ident.to_string()).to_uppercase()
        };
        let name = parsed.name.unwrap_or(default_name);
        let number = parsed.number.unwrap_or(next);
        next = number + 1;
        let (hidden, experimental) = (parsed.hidden, parsed.experimental);
        rows.push(quote!(::corten_api::codec::ValueInfo { name: #name, number: #number, hidden: #hidden, experimental: #experimental }));
        let index = from.len();
        from.push(quote!(#index => Some(#ty::#ident)));
        to.push(quote!(#ty::#ident => #index));
    }
    let proto_names = !attributes.kubernetes;
    Ok(quote! {
        #[automatically_derived]
        impl ::corten_api::codec::Enumeration for #ty {
            const VALUES: &'static [::corten_api::codec::ValueInfo] = &[#(#rows),*];
            const PROTO: bool = #proto_names;
            fn from_index(index: usize) -> Option<Self> { match index { #(#from,)* _ => None } }
            fn index(&self) -> usize { match self { #(#to,)* } }
        }
        #[automatically_derived]
        impl ::corten_api::codec::Field for #ty {
            fn decode(node: &::corten_api::decode::Node, cx: &mut ::corten_api::codec::Cx) -> Option<Self> {
                ::corten_api::codec::decode_enumeration(node, cx)
            }
            fn encode(&self) -> ::corten_api::codec::Json {
                ::corten_api::codec::Json::from(<Self as ::corten_api::codec::Enumeration>::name(self))
            }
            fn is_absent(&self) -> bool { #proto_names && <Self as ::corten_api::codec::Enumeration>::info(self).number == 0 }
            fn schema(cx: &::corten_api::codec::SchemaCx) -> ::corten_api::codec::Json {
                ::corten_api::codec::enumeration_schema(<Self as ::corten_api::codec::Enumeration>::VALUES, cx)
            }
        }
    })
}
