//! Turns a panic inside a task into an error, so that whoever waits for the task hears of it.

use std::{any::Any, future::Future, panic::AssertUnwindSafe};

use dm_core::error::{Error, Result, code};
use futures_util::FutureExt as _;

/// Runs a future to its end, or to its panic. Use it where the state that the future leaves behind
/// is thrown away in that case.
///
/// # Errors
/// The panic, as an error that calls it a bug.
pub(crate) async fn caught<T>(future: impl Future<Output = T>) -> Result<T> {
    AssertUnwindSafe(future)
        .catch_unwind()
        .await
        .map_err(|panic| {
            // A simulation is there to find bugs, not to live with them.
            if cfg!(madsim) {
                std::panic::resume_unwind(panic);
            }
            Error::new(
                &code::NOT_SET,
                "a part of the worker broke down; this is a bug",
            )
            .with_cause(text(&*panic))
        })
}

/// What a panic says.
#[must_use]
pub fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}
