//! An operator's order is obeyed within a bounded time: tasks pause, resume and stop, workers end.

pub(in crate::world) const NAME: &str = "order";
