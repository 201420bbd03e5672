//! Configuration: the variables the manifest names in `allow.env`, and the secrets it names in `allow.secrets`.
//!
//! Both are environment variables, so `std::env::var` has them too. What these add: the value as the type it is meant to
//! be, an error that names the variable, and values a test can set for itself ([`testing::env`](crate::testing::env)).

use std::{fmt, str::FromStr};

/// A variable that has to be there.
///
/// ```
/// use dunlin::{config, testing};
///
/// testing::env("CHARGE_LIMIT", "5000");
/// let limit: u64 = config::get("CHARGE_LIMIT")?;
/// assert_eq!(limit, 5000);
///
/// let error = config::get::<String>("STRIPE_KEY").unwrap_err();
/// assert!(error.to_string().starts_with("`STRIPE_KEY` is not set"));
/// # Ok::<(), dunlin::Error>(())
/// ```
pub fn get<T: FromStr<Err: fmt::Display>>(name: &str) -> Result<T, ConfigError> {
    find(name)?.ok_or_else(|| ConfigError {
        name: name.to_owned(),
        reason: "is not set: name it in the manifest's `allow.env` or `allow.secrets`".to_owned(),
    })
}

/// A variable, or what counts where it is not set.
///
/// ```
/// # use dunlin::config;
/// let currency = config::get_or("CURRENCY", "EUR".to_owned())?;
/// assert_eq!(currency, "EUR");
/// # Ok::<(), dunlin::Error>(())
/// ```
pub fn get_or<T: FromStr<Err: fmt::Display>>(name: &str, default: T) -> Result<T, ConfigError> {
    Ok(find(name)?.unwrap_or(default))
}

/// A variable that may be there.
pub fn find<T: FromStr<Err: fmt::Display>>(name: &str) -> Result<Option<T>, ConfigError> {
    let value = crate::host::variable(name);
    // The value stays out of the error: it may be a secret.
    value.map(|value| value.parse()).transpose().map_err(|error: T::Err| ConfigError {
        name: name.to_owned(),
        reason: format!("is no `{}`: {error}", crate::data::name_of::<T>()),
    })
}

/// Why a variable can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.name, self.reason)
    }
}

impl std::error::Error for ConfigError {}
