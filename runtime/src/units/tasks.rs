//! The tasks of a run of a unit.

use tokio::task::JoinHandle;

/// Tasks that end with the run that started them.
#[derive(Default)]
pub(in crate::units) struct Tasks(Vec<JoinHandle<()>>);

impl Tasks {
    /// Starts one.
    pub(in crate::units) fn start(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.push(tokio::spawn(task));
    }

    /// Ends all; afterwards nothing of them touches source or target any more, but for what the
    /// servers are still executing.
    pub(in crate::units) async fn end(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
        for task in self.0.drain(..) {
            // An aborted task ends with an error, which says that it is over.
            let _ = task.await;
        }
    }
}

/// A run that panics does not come to its end; its tasks are stopped all the same.
impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}
