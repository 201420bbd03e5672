//! What a handler answers when it did not take an event.
//!
//! `Error` is no `std::error::Error` itself, which is what lets `?` turn each of those into one (as `anyhow` has it).

use std::{fmt, time::Duration};

/// Why a function did not do it, and whether it is worth another try.
///
/// * **retry**: something else was in the way. The event is handed over again, after the pause of the manifest's
///   `retry.backoff`, and goes to the dead letters after `retry.attempts`. Every `std::error::Error` becomes this by `?`.
/// * **reject**: the event itself is wrong, and will be wrong the next time. It goes to the dead letters at once.
///
/// For a request, a retry is a 500 (a 503 with `Retry-After` if it has a time), of which the caller learns nothing more, and
/// a reject is a 400 with its text.
///
/// ```
/// use dunlin::{Error, Event, Result};
/// # #[derive(serde::Deserialize)] struct Order { total: u64, paid_at: String }
/// # fn charge(_: u64) -> std::io::Result<()> { Ok(()) }
///
/// #[dunlin::handler]
/// fn on_order(event: Event<Order>) -> Result<()> {
///     if event.data.total == 0 {
///         return Err(Error::reject("an order of nothing can't be paid"));
///     }
///     charge(event.data.total)?; // tried again if it fails
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    message: String,
    remedy: Remedy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    Retry { after: Option<Duration> },
    Reject,
}

impl Error {
    /// It may work another time.
    pub fn retry(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), remedy: Remedy::Retry { after: None } }
    }

    /// It may work after that time, which counts instead of the manifest's `retry.backoff`.
    pub fn retry_after(message: impl fmt::Display, after: Duration) -> Self {
        Self { message: message.to_string(), remedy: Remedy::Retry { after: Some(after) } }
    }

    /// It will never work.
    pub fn reject(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), remedy: Remedy::Reject }
    }

    /// What went wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether it is a reject; otherwise it is a retry.
    pub fn is_reject(&self) -> bool {
        self.remedy == Remedy::Reject
    }

    /// The time it asked for.
    pub fn after(&self) -> Option<Duration> {
        match self.remedy {
            Remedy::Retry { after } => after,
            Remedy::Reject => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A retry, with the causes of the error behind it.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            // Many errors repeat their cause in their own text.
            let text = error.to_string();
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = error.source();
        }
        Self::retry(message)
    }
}

/// Says of any error, `anyhow`'s too, which of the two it is.
///
/// ```
/// use dunlin::{Error, ResultExt};
///
/// let error = "12a".parse::<u32>().or_reject().unwrap_err();
/// assert_eq!(error, Error::reject("invalid digit found in string"));
/// ```
pub trait ResultExt<T> {
    /// The event is wrong: it goes to the dead letters.
    fn or_reject(self) -> Result<T, Error>;

    /// Something else was in the way: try again.
    fn or_retry(self) -> Result<T, Error>;
}

impl<T, E: fmt::Display> ResultExt<T> for Result<T, E> {
    fn or_reject(self) -> Result<T, Error> {
        self.map_err(Error::reject)
    }

    fn or_retry(self) -> Result<T, Error> {
        self.map_err(Error::retry)
    }
}
