//! Events: what a function is given, and what it makes.
//!
//! The one design choice: an event that was received and one that is being made are the same type, so that one can be
//! passed on, changed a little, or made up by a test. What only the other has is empty: an event that is being made has no
//! id until somebody gives it one, and no place in a topic.

use crate::{
    Error, Value,
    data::{self, FromData, IntoData},
};
use std::{collections::BTreeMap, fmt};

/// A CloudEvent with its data as `T`.
///
/// `T` is any type that `serde` can read and write; [`Bytes`](crate::Bytes) for the data as it is, `String` for text, and
/// the default [`Value`] for JSON of any shape. Data that can't be read as `T` never reaches the handler: the event is
/// rejected, with a reason that says where it went wrong.
///
/// ```
/// use dunlin::Event;
/// # #[derive(serde::Serialize)] struct Payment { amount: u64 }
///
/// let event = Event::new("order.paid", Payment { amount: 1290 })
///     .with_subject("order-7")
///     .with_key("order-7")
///     .with_extension("currency", "EUR");
/// assert_eq!(event.kind(), "order.paid");
/// assert_eq!(event.key(), Some("order-7"));
/// assert_eq!(event.data.amount, 1290);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<T = Value> {
    /// What happened, in the producer's words.
    pub data: T,
    attributes: Attributes,
    origin: Option<Origin>,
}

/// The attributes of a CloudEvent. Those that have to be there are empty where the platform is to fill them in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) id: String,
    pub(crate) source: String,
    pub(crate) kind: String,
    pub(crate) subject: Option<String>,
    pub(crate) time: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) schema: Option<String>,
    pub(crate) extensions: BTreeMap<String, Attribute>,
}

/// Where a received event came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) topic: String,
    pub(crate) offset: u64,
    pub(crate) attempt: u32,
}

/// The value of an extension attribute. Over HTTP all of them arrive as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number of 32 bits.
    Integer(i32),
    /// Anything else: text, a URI, a time, bytes in base64.
    Text(String),
}

impl<T> Event<T> {
    /// An event of a type, such as `order.paid`, with its data.
    ///
    /// Its id, source and time the platform fills in: an id that stays the same when the run is repeated,
    /// `/functions/NAME` as the source, and the present.
    pub fn new(kind: impl Into<String>, data: T) -> Self {
        Self { data, attributes: Attributes { kind: kind.into(), ..Attributes::default() }, origin: None }
    }

    /// With the source it is unique, and a topic takes it once. Empty for an event that is being made, until
    /// [`with_id`](Self::with_id) gives it one.
    pub fn id(&self) -> &str {
        &self.attributes.id
    }

    /// Who produced it: a URI, or a path such as `/functions/billing`. Empty for an event that is being made.
    pub fn source(&self) -> &str {
        &self.attributes.source
    }

    /// The attribute `type`: `order.created`.
    pub fn kind(&self) -> &str {
        &self.attributes.kind
    }

    /// What it is about, such as the order's id.
    pub fn subject(&self) -> Option<&str> {
        self.attributes.subject.as_deref()
    }

    /// When it happened, as RFC 3339 has it: `2026-01-31T12:00:00Z`.
    pub fn time(&self) -> Option<&str> {
        self.attributes.time.as_deref()
    }

    /// The extension `partitionkey`: events of a topic with the same key are handled one after another.
    pub fn key(&self) -> Option<&str> {
        match self.extension("partitionkey") {
            Some(Attribute::Text(key)) => Some(key),
            _ => None,
        }
    }

    /// The attribute `datacontenttype`, such as `application/json`.
    pub fn content_type(&self) -> Option<&str> {
        self.attributes.content_type.as_deref()
    }

    /// The attribute `dataschema`: the URI of a schema the data follows.
    pub fn schema(&self) -> Option<&str> {
        self.attributes.schema.as_deref()
    }

    /// An extension attribute, by its name.
    pub fn extension(&self, name: &str) -> Option<&Attribute> {
        self.attributes.extensions.get(name)
    }

    /// All extension attributes, by name.
    pub fn extensions(&self) -> impl Iterator<Item = (&str, &Attribute)> {
        self.attributes.extensions.iter().map(|(name, value)| (&**name, value))
    }

    /// The topic it came from. Empty for an event that is being made.
    pub fn topic(&self) -> &str {
        self.origin.as_ref().map_or("", |origin| &origin.topic)
    }

    /// Its place in that topic, counted from 0.
    pub fn offset(&self) -> u64 {
        self.origin.as_ref().map_or(0, |origin| origin.offset)
    }

    /// How often it has been tried, this time included: 1 for the first. 0 for an event that is being made.
    pub fn attempt(&self) -> u32 {
        self.origin.as_ref().map_or(0, |origin| origin.attempt)
    }

    /// Gives it an id. A topic takes each id of a source once: the same event published again adds nothing.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.attributes.id = id.into();
        self
    }

    /// Gives it a source other than `/functions/NAME`: a URI, or a path.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<String>) -> Self {
        self.attributes.source = source.into();
        self
    }

    /// Says what it is about, such as the order's id.
    #[must_use]
    pub fn with_subject(mut self, subject: impl Into<String>) -> Self {
        self.attributes.subject = Some(subject.into());
        self
    }

    /// Says when it happened, as RFC 3339 has it. Left out, it is now.
    #[must_use]
    pub fn with_time(mut self, time: impl Into<String>) -> Self {
        self.attributes.time = Some(time.into());
        self
    }

    /// Sets the extension `partitionkey`: events of a topic with the same key are handled one after another. Left out, an
    /// event that is made of another has that one's.
    #[must_use]
    pub fn with_key(self, key: impl Into<String>) -> Self {
        self.with_extension("partitionkey", key.into())
    }

    /// Says what the data is. Left out, it is `application/json`, or `application/octet-stream` for
    /// [`Bytes`](crate::Bytes). Text that isn't JSON is an `Event<String>` with a content type such as `text/csv`.
    #[must_use]
    pub fn with_content_type(mut self, content_type: impl Into<String>) -> Self {
        self.attributes.content_type = Some(content_type.into());
        self
    }

    /// Names the schema the data follows, by a URI.
    #[must_use]
    pub fn with_schema(mut self, schema: impl Into<String>) -> Self {
        self.attributes.schema = Some(schema.into());
        self
    }

    /// Sets an extension attribute. Its name has lowercase letters and digits only.
    #[must_use]
    pub fn with_extension(mut self, name: impl Into<String>, value: impl Into<Attribute>) -> Self {
        self.attributes.extensions.insert(name.into(), value.into());
        self
    }

    /// The same event with other data. Its id and source stay, so a topic that has it doesn't take it again.
    ///
    /// ```
    /// # use dunlin::Event;
    /// let event = Event::new("price", 1290).with_subject("order-7").map(|cents| f64::from(cents) / 100.0);
    /// assert_eq!((event.data, event.subject()), (12.9, Some("order-7")));
    /// ```
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Event<U> {
        Event { data: change(self.data), attributes: self.attributes, origin: self.origin }
    }
}

#[cfg(not(target_family = "wasm"))]
impl<T> Event<T> {
    pub(crate) fn origin(&self) -> Option<Origin> {
        self.origin.clone()
    }

    pub(crate) fn with_origin(mut self, origin: Origin) -> Self {
        self.origin = Some(origin);
        self
    }
}

impl<T: IntoData> Event<T> {
    /// The event with its data written out, so that events with different data go into one `Vec`.
    ///
    /// ```
    /// use dunlin::{Event, Outgoing};
    ///
    /// let events: Vec<Outgoing> = vec![
    ///     Event::new("order.paid", 1290).erase(),
    ///     Event::new("mail.wanted", "thank you").with_key("ada").erase(),
    /// ];
    /// ```
    pub fn erase(self) -> Outgoing {
        let Self { data, mut attributes, origin } = self;
        let data = match data.into_data(attributes.content_type.as_deref()) {
            Ok((content_type, data)) => {
                attributes.content_type = attributes.content_type.or(content_type);
                Ok(data)
            }
            Err(reason) => {
                Err(format!("the data of an event of type `{}` can't be written: {reason}", attributes.kind))
            }
        };
        Event { data: Erased(data), attributes, origin }
    }
}

/// An event to be published, whatever its data was: see [`Event::erase`].
pub type Outgoing = Event<Erased>;

/// Data that is written out: see [`Event::erase`].
// With the reason where it could not be written. It is told when the event is published or returned, so that whoever makes
// events doesn't have to deal with what never happens to ordinary types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased(Result<Option<Vec<u8>>, String>);

impl IntoData for Erased {
    fn into_data(self, _: Option<&str>) -> Result<(Option<String>, Option<Vec<u8>>), String> {
        Ok((None, self.0?))
    }
}

impl Outgoing {
    /// Reads the data again, for tests that look at what was published.
    ///
    /// ```
    /// # use dunlin::Event;
    /// let event: Event<u32> = Event::new("order.paid", 1290).erase().into_event()?;
    /// assert_eq!(event.data, 1290);
    /// # Ok::<(), dunlin::Error>(())
    /// ```
    pub fn into_event<T: FromData>(self) -> Result<Event<T>, Error> {
        let (attributes, data) = self.into_parts().map_err(Error::retry)?;
        Received { attributes, data, origin: None }.decode()
    }

    /// The event, if its data could be written.
    pub(crate) fn written(self) -> Result<Self, String> {
        if let Err(reason) = self.data.0 { Err(reason) } else { Ok(self) }
    }

    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn from_parts((attributes, data): (Attributes, Option<Vec<u8>>)) -> Self {
        Self { attributes, data: Erased(Ok(data)), origin: None }
    }

    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    pub(crate) fn into_parts(self) -> Result<(Attributes, Option<Vec<u8>>), String> {
        Ok((self.attributes, self.data.0?))
    }
}

/// An event as the platform hands it over.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Received {
    pub(crate) attributes: Attributes,
    pub(crate) data: Option<Vec<u8>>,
    pub(crate) origin: Option<Origin>,
}

impl Received {
    pub(crate) fn decode<T: FromData>(self) -> Result<Event<T>, Error> {
        let Self { attributes, data, origin } = self;
        match T::from_data(attributes.content_type.as_deref(), data) {
            Ok(data) => Ok(Event { data, attributes, origin }),
            Err(reason) => Err(Error::reject(format_args!(
                "the data of `{}`, of type `{}`, is no `{}`: {reason}",
                attributes.id,
                attributes.kind,
                data::name_of::<T>(),
            ))),
        }
    }
}

impl Attribute {
    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Boolean(_) | Self::Integer(_) => None,
        }
    }
}

/// As it is written in a header.
impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl From<bool> for Attribute {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i32> for Attribute {
    fn from(value: i32) -> Self {
        Self::Integer(value)
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
