//! A healed world becomes what is wanted of it within a bounded time: every task runs in exactly
//! one place, and the target equals the sources.

pub(in crate::world) const NAME: &str = "convergence";
