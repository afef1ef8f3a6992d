//! Who may take files of a relay directory away: one at a time.
//!
//! While the relay runs it only adds to its directory, and a purge keeps what it writes: the two do
//! not meet. When it opens the directory it looks for its end from the newest file on, and may take
//! files away itself.

use std::mem::discriminant;

use dm_core::{
    error::{Error, code},
    relay::Strategy,
};
use tokio::sync::watch;

/// What somebody does to a directory.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Claim {
    /// The relay looks for its end.
    Opening,
    /// A purge.
    Purging(Strategy),
}

/// The one claim that there is, if there is one.
#[derive(Debug, Default)]
pub(super) struct Claims(watch::Sender<Option<Claim>>);

/// A claim, as long as it is held.
#[derive(Debug)]
pub(super) struct Held<'a>(&'a Claims);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.0.send_replace(None);
    }
}

impl Claims {
    /// Claims the directory for its opening, once nobody else has it.
    pub(super) async fn open(&self) -> Held<'_> {
        let mut now = self.0.subscribe();
        loop {
            match self.take(Claim::Opening) {
                Ok(held) => return held,
                // It fails only when the sender is gone, which `self` has.
                Err(_) => drop(now.wait_for(Option::is_none).await),
            }
        }
    }

    /// Claims the directory for a purge.
    ///
    /// # Errors
    /// 30035, 30036: there is one at work. 30037: the relay opens it.
    pub(super) fn purge(&self, strategy: &Strategy) -> Result<Held<'_>, Error> {
        self.take(Claim::Purging(strategy.clone()))
            .map_err(|other| match other {
                Claim::Opening => about_to_start(),
                Claim::Purging(other) if discriminant(&other) == discriminant(strategy) => {
                    Error::new(
                        &code::RELAY_THIS_STRATEGY_IS_PURGING,
                        "this strategy is purging",
                    )
                }
                Claim::Purging(other) => Error::new(
                    &code::RELAY_OTHER_STRATEGY_IS_PURGING,
                    format!("{other} is purging"),
                ),
            })
    }

    /// Fails while a purge is at work: it does not know what a task will need that starts now.
    ///
    /// # Errors
    /// 40068.
    pub(super) fn start(&self, task: &str) -> Result<(), Error> {
        match &*self.0.borrow() {
            Some(Claim::Purging(strategy)) => Err(Error::new(
                &code::WORKER_RELAY_IS_PURGING,
                format!("relay log purger is purging, cannot start sub task {task} ({strategy})"),
            )),
            _ => Ok(()),
        }
    }

    fn take(&self, claim: Claim) -> Result<Held<'_>, Claim> {
        let mut other = None;
        self.0.send_if_modified(|now| {
            other.clone_from(now);
            now.get_or_insert(claim);
            other.is_none()
        });
        // A claim that is made too much takes the other's away when it goes.
        match other {
            Some(other) => Err(other),
            None => Ok(Held(self)),
        }
    }
}

/// The error of a relay that looks for its end, or is about to.
pub(super) fn about_to_start() -> Error {
    Error::new(
        &code::RELAY_PURGE_IS_FORBIDDEN,
        "relay log purge is forbidden temporarily, because the relay is about to start",
    )
}

#[cfg(all(test, not(madsim)))]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn one_at_a_time() {
        let claims = Claims::default();
        let file = |name: &str| Strategy::File {
            name: name.into(),
            sub_dir: None,
        };
        let held = claims.purge(&Strategy::Inactive).unwrap();
        let error = claims.purge(&Strategy::Inactive).unwrap_err();
        assert!(error.is(&code::RELAY_THIS_STRATEGY_IS_PURGING), "{error}");
        let error = claims.purge(&file("b.000001")).unwrap_err();
        assert!(error.is(&code::RELAY_OTHER_STRATEGY_IS_PURGING), "{error}");
        assert_eq!(error.message, "inactive strategy is purging");
        let error = claims.start("t").unwrap_err();
        assert!(error.is(&code::WORKER_RELAY_IS_PURGING), "{error}");
        let mut opening = Box::pin(claims.open());
        assert!((&mut opening).now_or_never().is_none());
        drop(held);
        let held = opening.now_or_never().expect("nobody has it");
        assert_eq!(claims.start("t"), Ok(()));
        let error = claims.purge(&Strategy::Inactive).unwrap_err();
        assert!(error.is(&code::RELAY_PURGE_IS_FORBIDDEN), "{error}");
        drop(held);
        assert!(claims.purge(&Strategy::Inactive).is_ok());
    }
}
