//! `#[derive(OneOf)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Fields, spanned::Spanned};

use crate::attributes::{Attributes, field_info, snake};

pub(crate) fn derive(input: &DeriveInput) -> syn::Result<TokenStream> {
    let Data::Enum(data) = &input.data else {
        return Err(syn::Error::new(input.span(), "OneOf is for enums"));
    };
    let ty = &input.ident;
    let (mut infos, mut decodes, mut encodes, mut names) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (index, variant) in data.variants.iter().enumerate() {
        let Fields::Unnamed(fields) = &variant.fields else {
            return Err(syn::Error::new(variant.span(), "a variant holds one value"));
        };
        let Some(field) = fields.unnamed.first().filter(|_| fields.unnamed.len() == 1) else {
            return Err(syn::Error::new(variant.span(), "a variant holds one value"));
        };
        let attributes = Attributes::parse(&variant.attrs)?;
        let (name, field_ty) = (&variant.ident, &field.ty);
        infos.push(field_info(
            &attributes,
            &snake(&name.to_string()),
            quote!(Plain),
            &quote!(<#field_ty as ::corten_api::codec::Field>::schema),
        ));
        decodes.push(quote!(#index => <#field_ty as ::corten_api::codec::Field>::decode(node, cx).map(#ty::#name)));
        encodes.push(
            quote!(#ty::#name(value) => ::corten_api::codec::encode_field(&Self::VARIANTS[#index], true, value, out)),
        );
        names.push(quote!(#ty::#name(_) => #index));
    }
    Ok(quote! {
        #[automatically_derived]
        impl ::corten_api::codec::OneOf for #ty {
            const VARIANTS: &'static [::corten_api::codec::FieldInfo] = &[#(#infos),*];
            fn decode_variant(index: usize, node: &::corten_api::decode::Node, cx: &mut ::corten_api::codec::Cx) -> Option<Self> {
                match index { #(#decodes,)* _ => None }
            }
            fn encode_variant(&self, out: &mut ::corten_api::codec::JsonMap) {
                match self { #(#encodes,)* }
            }
            fn index(&self) -> usize {
                match self { #(#names,)* }
            }
        }
    })
}
