//! `#[derive(Message)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Fields, spanned::Spanned};

use crate::attributes::{Attributes, field_info};

pub(crate) fn derive(input: &DeriveInput) -> syn::Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(syn::Error::new(input.span(), "Message is for structs"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(syn::Error::new(
            input.span(),
            "Message is for structs with named fields",
        ));
    };
    let attributes = Attributes::parse(&input.attrs)?;
    let ty = &input.ident;
    let (mut infos, mut decodes, mut encodes) = (Vec::new(), Vec::new(), Vec::new());
    for (index, field) in fields.named.iter().enumerate() {
        let field_attributes = Attributes::parse(&field.attrs)?;
        let (name, field_ty) = (field.ident.as_ref(), &field.ty);
        let proto = name.map(ToString::to_string).unwrap_or_default();
        let required = field_attributes.required;
        if field_attributes.flatten {
            infos.push(field_info(
                &field_attributes,
                &proto,
                quote!(OneOf(<#field_ty as ::corten_api::codec::Flatten>::FIELDS)),
                &quote!(::corten_api::codec::no_schema),
            ));
            decodes.push(
                quote!(#index => <#field_ty as ::corten_api::codec::Flatten>::decode(&mut self.#name, inner, node, cx)),
            );
            encodes.push(quote!(<#field_ty as ::corten_api::codec::Flatten>::encode(&self.#name, out);));
        } else {
            infos.push(field_info(
                &field_attributes,
                &proto,
                quote!(Plain),
                &quote!(<#field_ty as ::corten_api::codec::Field>::schema),
            ));
            let decode = match field_attributes.null_items {
                true => quote!(cx.dropping_nulls(|cx| <#field_ty as ::corten_api::codec::Field>::decode(node, cx))),
                false => quote!(<#field_ty as ::corten_api::codec::Field>::decode(node, cx)),
            };
            decodes.push(quote!(#index => if let Some(value) = #decode { self.#name = value; }));
            encodes.push(
                quote!(::corten_api::codec::encode_field(&Self::INFO.fields[#index], #required, &self.#name, out);),
            );
        }
    }
    let (doc, facts, proto_names) = (&attributes.doc, attributes.facts.json(), !attributes.kubernetes);
    let name = ty.to_string();
    Ok(quote! {
        #[automatically_derived]
        impl ::corten_api::codec::Message for #ty {
            const INFO: &'static ::corten_api::codec::MessageInfo = &::corten_api::codec::MessageInfo {
                name: #name, doc: #doc, facts: #facts, proto_names: #proto_names, fields: &[#(#infos),*],
            };
            #[allow(unused_variables, clippy::match_single_binding)]
            fn decode_field(&mut self, index: usize, inner: usize, node: &::corten_api::decode::Node, cx: &mut ::corten_api::codec::Cx) {
                match index { #(#decodes,)* _ => {} }
            }
            #[allow(unused_variables)]
            fn encode_fields(&self, out: &mut ::corten_api::codec::JsonMap) { #(#encodes)* }
        }
        #[automatically_derived]
        impl ::corten_api::codec::Field for #ty {
            fn decode(node: &::corten_api::decode::Node, cx: &mut ::corten_api::codec::Cx) -> Option<Self> {
                ::corten_api::codec::decode_message(node, cx)
            }
            fn encode(&self) -> ::corten_api::codec::Json { ::corten_api::codec::encode_message(self) }
            fn schema(cx: &::corten_api::codec::SchemaCx) -> ::corten_api::codec::Json {
                ::corten_api::codec::message_schema(<Self as ::corten_api::codec::Message>::INFO, cx)
            }
        }
    })
}
