//! The attributes `#[dunlin::handler]` and `#[dunlin::http]`. They are documented where they are used from: in `dunlin`.
//!
//! The one design choice: an attribute never looks at types. It leaves the function as it is and hands its name to a macro
//! of `dunlin`, where traits decide what its parameter and its answer mean. So type aliases work, a test calls the function
//! like any other, and a type that doesn't fit is an error of the compiler that says what would.
#![forbid(unsafe_code)]

use proc_macro::TokenStream;
use proc_macro2::{Span, TokenStream as Tokens};
use quote::quote;
use syn::{Error, Ident, ItemFn, spanned::Spanned};

#[proc_macro_attribute]
pub fn handler(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(arguments, item, &Attribute { name: "handler", parameter: "event: Event<Order>", export: "export_handler" })
}

#[proc_macro_attribute]
pub fn http(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(arguments, item, &Attribute { name: "http", parameter: "request: Request<Vec<u8>>", export: "export_http" })
}

struct Attribute {
    name: &'static str,
    /// The parameter such a function has, as an example for those who left it out.
    parameter: &'static str,
    /// The macro of `dunlin` that is given the function's name.
    export: &'static str,
}

fn expand(arguments: TokenStream, item: TokenStream, attribute: &Attribute) -> TokenStream {
    let original = Tokens::from(item.clone());
    let export = if arguments.is_empty() {
        match syn::parse::<ItemFn>(item) {
            Ok(function) => export(&function, attribute),
            Err(error) => {
                Err(Error::new(error.span(), format!("`#[dunlin::{}]` belongs on a function", attribute.name)))
            }
        }
    } else {
        Err(Error::new(Span::call_site(), format!("`#[dunlin::{}]` has no options", attribute.name)))
    };
    // The function stays there in any case: what is wrong with it is then told once, and not again by all who call it.
    let export = export.unwrap_or_else(Error::into_compile_error);
    quote!(#original #export).into()
}

fn export(function: &ItemFn, attribute: &Attribute) -> Result<Tokens, Error> {
    let signature = &function.sig;
    let fails = |span: Span, reason: &str| Err(Error::new(span, format!("`#[dunlin::{}]`: {reason}", attribute.name)));
    if let Some(asyncness) = &signature.asyncness {
        return fails(
            asyncness.span(),
            "the function can't be `async`: its calls to the platform return when they are done",
        );
    }
    if !signature.generics.params.is_empty() {
        return fails(signature.generics.span(), "the function can't be generic: say which type its data has");
    }
    if let [parameter] = &signature.inputs.iter().collect::<Vec<_>>()[..]
        && !matches!(parameter, syn::FnArg::Receiver(_))
    {
        let name = &signature.ident;
        let macro_name = Ident::new(attribute.export, Span::call_site());
        return Ok(quote!(::dunlin::__private::#macro_name!(#name);));
    }
    fails(signature.ident.span(), &format!("the function must have one parameter, such as `{}`", attribute.parameter))
}
