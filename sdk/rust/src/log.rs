//! Log lines with a level and fields, as `dunlin logs` shows them. What is printed to stdout and stderr is logged as well.
//!
//! ```
//! use dunlin::log::{info, warn};
//!
//! let (order, total) = ("order-7", 1290);
//! info!("the charge took {} ms", 12);
//! info!(order, total, "charged");
//! warn!(order, reason = "no answer", tried = ?[1, 2], "not charged, {} tries left", 3);
//! ```
//! Fields come first: `name`, `name = value`, or `name = ?value` for what has no `Display` but `Debug`.

use crate::host;

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// What happened.
    Info,
    /// What could become a problem.
    Warn,
    /// What went wrong.
    Error,
}

/// Writes a line; the macros of this module are shorter.
pub fn write(level: Level, message: &str, fields: &[(&str, &dyn std::fmt::Display)]) {
    host::log(level, message, fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect());
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    // Fields are taken off the front, one by one, until a literal is left: the message.
    ($level:ident [$($field:tt)*] $name:ident = ?$value:expr, $($rest:tt)+) => {
        $crate::__log!($level [$($field)* (stringify!($name), &format_args!("{:?}", $value)),] $($rest)+)
    };
    ($level:ident [$($field:tt)*] $name:ident = $value:expr, $($rest:tt)+) => {
        $crate::__log!($level [$($field)* (stringify!($name), &$value),] $($rest)+)
    };
    ($level:ident [$($field:tt)*] $name:ident, $($rest:tt)+) => {
        $crate::__log!($level [$($field)* (stringify!($name), &$name),] $($rest)+)
    };
    ($level:ident [$($field:tt)*] $($message:tt)+) => {
        $crate::log::write($crate::log::Level::$level, &::std::format!($($message)+), &[$($field)*])
    };
}

macro_rules! levels {
    ($dollar:tt $($(#[$doc:meta])* $exported:ident $name:ident $level:ident)*) => {$(
        $(#[$doc])*
        #[doc(hidden)]
        #[macro_export]
        macro_rules! $exported {
            ($dollar($dollar argument:tt)+) => { $dollar crate::__log!($level [] $dollar($dollar argument)+) };
        }
        #[doc(inline)]
        pub use $exported as $name;
    )*};
}

levels! { $
    /// Logs every step: see the [module](self).
    __trace trace Trace
    /// Logs what helps to find a fault: see the [module](self).
    __debug debug Debug
    /// Logs what happened: see the [module](self).
    __info info Info
    /// Logs what could become a problem: see the [module](self).
    __warn warn Warn
    /// Logs what went wrong: see the [module](self).
    __error error Error
}
