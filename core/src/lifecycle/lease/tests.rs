use std::{vec, vec::Vec};

use super::*;
use crate::{
    error::{Error, code},
    lifecycle::{Config, Entry},
};

const TTL: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(100);

/// A lease and its surroundings.
struct Bench {
    lease: Lease,
    io: Io,
    now: Instant,
}

impl Bench {
    fn begun() -> Self {
        let config = Config::new("w", "2024-05-06T07:08:09Z", 1);
        let mut bench = Self {
            lease: Lease::default(),
            io: Io::new(config),
            now: Instant::START,
        };
        bench.lease.start();
        bench
    }

    /// Online under lease 1, granted at the start.
    fn online() -> Self {
        let mut bench = Self::begun();
        bench.turn(TTL).expect("held");
        bench.grant(Instant::START, TTL, 1);
        bench.turn(TTL).expect("held");
        bench.written(1, 5);
        bench.turn(TTL).expect("held");
        bench.calls();
        bench
    }

    fn turn(&mut self, ttl: Duration) -> Result<(), Loss> {
        self.lease.turn(self.now, &mut self.io, ttl)
    }

    fn grant(&mut self, sent: Instant, ttl: Duration, id: i64) {
        let outcome = lease(id, ttl.as_secs());
        self.lease
            .granted(self.now, &self.io, (sent, ttl), &outcome);
    }

    fn written(&mut self, id: i64, revision: i64) {
        let outcome = Outcome::Ok(Reply::Written { revision });
        self.lease.announced(self.now, id, &outcome);
    }

    fn revoked(&mut self, id: i64, outcome: &Outcome) {
        self.lease.revoked(self.now, id, outcome);
    }

    /// The announcement is refused, since it hangs on another lease.
    fn refused(&mut self, id: i64, holder: i64) {
        let entry = Entry {
            key: Bytes::new(),
            value: Bytes::new(),
            create_revision: 3,
            mod_revision: 3,
            lease: holder,
        };
        let entry = (holder > 0).then_some(entry);
        let outcome = Outcome::Ok(Reply::Refused { entry });
        self.lease.announced(self.now, id, &outcome);
    }

    fn calls(&mut self) -> Vec<ControlCall> {
        core::iter::from_fn(|| self.io.poll())
            .map(|(_, effect)| match effect {
                Effect::Control(call) => call,
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

fn lease(id: i64, ttl_s: u64) -> Outcome {
    Outcome::Ok(Reply::Lease { id, ttl_s })
}

fn announce(lease: i64, held_by: i64) -> ControlCall {
    ControlCall::Announce {
        key: Bytes::from_static(b"/dm-worker/a/77"),
        value: Bytes::from_static(
            b"{\"worker-name\":\"w\",\"join-time\":\"2024-05-06T07:08:09Z\"}",
        ),
        lease,
        held_by,
    }
}

fn at(millis: u64) -> Instant {
    Instant(Duration::from_millis(millis))
}

#[test]
fn a_lease_is_granted_then_announced_then_renewed() {
    let mut bench = Bench::begun();
    assert_eq!(bench.turn(TTL), Ok(()));
    assert_eq!(bench.calls(), [ControlCall::Grant { ttl: TTL }]);
    bench.now = at(500);
    bench.grant(at(0), TTL, 1);
    assert_eq!(bench.turn(TTL), Ok(()));
    assert_eq!(bench.calls(), [announce(1, 0)]);
    assert!(!bench.lease.online());
    bench.written(1, 5);
    assert!(bench.lease.online());
    assert_eq!(bench.lease.revision(), 5);
    // A fifth of the time to live is kept back, and it began when the grant was sent.
    assert_eq!(bench.lease.facts(), Some((1, at(8_000))));
    bench.now = at(1_667);
    assert_eq!(bench.turn(TTL), Ok(()));
    assert_eq!(bench.calls(), [ControlCall::Renew { lease: 1 }]);
    // Not answered: the next one goes out all the same.
    bench.now = at(3_334);
    assert_eq!(bench.turn(TTL), Ok(()));
    assert_eq!(bench.calls(), [ControlCall::Renew { lease: 1 }]);
    bench
        .lease
        .renewed(at(3_400), &bench.io, (1, at(1_667)), &lease(1, 10));
    assert_eq!(bench.lease.facts(), Some((1, at(9_667))));
    // A late answer to an earlier one takes nothing back.
    bench
        .lease
        .renewed(at(3_500), &bench.io, (1, at(0)), &lease(1, 10));
    assert_eq!(bench.lease.facts(), Some((1, at(9_667))));
    bench.now = at(9_667);
    assert_eq!(bench.turn(TTL), Err(Loss::Expired));
}

#[test]
fn a_silence_of_nearly_the_time_to_live_is_not_noticed() {
    let minute = Duration::from_secs(60);
    let mut bench = Bench::begun();
    bench.turn(minute).expect("nothing held");
    bench.grant(at(0), minute, 1);
    bench.turn(minute).expect("nothing held");
    bench.written(1, 5);
    bench.calls();
    // The store falls silent right before the first renewal, and refuses all that are sent.
    let mut sent = Vec::new();
    for now in (0..=49_000).step_by(100) {
        bench.now = at(now);
        bench.turn(minute).expect("still held");
        if bench.calls() == [ControlCall::Renew { lease: 1 }] {
            sent.push(now);
            let refused = Outcome::Failed(vec![Error::new(&code::NOT_SET, "refused")]);
            let pending = (1, bench.now);
            bench.lease.renewed(bench.now, &bench.io, pending, &refused);
        }
    }
    assert!(sent.starts_with(&[5_000, 6_000, 7_000]), "{sent:?}");
    // It comes back a second before the end.
    let last = *sent.last().expect("sent");
    bench
        .lease
        .renewed(bench.now, &bench.io, (1, at(last)), &lease(1, 60));
    assert_eq!(bench.lease.facts(), Some((1, at(last + 50_000))));
}

#[test]
fn another_time_to_live_is_another_lease_that_takes_over() {
    let mut bench = Bench::online();
    bench.now = at(1_000);
    assert_eq!(bench.turn(LONG), Ok(()));
    assert_eq!(bench.calls(), [ControlCall::Grant { ttl: LONG }]);
    bench.grant(at(1_000), LONG, 2);
    assert_eq!(bench.turn(LONG), Ok(()));
    assert_eq!(bench.calls(), [announce(2, 1)]);
    assert_eq!(bench.lease.facts(), Some((1, at(8_000))));
    bench.written(2, 9);
    assert_eq!(bench.lease.facts(), Some((2, at(91_000))));
    assert_eq!(bench.lease.revision(), 5, "still the same tenure");
    assert_eq!(bench.turn(LONG), Ok(()));
    assert_eq!(bench.calls(), [ControlCall::Revoke { lease: 1 }]);
    assert_eq!(bench.turn(LONG), Ok(()));
    assert_eq!(bench.calls(), []);
}

/// The announcement may hang on the new lease already, so its end is the end of all.
#[test]
fn a_new_lease_that_runs_out_unannounced_ends_the_tenure_of_the_old_one() {
    let mut bench = Bench::begun();
    bench.turn(LONG).expect("nothing held");
    bench.grant(at(0), LONG, 1);
    bench.turn(LONG).expect("nothing held");
    bench.written(1, 5);
    bench.turn(TTL).expect("held");
    bench.grant(at(0), TTL, 2);
    bench.now = at(7_999);
    assert_eq!(bench.turn(TTL), Ok(()));
    bench.now = at(8_000);
    assert!(bench.lease.facts().is_some_and(|(_, end)| end > bench.now));
    assert_eq!(bench.turn(TTL), Err(Loss::Expired));
}

#[test]
fn a_lease_that_runs_out_unannounced_is_given_up_for_the_next() {
    let mut bench = Bench::begun();
    bench.turn(TTL).expect("nothing held");
    bench.grant(at(0), TTL, 1);
    bench.turn(TTL).expect("nothing held");
    bench.calls();
    bench.now = at(8_000);
    bench.turn(TTL).expect("nothing held");
    bench.now = at(9_000);
    bench.turn(TTL).expect("nothing held");
    let calls = bench.calls();
    assert!(
        calls.contains(&ControlCall::Revoke { lease: 1 }),
        "{calls:?}"
    );
    assert_eq!(calls.last(), Some(&ControlCall::Grant { ttl: TTL }));
}

#[test]
fn what_certainly_or_possibly_failed_is_tried_again_later() {
    let error = || Error::new(&code::NOT_SET, "x");
    for outcome in [Outcome::Failed(vec![error()]), Outcome::Unknown(error())] {
        let mut bench = Bench::begun();
        bench.turn(TTL).expect("nothing held");
        bench.calls();
        bench
            .lease
            .granted(bench.now, &bench.io, (at(0), TTL), &outcome);
        bench.now = at(999);
        assert_eq!((bench.turn(TTL), bench.calls()), (Ok(()), vec![]));
        bench.now = at(1_000);
        bench.turn(TTL).expect("nothing held");
        assert_eq!(bench.calls(), [ControlCall::Grant { ttl: TTL }]);
        bench.grant(at(1_000), TTL, 1);
        bench.turn(TTL).expect("nothing held");
        assert_eq!(bench.calls(), [announce(1, 0)]);
        bench.lease.announced(bench.now, 1, &outcome);
        bench.now = at(2_000);
        bench.turn(TTL).expect("nothing held");
        assert_eq!(bench.calls(), [announce(1, 0)]);
    }
}

#[test]
fn a_lease_that_the_store_does_not_know_is_lost() {
    let mut bench = Bench::online();
    bench
        .lease
        .renewed(at(100), &bench.io, (1, at(50)), &lease(1, 0));
    assert_eq!(bench.turn(TTL), Err(Loss::Gone));
}

#[test]
fn an_announcement_under_another_lease_is_a_loss_unless_it_is_old_news() {
    let mut bench = Bench::online();
    bench.lease.confirm(4, 0);
    bench.lease.confirm(5, 1);
    assert_eq!(bench.turn(TTL), Ok(()));
    bench.lease.confirm(6, 0);
    assert_eq!(bench.turn(TTL), Err(Loss::Taken));
}

#[test]
fn it_is_given_up_once_and_not_waited_for_for_ever() {
    for answered in [true, false] {
        let mut bench = Bench::online();
        bench.lease.leave(bench.now, &mut bench.io);
        assert_eq!(bench.calls(), [ControlCall::Revoke { lease: 1 }]);
        bench.turn(TTL).expect("nothing held");
        assert!(!bench.lease.is_off());
        if answered {
            bench.revoked(1, &Outcome::Ok(Reply::Closed));
        } else {
            bench.now = at(3_000);
        }
        bench.turn(TTL).expect("nothing held");
        assert!(bench.lease.is_off());
        assert_eq!((bench.calls(), bench.lease.timeout()), (vec![], None));
    }
}

#[test]
fn a_new_process_replaces_what_it_finds_under_its_name() {
    let mut bench = Bench::begun();
    bench.turn(TTL).expect("nothing held");
    bench.grant(at(0), TTL, 2);
    bench.turn(TTL).expect("nothing held");
    bench.calls();
    for holder in [1, 7, 0] {
        bench.refused(2, holder);
        bench.turn(TTL).expect("nothing held");
        assert_eq!(bench.calls(), [announce(2, holder)]);
    }
    bench.written(2, 5);
    assert!(bench.lease.online());
}

#[test]
fn after_a_loss_only_our_own_leases_are_replaced() {
    let mut bench = Bench::online();
    bench.lease.lose(bench.now, &mut bench.io, Era(0), true);
    bench.io.poll();
    bench.lease.cancelled(bench.now, &mut bench.io);
    assert_eq!(bench.calls(), [ControlCall::Revoke { lease: 1 }]);
    bench.revoked(1, &Outcome::Unknown(Error::new(&code::NOT_SET, "timeout")));
    bench.now = at(3_000);
    bench.turn(TTL).expect("nothing held");
    // Nobody knows whether it is gone, so it is asked for again.
    bench.now = at(4_000);
    bench.turn(TTL).expect("nothing held");
    let grant = ControlCall::Grant { ttl: TTL };
    assert_eq!(
        bench.calls(),
        [ControlCall::Revoke { lease: 1 }, grant.clone()]
    );
    bench.grant(at(4_000), TTL, 2);
    bench.turn(TTL).expect("nothing held");
    assert_eq!(bench.calls(), [announce(2, 0)]);
    bench.refused(2, 1);
    bench.turn(TTL).expect("nothing held");
    assert_eq!(bench.calls(), [announce(2, 1)]);
    // Somebody else was faster.
    bench.refused(2, 7);
    bench.turn(TTL).expect("nothing held");
    assert_eq!(bench.calls(), []);
    bench.now = at(5_000);
    bench.turn(TTL).expect("nothing held");
    assert_eq!(bench.calls(), [announce(2, 0)]);
}
