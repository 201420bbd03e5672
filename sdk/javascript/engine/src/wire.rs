//! Drafts, and bytes, as JavaScript hands them over.

use crate::bindings::dunlin::function::types::{Attribute, Draft};
use rquickjs::{Error, Object, Result, TypedArray, Value};

pub(crate) fn drafts(drafts: Vec<Object<'_>>) -> Result<Vec<Draft>> {
    drafts.into_iter().map(draft).collect()
}

fn draft(draft: Object<'_>) -> Result<Draft> {
    let extensions = draft.get::<_, Object>("extensions")?;
    let extensions = extensions.props::<String, Value>().map(|property| {
        let (name, value) = property?;
        let value = if let Some(value) = value.as_bool() {
            Attribute::Boolean(value)
        } else if let Some(value) = value.as_int() {
            Attribute::Integer(value)
        } else {
            Attribute::Text(value.get()?)
        };
        Ok((name, value))
    });
    Ok(Draft {
        id: draft.get("id")?,
        source: draft.get("source")?,
        kind: draft.get("type")?,
        subject: draft.get("subject")?,
        time: draft.get("time")?,
        data_content_type: draft.get("datacontenttype")?,
        data_schema: draft.get("dataschema")?,
        extensions: extensions.collect::<Result<_>>()?,
        data: draft.get::<_, Option<TypedArray<u8>>>("data")?.map(|data| bytes(&data)).transpose()?,
    })
}

pub(crate) fn bytes(array: &TypedArray<'_, u8>) -> Result<Vec<u8>> {
    // SAFETY: it is copied before JavaScript runs again.
    unsafe { array.as_bytes() }.map(<[u8]>::to_vec).ok_or(Error::new_from_js("a detached array", "bytes"))
}
