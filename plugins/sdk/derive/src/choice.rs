//! `#[derive(Choice)]`.

use crate::documentation;
use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, LitStr, Variant};

pub(crate) fn derive(input: &DeriveInput) -> syn::Result<TokenStream> {
    let Data::Enum(data) = &input.data else {
        return Err(Error::new_spanned(&input.ident, "Choice is for enums"));
    };
    if let Some(variant) = data
        .variants
        .iter()
        .find(|variant| !matches!(variant.fields, Fields::Unit))
    {
        return Err(Error::new_spanned(
            variant,
            "a choice is a name alone: it can hold nothing",
        ));
    }
    let ident = &input.ident;
    let variants: Vec<_> = data.variants.iter().map(|variant| &variant.ident).collect();
    let names = data.variants.iter().map(name).collect::<syn::Result<Vec<_>>>()?;
    let lines = data.variants.iter().zip(&names).filter_map(|(variant, name)| {
        let documentation = documentation(&variant.attrs);
        (!documentation.is_empty()).then(|| format!("- `{name}`: {}", documentation.replace('\n', " ")))
    });
    let about = lines.collect::<Vec<_>>().join("\n");
    let wanted = names.join(", ");
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    Ok(quote! {
        impl #impl_generics ::culvert_plugin::config::Setting for #ident #type_generics #where_clause {
            const KIND: ::culvert_plugin::FieldType = ::culvert_plugin::FieldType::String;

            fn validators() -> ::std::vec::Vec<::culvert_plugin::Validator> {
                ::std::vec![::culvert_plugin::Validator::OneOf(::std::vec![
                    #(::std::string::String::from(#names)),*
                ])]
            }

            fn documentation() -> ::std::string::String {
                ::std::string::String::from(#about)
            }

            fn parse(text: &str) -> ::std::result::Result<Self, ::std::string::String> {
                match text {
                    #(#names => ::std::result::Result::Ok(Self::#variants),)*
                    _ => ::std::result::Result::Err(::std::format!(
                        "is `{text}`, and must be one of {}", #wanted
                    )),
                }
            }
        }
    })
}

/// What `#[config(name = "…")]` says, or the variant's own name in lower case.
fn name(variant: &Variant) -> syn::Result<String> {
    let mut name = kebab(&variant.ident.to_string());
    for attribute in variant
        .attrs
        .iter()
        .filter(|attribute| attribute.path().is_ident("config"))
    {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("name") {
                return Err(meta.error("a choice has the attribute `name` alone"));
            }
            name = meta.value()?.parse::<LitStr>()?.value();
            Ok(())
        })?;
    }
    Ok(name)
}

/// `OnlyCheck` as `only-check`.
fn kebab(name: &str) -> String {
    let mut text = String::new();
    for (index, character) in name.char_indices() {
        if character.is_uppercase() && index > 0 {
            text.push('-');
        }
        text.extend(character.to_lowercase());
    }
    text
}
