//! What an etcd answers, case by case, and how to hold a store to it.
//!
//! The simulated store must answer so in every build, and a real etcd is asked the same in the
//! tests with real servers. Each case begins with an empty store, which is at revision 1.

use std::{future::Future, time::Duration};

use super::model::{
    Answer, Body, Change, Compare, Condition, KeyValue, Op, Order, Refusal, Request, Span,
};

/// A store that cases are run against.
pub trait Reality {
    /// Carries out a request. A refusal is its status code and its text.
    fn call(
        &mut self,
        request: &Request,
    ) -> impl Future<Output = Result<Answer, (String, String)>> + Send;

    /// What a new watch with previous values tells of the past; else up to where it is compacted.
    fn changes(
        &mut self,
        span: &Span,
        from: i64,
    ) -> impl Future<Output = Result<Vec<Change>, i64>> + Send;

    /// Lets time pass.
    fn wait(&mut self, time: Duration) -> impl Future<Output = ()> + Send;
}

/// Steps on one store.
pub struct Case {
    /// Says what it is about.
    pub name: &'static str,
    steps: Vec<Step>,
}

enum Step {
    Ask(Request, Result<Answer, Refusal>),
    Watch(Span, i64, Result<Vec<Change>, i64>),
    Wait(u64),
}

/// Runs a case.
///
/// # Errors
/// The first answer that is another one.
pub async fn run(case: &Case, reality: &mut impl Reality) -> Result<(), String> {
    for (number, step) in case.steps.iter().enumerate() {
        match step {
            Step::Ask(request, expected) => {
                let answer = reality.call(request).await;
                let expected = expected.clone();
                let expected =
                    expected.map_err(|refusal| (refusal.code.into(), refusal.text.into()));
                if answer != expected {
                    return Err(format!(
                        "step {number}, {request:?}:\n is {answer:?}\n not {expected:?}"
                    ));
                }
            }
            Step::Watch(span, from, expected) => {
                let changes = reality.changes(span, *from).await;
                if changes != *expected {
                    return Err(format!(
                        "step {number}, a watch of {span:?} from {from}:\n tells {changes:?}\n \
                         not {expected:?}"
                    ));
                }
            }
            Step::Wait(seconds) => reality.wait(Duration::from_secs(*seconds)).await,
        }
    }
    Ok(())
}

/// All cases.
#[must_use]
pub fn all() -> Vec<Case> {
    vec![
        revisions(),
        reads(),
        compaction(),
        watches(),
        conditions_on_a_missing_key(),
        conditions_on_a_key(),
        transactions(),
        leases(),
        leased_keys(),
    ]
}

fn revisions() -> Case {
    let read = || get(Span::prefix("a"), 0, 0);
    Case {
        name: "only what changes something makes a revision",
        steps: vec![
            ask(read(), 1, entries(&[])),
            ask(put("a/1", "x", 0), 2, Body::Done),
            ask(put("a/1", "x", 0), 3, Body::Done),
            ask(delete(Span::key("b")), 3, Body::Deleted(0)),
            ask(grant(7, 60), 3, lease(7, 60)),
            ask(Request::Renew { id: 7 }, 3, lease(7, 60)),
            ask(read(), 3, entries(&[kv("a/1", "x", 2, 3, 2, 0)])),
            ask(delete(Span::prefix("a/")), 4, Body::Deleted(1)),
            ask(put("a/1", "y", 0), 5, Body::Done),
            ask(read(), 5, entries(&[kv("a/1", "y", 5, 5, 1, 0)])),
            ask(Request::Revoke { id: 7 }, 5, Body::Done),
        ],
    }
}

fn reads() -> Case {
    let [one, two, three] = [
        kv("r/1", "1", 2, 2, 1, 0),
        kv("r/2", "2", 3, 3, 1, 0),
        kv("r0", "3", 4, 4, 1, 0),
    ];
    let limited = Body::Entries {
        entries: vec![one.clone()],
        more: true,
        count: 2,
    };
    let to_the_end = Span {
        key: "r/2".into(),
        end: vec![0].into(),
    };
    Case {
        name: "ranges end before their end",
        steps: vec![
            ask(put("r/1", "1", 0), 2, Body::Done),
            ask(put("r/2", "2", 0), 3, Body::Done),
            ask(put("r0", "3", 0), 4, Body::Done),
            ask(
                get(Span::prefix("r/"), 0, 0),
                4,
                entries(&[one.clone(), two.clone()]),
            ),
            ask(get(Span::prefix("r/"), 0, 1), 4, limited),
            ask(
                get(Span::prefix("r/"), 0, 2),
                4,
                entries(&[one.clone(), two.clone()]),
            ),
            ask(get(Span::key("r/"), 0, 0), 4, entries(&[])),
            ask(get(to_the_end, 0, 0), 4, entries(&[two, three])),
            ask(get(Span::prefix("r/"), 2, 0), 4, entries(&[one])),
            refuse(put("", "x", 0), Refusal::NO_KEY),
            refuse(get(Span::key(""), 0, 0), Refusal::NO_KEY),
        ],
    }
}

fn compaction() -> Case {
    let compact = |revision| Request::Compact { revision };
    let read = |revision| get(Span::key("k"), revision, 0);
    Case {
        name: "what is compacted is gone, the revision itself is not",
        steps: vec![
            ask(put("k", "a", 0), 2, Body::Done),
            ask(put("k", "b", 0), 3, Body::Done),
            ask(put("k", "c", 0), 4, Body::Done),
            ask(read(2), 4, entries(&[kv("k", "a", 2, 2, 1, 0)])),
            ask(compact(3), 4, Body::Done),
            refuse(read(2), Refusal::COMPACTED),
            ask(read(3), 4, entries(&[kv("k", "b", 2, 3, 2, 0)])),
            refuse(read(5), Refusal::FUTURE),
            refuse(compact(3), Refusal::COMPACTED),
            refuse(compact(2), Refusal::COMPACTED),
            refuse(compact(9), Refusal::FUTURE),
            Step::Watch(Span::key("k"), 2, Err(3)),
            Step::Watch(
                Span::key("k"),
                4,
                Ok(vec![changed(
                    kv("k", "c", 2, 4, 3, 0),
                    Some(kv("k", "b", 2, 3, 2, 0)),
                )]),
            ),
        ],
    }
}

fn watches() -> Case {
    let first = kv("w/1", "x", 2, 2, 1, 0);
    let second = kv("w/2", "x", 4, 4, 1, 0);
    let third = kv("w/1", "y", 2, 4, 2, 0);
    let changes = vec![
        changed(first.clone(), None),
        changed(second.clone(), None),
        changed(third.clone(), Some(first)),
        gone("w/1", 5, third),
        gone("w/2", 5, second),
    ];
    let both = vec![set("w/2", "x", 0), set("w/1", "y", 0)];
    Case {
        name: "a watch tells the past, with what was there before",
        steps: vec![
            ask(put("w/1", "x", 0), 2, Body::Done),
            ask(put("elsewhere", "x", 0), 3, Body::Done),
            ask(txn(vec![], both, vec![]), 4, done(true, 2)),
            ask(delete(Span::prefix("w/")), 5, Body::Deleted(2)),
            Step::Watch(Span::prefix("w/"), 2, Ok(changes.clone())),
            Step::Watch(Span::prefix("w/"), 3, Ok(changes[1..].to_vec())),
            Step::Watch(Span::prefix("w/"), 5, Ok(changes[3..].to_vec())),
            Step::Watch(
                Span::key("w/2"),
                1,
                Ok(vec![changes[1].clone(), changes[4].clone()]),
            ),
        ],
    }
}

fn conditions_on_a_missing_key() -> Case {
    let holds = |condition, expected| {
        let when = vec![compare("missing", condition)];
        ask(txn(when, vec![], vec![]), 1, done(expected, 0))
    };
    Case {
        name: "a missing key has numbers of zero and no value",
        steps: vec![
            holds(Condition::Version(Order::Equal, 0), true),
            holds(Condition::Version(Order::Greater, 0), false),
            holds(Condition::Created(Order::Equal, 0), true),
            holds(Condition::Created(Order::NotEqual, 0), false),
            holds(Condition::Modified(Order::Equal, 0), true),
            holds(Condition::Modified(Order::Less, 1), true),
            holds(Condition::Lease(Order::Equal, 0), true),
            holds(Condition::Lease(Order::Equal, 7), false),
            holds(Condition::Value(Order::Equal, "".into()), false),
            holds(Condition::Value(Order::NotEqual, "x".into()), false),
            holds(Condition::Value(Order::Less, "x".into()), false),
            holds(Condition::Value(Order::Greater, "".into()), false),
        ],
    }
}

fn conditions_on_a_key() -> Case {
    let holds = |condition, expected| {
        let when = vec![compare("k", condition)];
        ask(txn(when, vec![], vec![]), 3, done(expected, 0))
    };
    Case {
        name: "conditions look at the newest version",
        steps: vec![
            ask(grant(7, 60), 1, lease(7, 60)),
            ask(put("k", "a", 0), 2, Body::Done),
            ask(put("k", "m", 7), 3, Body::Done),
            holds(Condition::Version(Order::Equal, 2), true),
            holds(Condition::Version(Order::Greater, 2), false),
            holds(Condition::Created(Order::Equal, 2), true),
            holds(Condition::Created(Order::Less, 2), false),
            holds(Condition::Modified(Order::Equal, 3), true),
            holds(Condition::Modified(Order::NotEqual, 3), false),
            holds(Condition::Lease(Order::Equal, 7), true),
            holds(Condition::Lease(Order::Equal, 0), false),
            holds(Condition::Value(Order::Equal, "m".into()), true),
            holds(Condition::Value(Order::NotEqual, "m".into()), false),
            holds(Condition::Value(Order::Less, "n".into()), true),
            holds(Condition::Value(Order::Greater, "b".into()), true),
            holds(Condition::Value(Order::Greater, "z".into()), false),
        ],
    }
}

fn transactions() -> Case {
    let is_new = || compare("k", Condition::Created(Order::Equal, 0));
    let read = || Op::Get {
        span: Span::key("k"),
        revision: 0,
        limit: 0,
    };
    let written = |entry: KeyValue| Body::Txn {
        succeeded: true,
        bodies: vec![Body::Done, entries(&[entry])],
    };
    let refused = |entry: KeyValue| Body::Txn {
        succeeded: false,
        bodies: vec![entries(&[entry])],
    };
    let create = || txn(vec![is_new()], vec![set("k", "1", 0), read()], vec![read()]);
    let entry = || kv("k", "1", 2, 2, 1, 0);
    let twice = vec![set("a", "1", 0), set("a", "2", 0)];
    let overlap = vec![
        set("a", "1", 0),
        Op::Delete {
            span: Span::prefix("a"),
        },
    ];
    let unleased = vec![set("a", "1", 0), set("b", "1", 9)];
    Case {
        name: "a transaction is one write or none",
        steps: vec![
            ask(create(), 2, written(entry())),
            ask(create(), 2, refused(entry())),
            // All conditions must hold.
            ask(
                txn(
                    vec![compare("k", Condition::Version(Order::Equal, 1)), is_new()],
                    vec![set("k", "2", 0)],
                    vec![],
                ),
                2,
                done(false, 0),
            ),
            refuse(txn(vec![], twice.clone(), vec![]), Refusal::DUPLICATE_KEY),
            // Though that branch would not be taken.
            refuse(txn(vec![], vec![], twice), Refusal::DUPLICATE_KEY),
            refuse(txn(vec![], overlap, vec![]), Refusal::DUPLICATE_KEY),
            refuse(txn(vec![], unleased, vec![]), Refusal::NO_LEASE),
            ask(get(Span::prefix("a"), 0, 0), 2, entries(&[])),
            ask(
                txn(vec![], vec![set("a", "1", 0), set("b", "1", 0)], vec![]),
                3,
                done(true, 2),
            ),
            ask(
                get(Span::prefix("b"), 0, 0),
                3,
                entries(&[kv("b", "1", 3, 3, 1, 0)]),
            ),
        ],
    }
}

fn leases() -> Case {
    Case {
        name: "a lease lives as long as it is renewed",
        steps: vec![
            ask(grant(7, 1), 1, lease(7, 2)),
            ask(grant(8, 60), 1, lease(8, 60)),
            refuse(grant(8, 30), Refusal::LEASE_EXISTS),
            ask(put("l/1", "x", 7), 2, Body::Done),
            ask(put("l/2", "x", 7), 3, Body::Done),
            ask(Request::Renew { id: 7 }, 3, lease(7, 2)),
            Step::Wait(4),
            // Both keys in one revision.
            ask(get(Span::prefix("l/"), 0, 0), 4, entries(&[])),
            Step::Watch(
                Span::prefix("l/"),
                4,
                Ok(vec![
                    gone("l/1", 4, kv("l/1", "x", 2, 2, 1, 7)),
                    gone("l/2", 4, kv("l/2", "x", 3, 3, 1, 7)),
                ]),
            ),
            ask(Request::Renew { id: 7 }, 4, lease(7, 0)),
            ask(Request::TimeToLive { id: 7 }, 4, lease(7, -1)),
            refuse(Request::Revoke { id: 7 }, Refusal::NO_LEASE),
            refuse(put("l/1", "x", 7), Refusal::NO_LEASE),
            ask(Request::Renew { id: 8 }, 4, lease(8, 60)),
        ],
    }
}

fn leased_keys() -> Case {
    Case {
        name: "a key hangs on its last lease",
        steps: vec![
            ask(grant(7, 60), 1, lease(7, 60)),
            ask(grant(8, 60), 1, lease(8, 60)),
            ask(put("moved", "x", 7), 2, Body::Done),
            ask(put("moved", "x", 8), 3, Body::Done),
            ask(put("freed", "x", 7), 4, Body::Done),
            ask(put("freed", "x", 0), 5, Body::Done),
            ask(put("held", "x", 7), 6, Body::Done),
            ask(Request::Revoke { id: 7 }, 7, Body::Done),
            ask(get(Span::key("held"), 0, 0), 7, entries(&[])),
            ask(
                get(Span::key("moved"), 0, 0),
                7,
                entries(&[kv("moved", "x", 2, 3, 2, 8)]),
            ),
            ask(
                get(Span::key("freed"), 0, 0),
                7,
                entries(&[kv("freed", "x", 4, 5, 2, 0)]),
            ),
        ],
    }
}

fn ask(request: Request, revision: i64, body: Body) -> Step {
    Step::Ask(request, Ok(Answer { revision, body }))
}

const fn refuse(request: Request, refusal: Refusal) -> Step {
    Step::Ask(request, Err(refusal))
}

fn set(key: &'static str, value: &'static str, lease: i64) -> Op {
    Op::Put {
        key: key.into(),
        value: value.into(),
        lease,
    }
}

fn put(key: &'static str, value: &'static str, lease: i64) -> Request {
    Request::Op(set(key, value, lease))
}

const fn get(span: Span, revision: i64, limit: usize) -> Request {
    Request::Op(Op::Get {
        span,
        revision,
        limit,
    })
}

const fn delete(span: Span) -> Request {
    Request::Op(Op::Delete { span })
}

const fn txn(when: Vec<Compare>, then: Vec<Op>, or: Vec<Op>) -> Request {
    Request::Txn { when, then, or }
}

fn compare(key: &'static str, condition: Condition) -> Compare {
    Compare {
        key: key.into(),
        condition,
    }
}

const fn grant(id: i64, ttl_s: i64) -> Request {
    Request::Grant { id, ttl_s }
}

const fn lease(id: i64, ttl_s: i64) -> Body {
    Body::Lease { id, ttl_s }
}

fn done(succeeded: bool, writes: usize) -> Body {
    Body::Txn {
        succeeded,
        bodies: vec![Body::Done; writes],
    }
}

fn entries(entries: &[KeyValue]) -> Body {
    Body::Entries {
        entries: entries.to_vec(),
        more: false,
        count: entries.len() as i64,
    }
}

fn kv(
    key: &'static str,
    value: &'static str,
    create_revision: i64,
    mod_revision: i64,
    version: i64,
    lease: i64,
) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: value.into(),
        create_revision,
        mod_revision,
        version,
        lease,
    }
}

fn changed(now: KeyValue, before: Option<KeyValue>) -> Change {
    Change {
        revision: now.mod_revision,
        key: now.key.clone(),
        now: Some(now),
        before,
    }
}

fn gone(key: &'static str, revision: i64, before: KeyValue) -> Change {
    Change {
        revision,
        key: key.into(),
        now: None,
        before: Some(before),
    }
}
