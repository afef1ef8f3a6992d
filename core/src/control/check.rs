//! Checks of single values, with the errors that tell the key and what is allowed.

use alloc::format;

use crate::error::{Error, Result, code};

/// The error of a value that cannot be, or that contradicts another one: 20900, with
/// `` `key` why `` as message.
pub fn invalid(key: &str, why: &str) -> Error {
    Error::new(&code::CONFIG_INVALID_VALUE, format!("`{key}` {why}"))
}

/// Fails unless the value is greater than 0.
///
/// # Errors
/// 20900.
pub fn positive(key: &str, value: i64) -> Result<()> {
    if value > 0 {
        Ok(())
    } else {
        Err(invalid(key, &format!("is {value}; must be greater than 0")))
    }
}

/// Fails unless the value is greater than 0 and not greater than `max`.
///
/// # Errors
/// 20900.
pub fn count(key: &str, value: i64, max: i64) -> Result<()> {
    if (1..=max).contains(&value) {
        Ok(())
    } else {
        Err(invalid(
            key,
            &format!("is {value}; must be from 1 to {max}"),
        ))
    }
}

/// Fails unless the value is one of those allowed.
///
/// # Errors
/// 20900.
pub fn one_of(key: &str, value: &str, allowed: &[&str]) -> Result<()> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(invalid(
        key,
        &format!("is `{value}`; allowed: {}", allowed.join(", ")),
    ))
}
