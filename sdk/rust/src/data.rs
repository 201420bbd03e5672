//! The data of an event: how bytes become a value and back.
//!
//! What bytes are follows from the event's content type alone: JSON where it says so, else text if they are UTF-8, else
//! bytes. All three are read by `serde`, so that a `String` can be a JSON string as well as a `text/plain`, and a type needs
//! no more than `Deserialize`.

use serde::{
    Serialize,
    de::{
        DeserializeOwned, Deserializer, IntoDeserializer, Visitor,
        value::{Error as PlainError, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use std::ops::{Deref, DerefMut};

/// What the data of an event can be read as: every type `serde` can read, and [`Bytes`].
///
/// Implement it for a type with a format of its own, such as a protobuf message.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be read from the data of an event",
    label = "derive `serde::Deserialize` for it, or take `dunlin::Bytes`"
)]
pub trait FromData: Sized {
    /// Reads it. The error says what is wrong, to be read after "the data is no `Order`: ".
    fn from_data(content_type: Option<&str>, data: Option<Vec<u8>>) -> Result<Self, String>;
}

/// What the data of an event can be made of: every type `serde` can write, and [`Bytes`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be written as the data of an event",
    label = "derive `serde::Serialize` for it, or use `dunlin::Bytes`"
)]
pub trait IntoData {
    /// Writes it as the content type the event has been given, and says which one it is if it has none.
    fn into_data(self, content_type: Option<&str>) -> Result<(Option<String>, Option<Vec<u8>>), String>;
}

/// Data as it is, whatever its content type says.
///
/// ```
/// use dunlin::{Bytes, Event, Result};
///
/// #[dunlin::handler]
/// fn size(event: Event<Bytes>) -> Result<Event<usize>> {
///     Ok(Event::new("measured", event.data.len()))
/// }
/// # assert_eq!(size(dunlin::testing::event("image", Bytes::from(vec![0; 3]))).unwrap().data, 3);
/// ```
// A type of its own, and not `Vec<u8>`, which is a sequence of numbers to serde: 4 bytes of JSON for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Deref for Bytes {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl<T: Into<Vec<u8>>> From<T> for Bytes {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

impl FromData for Bytes {
    fn from_data(_: Option<&str>, data: Option<Vec<u8>>) -> Result<Self, String> {
        Ok(Self(data.unwrap_or_default()))
    }
}

impl IntoData for Bytes {
    fn into_data(self, _: Option<&str>) -> Result<(Option<String>, Option<Vec<u8>>), String> {
        Ok((Some("application/octet-stream".to_owned()), Some(self.0)))
    }
}

impl<T: DeserializeOwned> FromData for T {
    fn from_data(content_type: Option<&str>, data: Option<Vec<u8>>) -> Result<Self, String> {
        let plain = match data {
            None => Plain::Nothing,
            Some(json) if content_type.is_some_and(is_json) => return from_json(&json),
            Some(bytes) => String::from_utf8(bytes).map_or_else(|error| Plain::Bytes(error.into_bytes()), Plain::Text),
        };
        let something = !matches!(plain, Plain::Nothing);
        T::deserialize(plain).map_err(|error| match content_type {
            None if something => {
                format!("{error}; it has no content type, and only `application/json` is read as JSON")
            }
            Some(other) if something => format!("{error}; its content type is `{other}`"),
            _ => format!("it is not there ({error})"),
        })
    }
}

impl<T: Serialize> IntoData for T {
    fn into_data(self, content_type: Option<&str>) -> Result<(Option<String>, Option<Vec<u8>>), String> {
        let json = serde_json::to_vec(&self).map_err(|error| error.to_string())?;
        // Nothing, however it is called, is no data: CloudEvents don't tell the two apart.
        if json == b"null" {
            return Ok((None, None));
        }
        match content_type {
            None => Ok((Some("application/json".to_owned()), Some(json))),
            Some(content_type) if is_json(content_type) => Ok((None, Some(json))),
            // A round trip, rather than a serializer for strings alone in every function.
            Some(content_type) => match serde_json::from_slice::<String>(&json) {
                Ok(text) => Ok((None, Some(text.into_bytes()))),
                Err(_) => Err(format!("`{content_type}` is made of a `String` or of `dunlin::Bytes`")),
            },
        }
    }
}

/// Reads JSON. The error has the path to what is wrong: ``at `items[0].price`: invalid type``.
pub(crate) fn from_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        if path == "." { error.into_inner().to_string() } else { format!("at `{path}`: {}", error.into_inner()) }
    })?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// `application/json`, `text/json`, `application/cloudevents+json`, with parameters or without.
pub(crate) fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type.ends_with("+json") || media_type.split_once('/').is_some_and(|(_, subtype)| subtype == "json")
}

/// A type's name without the modules it is in.
pub(crate) fn name_of<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    // Only of the outermost type: what is between `<` and `>` may have modules of its own, and so may parts of a tuple.
    let outermost = name.split(['<', '(', '[', '&']).next().unwrap_or(name);
    &name[outermost.rfind("::").map_or(0, |at| at + 2)..]
}

/// Data that isn't JSON, for `serde`.
enum Plain {
    Nothing,
    Text(String),
    Bytes(Vec<u8>),
}

impl<'de> Deserializer<'de> for Plain {
    type Error = PlainError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PlainError> {
        match self {
            Self::Nothing => visitor.visit_unit(),
            Self::Text(text) => visitor.visit_string(text),
            Self::Bytes(bytes) => visitor.visit_byte_buf(bytes),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PlainError> {
        match self {
            Self::Nothing => visitor.visit_none(),
            some => visitor.visit_some(some),
        }
    }

    /// A `Vec<u8>`.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PlainError> {
        let bytes = match self {
            Self::Nothing => return visitor.visit_unit(),
            Self::Text(text) => text.into_bytes(),
            Self::Bytes(bytes) => bytes,
        };
        visitor.visit_seq(SeqDeserializer::new(bytes.into_iter()))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, PlainError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PlainError> {
        match self {
            Self::Text(text) => text.into_deserializer().deserialize_enum(name, variants, visitor),
            other => other.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple
        tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::{Value, json};

    fn read<T: FromData>(content_type: &str, data: &[u8]) -> Result<T, String> {
        T::from_data(Some(content_type).filter(|c| !c.is_empty()), Some(data.to_vec()))
    }

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct Order {
        items: Vec<Item>,
    }

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct Item {
        price: u64,
    }

    #[test]
    fn data_is_what_its_content_type_says() {
        let order = Order { items: vec![Item { price: 3 }] };
        for json in ["application/json", "text/json; charset=utf-8", "application/vnd.shop+JSON"] {
            assert_eq!(read::<Order>(json, br#"{"items":[{"price":3}]}"#).unwrap(), order, "{json}");
        }
        assert_eq!(read::<String>("application/json", br#""text""#).unwrap(), "text");
        assert_eq!(read::<String>("text/plain", b"text").unwrap(), "text");
        assert_eq!(read::<Value>("text/plain", b"text").unwrap(), json!("text"));
        assert_eq!(read::<Bytes>("application/json", b"{}").unwrap().0, b"{}");
        assert_eq!(read::<Vec<u8>>("image/png", &[0x89, 0xff]).unwrap(), [0x89, 0xff]);
        assert_eq!(read::<Vec<u8>>("", b"abc").unwrap(), b"abc");
        assert_eq!(<Option<Order>>::from_data(None, None), Ok(None));
        assert_eq!(<()>::from_data(None, None), Ok(()));
        assert_eq!(Value::from_data(None, None), Ok(Value::Null));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let error = read::<Order>("application/json", br#"{"items":[{"price":"3"}]}"#).unwrap_err();
        assert!(error.starts_with("at `items[0].price`: invalid type: string \"3\", expected u64"), "{error}");
        let error = read::<Order>("application/json", b"{} x").unwrap_err();
        assert!(error.contains("missing field `items`"), "{error}");
        let error = read::<Order>("", b"{}").unwrap_err();
        assert!(error.contains("it has no content type"), "{error}");
        let error = read::<Order>("text/csv", b"a,b").unwrap_err();
        assert!(error.contains("its content type is `text/csv`"), "{error}");
        let error = Order::from_data(None, None).unwrap_err();
        assert!(error.starts_with("it is not there"), "{error}");
    }

    #[test]
    fn what_is_written_can_be_read() {
        let (content_type, data) = Order { items: Vec::new() }.into_data(None).unwrap();
        assert_eq!((content_type.as_deref(), data.unwrap()), (Some("application/json"), br#"{"items":[]}"#.to_vec()));
        assert_eq!("a,b".into_data(Some("text/csv")), Ok((None, Some(b"a,b".to_vec()))));
        assert_eq!(().into_data(None), Ok((None, None)));
        assert!(7.into_data(Some("text/csv")).unwrap_err().contains("`text/csv` is made of a `String`"));
        assert_eq!(name_of::<Order>(), "Order");
        assert_eq!(name_of::<Vec<Order>>(), "Vec<dunlin::data::tests::Order>");
    }
}
