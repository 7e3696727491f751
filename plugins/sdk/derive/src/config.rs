//! `#[derive(Config)]`.

use crate::documentation;
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Expr, ExprArray, Fields, Ident, Lit, LitStr, UnOp};

pub(crate) fn derive(input: &DeriveInput) -> syn::Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(&input.ident, "Config is for structs"));
    };
    let fields: Vec<&syn::Field> = match &data.fields {
        Fields::Named(named) => named.named.iter().collect(),
        Fields::Unit => Vec::new(),
        Fields::Unnamed(_) => {
            return Err(Error::new_spanned(
                &input.ident,
                "each key needs a field with a name",
            ));
        }
    };
    let mut keys = Vec::new();
    let mut mistakes: Option<Error> = None;
    for (index, field) in fields.iter().enumerate() {
        match Key::of(field, index + 1) {
            Ok(key) => keys.push(key),
            Err(mistake) => match &mut mistakes {
                Some(mistakes) => mistakes.combine(mistake),
                None => mistakes = Some(mistake),
            },
        }
    }
    if let Some(mistakes) = mistakes {
        return Err(mistakes);
    }
    for (index, key) in keys.iter().enumerate() {
        if keys[..index].iter().any(|earlier| earlier.name == key.name) {
            return Err(Error::new_spanned(
                key.ident,
                format!("there are two keys `{}`", key.name),
            ));
        }
    }
    let ident = &input.ident;
    let built = keys.iter().map(|key| &key.built);
    let types = fields.iter().map(|field| &field.ty);
    let idents: Vec<_> = keys.iter().map(|key| key.ident).collect();
    let made = match &data.fields {
        Fields::Unit => quote!(Self),
        _ => quote!(Self { #(#idents: #idents?),* }),
    };
    Ok(quote! {
        impl ::culvert_plugin::config::Config for #ident {
            fn fields() -> ::std::vec::Vec<::culvert_plugin::Field> {
                ::std::vec![#(#built),*]
            }

            fn read(reader: &mut ::culvert_plugin::config::Reader<'_>) -> ::std::option::Option<Self> {
                // Each key is read before the first that is wrong ends it, so that all mistakes are noted.
                #(let #idents = reader.take::<#types>();)*
                let _ = &reader;
                ::std::option::Option::Some(#made)
            }
        }
    })
}

/// One key: its name, and the expression that builds its `Field`.
struct Key<'a> {
    ident: &'a Ident,
    name: String,
    built: TokenStream,
}

/// What `#[config(…)]` says of one field.
#[derive(Default)]
struct Said {
    name: Option<String>,
    default: Option<String>,
    one_of: Option<Vec<String>>,
    min: Option<f64>,
    max: Option<f64>,
    min_length: Option<u32>,
    max_length: Option<u32>,
    /// Calls that need no check of ours, in the order in which they were said.
    calls: Vec<TokenStream>,
}

impl<'a> Key<'a> {
    fn of(field: &'a syn::Field, order: usize) -> syn::Result<Key<'a>> {
        let ident = field
            .ident
            .as_ref()
            .ok_or_else(|| Error::new_spanned(field, "a key needs a name"))?;
        let mut said = Said::default();
        for attribute in field
            .attrs
            .iter()
            .filter(|attribute| attribute.path().is_ident("config"))
        {
            attribute.parse_nested_meta(|meta| said.take(&meta))?;
        }
        let name = said
            .name
            .clone()
            .unwrap_or_else(|| ident.to_string().replace('_', "."));
        let documentation = documentation(&field.attrs);
        let kind = &field.ty;
        let order = i32::try_from(order).map_err(|_| Error::new_spanned(ident, "too many keys"))?;
        let calls = said.calls(ident)?;
        Ok(Key {
            ident,
            built: quote! {
                ::culvert_plugin::Field::of::<#kind>(#name, #documentation).order(#order) #(#calls)*
            },
            name,
        })
    }
}

impl Said {
    fn take(&mut self, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        let Some(attribute) = meta.path.get_ident().map(Ident::to_string) else {
            return Err(meta.error("an attribute is one word"));
        };
        let call = match attribute.as_str() {
            "name" => {
                self.name = Some(text(meta)?);
                return Ok(());
            }
            "default" => {
                self.default = Some(literal(&meta.value()?.parse()?)?);
                return Ok(());
            }
            "one_of" => {
                self.one_of = Some(texts(meta)?);
                return Ok(());
            }
            "min" | "max" => {
                let bound = number(meta)?;
                *(if attribute == "min" {
                    &mut self.min
                } else {
                    &mut self.max
                }) = Some(bound);
                return Ok(());
            }
            "min_length" | "max_length" => {
                let bound = number(meta)?;
                if bound.fract() != 0.0 || !(0.0..=f64::from(u32::MAX)).contains(&bound) {
                    return Err(meta.error("a length is a whole number of characters"));
                }
                let bound = bound as u32;
                *(if attribute == "min_length" {
                    &mut self.min_length
                } else {
                    &mut self.max_length
                }) = Some(bound);
                return Ok(());
            }
            "pattern" => {
                let pattern = text(meta)?;
                quote!(.validator(::culvert_plugin::Validator::Pattern(::std::string::String::from(#pattern))))
            }
            "non_empty" => quote!(.validator(::culvert_plugin::Validator::NonEmpty)),
            "url" => {
                let schemes = if meta.input.peek(syn::Token![=]) {
                    texts(meta)?
                } else {
                    Vec::new()
                };
                quote!(.validator(::culvert_plugin::Validator::Url(::std::vec![
                    #(::std::string::String::from(#schemes)),*
                ])))
            }
            "importance" => {
                let choice = one_of(meta, &["high", "medium", "low"])?;
                quote!(.importance(::culvert_plugin::Importance::#choice))
            }
            "width" => {
                let choice = one_of(meta, &["none", "short", "medium", "long"])?;
                quote!(.width(::culvert_plugin::Width::#choice))
            }
            "group" | "display" | "deprecated" | "example" => {
                let (call, text) = (format_ident!("{attribute}"), text(meta)?);
                quote!(.#call(#text))
            }
            "dependents" | "aliases" | "grants" => {
                let (call, texts) = (format_ident!("{attribute}"), texts(meta)?);
                quote!(.#call(&[#(#texts),*]))
            }
            "internal" => quote!(.internal()),
            _ => {
                return Err(meta.error(
                    "there is no such attribute; there are name, default, one_of, min, max, min_length, max_length, \
                     pattern, non_empty, url, importance, group, width, display, dependents, aliases, deprecated, \
                     example, grants, internal",
                ));
            }
        };
        self.calls.push(call);
        Ok(())
    }

    /// All calls that complete the field, once it is known that they agree.
    fn calls(self, ident: &Ident) -> syn::Result<Vec<TokenStream>> {
        let Said {
            default,
            one_of,
            min,
            max,
            min_length,
            max_length,
            mut calls,
            ..
        } = self;
        let wrong = |mistake: String| Err(Error::new_spanned(ident, mistake));
        if min.zip(max).is_some_and(|(min, max)| min > max) {
            return wrong("`min` is above `max`".to_owned());
        }
        if min_length.zip(max_length).is_some_and(|(min, max)| min > max) {
            return wrong("`min_length` is above `max_length`".to_owned());
        }
        if let (Some(default), Some(texts)) = (&default, &one_of)
            && !texts.contains(default)
        {
            return wrong(format!(
                "the default `{default}` is not one of {}",
                texts.join(", ")
            ));
        }
        if let Some(number) = default.as_ref().and_then(|default| default.parse::<f64>().ok())
            && (min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max))
        {
            return wrong(format!("the default {number} is out of range"));
        }
        if let Some(default) = default {
            calls.push(quote!(.default_value(#default)));
        }
        if let Some(texts) = one_of {
            calls.push(quote!(.validator(::culvert_plugin::Validator::OneOf(::std::vec![
                #(::std::string::String::from(#texts)),*
            ]))));
        }
        if min.or(max).is_some() {
            let (min, max) = (optional(min), optional(max));
            calls.push(quote!(.validator(::culvert_plugin::Validator::Range((#min, #max)))));
        }
        if min_length.or(max_length).is_some() {
            let (min, max) = (optional(min_length), optional(max_length));
            calls.push(quote!(.validator(::culvert_plugin::Validator::Length((#min, #max)))));
        }
        Ok(calls)
    }
}

fn optional(bound: Option<impl quote::ToTokens>) -> TokenStream {
    match bound {
        Some(bound) => quote!(::std::option::Option::Some(#bound)),
        None => quote!(::std::option::Option::None),
    }
}

fn text(meta: &ParseNestedMeta<'_>) -> syn::Result<String> {
    Ok(meta.value()?.parse::<LitStr>()?.value())
}

fn texts(meta: &ParseNestedMeta<'_>) -> syn::Result<Vec<String>> {
    let array = meta.value()?.parse::<ExprArray>()?;
    array.elems.iter().map(literal).collect()
}

/// One of some words, as the variant of an enum.
fn one_of(meta: &ParseNestedMeta<'_>, words: &[&str]) -> syn::Result<Ident> {
    let said = meta.value()?.parse::<LitStr>()?;
    let word = said.value();
    if !words.contains(&word.as_str()) {
        return Err(Error::new(said.span(), format!("one of {}", words.join(", "))));
    }
    let (first, rest) = word.split_at(1);
    Ok(format_ident!("{}{rest}", first.to_uppercase()))
}

fn number(meta: &ParseNestedMeta<'_>) -> syn::Result<f64> {
    let expression: Expr = meta.value()?.parse()?;
    let text = literal(&expression)?;
    text.parse()
        .map_err(|_| Error::new(expression.span(), "a number"))
}

/// A literal as the text that a person would set.
fn literal(expression: &Expr) -> syn::Result<String> {
    match expression {
        Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) => Ok(format!("-{}", literal(&unary.expr)?)),
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) => Ok(text.value()),
            Lit::Int(number) => Ok(number.base10_digits().to_owned()),
            Lit::Float(number) => Ok(number.base10_digits().to_owned()),
            Lit::Bool(choice) => Ok(choice.value.to_string()),
            _ => Err(Error::new_spanned(expression, "a text, a number, true or false")),
        },
        _ => Err(Error::new_spanned(expression, "a text, a number, true or false")),
    }
}
