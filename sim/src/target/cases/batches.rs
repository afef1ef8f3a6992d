//! Steps of slots, and what becomes of their rows.

use dm_core::sync::batch::Op;

use super::{
    A, Case,
    End::{Done, Failed, Moved},
    NULL, Place,
    Step::{self, Execute, ReadBack},
    apply, case, change, contents, gone, keyed, keyless, owned, reset, session, take, within,
    written,
};

pub(super) fn cases() -> Vec<Case> {
    let mut all = steps();
    all.extend(rows());
    all
}

fn steps() -> Vec<Case> {
    vec![
        owned(
            "rows and progress are one",
            vec![
                apply(A, 2, 100, vec![keyed(&[1, 10, 0])], Done),
                apply(A, 3, 200, vec![keyed(&[2, 20, 0])], Done),
                contents("keyed", &[&[1, 10, 0], &[2, 20, 0]]),
                take(A, 5, &[(6, 200)], Some((4, None)), None),
            ],
        ),
        owned(
            "a step is made once, and none is left out",
            vec![
                apply(A, 2, 100, vec![keyed(&[1, 10, 0])], Done),
                apply(A, 2, 100, vec![keyed(&[2, 20, 0])], Moved),
                apply(A, 4, 300, vec![keyed(&[3, 30, 0])], Moved),
                contents("keyed", &[&[1, 10, 0]]),
                apply(A, 3, 200, vec![], Done),
                take(A, 5, &[(6, 200)], Some((4, None)), None),
            ],
        ),
        case(
            "slots know nothing of each other",
            vec![
                take(A, 5, &[], None, None),
                reset(A, 2, 4, None, Ok(2)),
                session(A, 1, Done),
                Step::Apply(A, 1, 2, Place(100, 3), vec![keyed(&[1, 10, 0])], Done),
                ReadBack(A, 0, Ok(2)),
                ReadBack(A, 1, Ok(3)),
                session(A, 2, Moved),
                ReadBack(A, 2, Err(Moved)),
                within(A, 5, &[(4, Place(4, 0)), (5, Place(100, 3))]),
            ],
        ),
        owned(
            "after a look at the progress another session goes on",
            vec![
                apply(A, 2, 100, vec![keyed(&[1, 10, 0])], Done),
                ReadBack(A, 0, Ok(3)),
                ReadBack(A, 0, Ok(3)),
                session(A, 0, Done),
                apply(A, 3, 200, vec![keyed(&[2, 20, 0])], Done),
            ],
        ),
    ]
}

fn rows() -> Vec<Case> {
    let first = || apply(A, 2, 100, vec![keyed(&[1, 10, 0])], Done);
    vec![
        owned(
            "a value that is there rolls all of a batch back",
            vec![
                first(),
                apply(
                    A,
                    3,
                    200,
                    vec![keyless(&[7, 7]), keyed(&[1, 11, 0])],
                    Failed(1062),
                ),
                apply(
                    A,
                    3,
                    200,
                    vec![keyless(&[7, 7]), keyed(&[2, 10, 0])],
                    Failed(1062),
                ),
                contents("keyless", &[]),
                contents("keyed", &[&[1, 10, 0]]),
                apply(A, 3, 200, vec![keyed(&[2, 20, 0])], Done),
                take(A, 5, &[(6, 200)], Some((4, None)), None),
            ],
        ),
        owned(
            "NULL collides with nothing",
            vec![
                apply(
                    A,
                    2,
                    100,
                    vec![keyed(&[1, NULL, 0]), keyed(&[2, NULL, 0])],
                    Done,
                ),
                contents("keyed", &[&[1, NULL, 0], &[2, NULL, 0]]),
            ],
        ),
        owned(
            "a missing table rolls all of a batch back",
            vec![
                Execute("DROP TABLE $.`keyless`"),
                apply(
                    A,
                    2,
                    100,
                    vec![keyed(&[1, 10, 0]), keyless(&[7, 7])],
                    Failed(1146),
                ),
                contents("keyed", &[]),
                Step::Rows("keyless", None),
                first(),
            ],
        ),
        owned(
            "a missing column rolls all of a batch back",
            vec![
                Execute("ALTER TABLE $.`keyed` DROP COLUMN `v`"),
                apply(
                    A,
                    2,
                    100,
                    vec![keyless(&[7, 7]), keyed(&[1, 10, 0])],
                    Failed(1054),
                ),
                contents("keyless", &[]),
                ReadBack(A, 0, Ok(2)),
            ],
        ),
        owned(
            "rows change by their key",
            vec![
                apply(
                    A,
                    2,
                    100,
                    vec![keyed(&[1, 10, 0]), keyed(&[2, 20, 0])],
                    Done,
                ),
                apply(
                    A,
                    3,
                    200,
                    vec![change(Op::Upsert, &[1, 10, 0], &[1, 11, 5])],
                    Done,
                ),
                apply(
                    A,
                    4,
                    300,
                    vec![change(Op::Update, &[2, 20, 0], &[3, 20, 0])],
                    Done,
                ),
                contents("keyed", &[&[1, 11, 5], &[3, 20, 0]]),
                apply(
                    A,
                    5,
                    400,
                    vec![change(Op::Update, &[3, 20, 0], &[1, 20, 0])],
                    Failed(1062),
                ),
                apply(
                    A,
                    5,
                    400,
                    vec![change(Op::Upsert, &[3, 20, 0], &[3, 11, 0])],
                    Failed(1062),
                ),
                apply(A, 5, 400, vec![gone("keyed", &[1, 11, 5])], Done),
                contents("keyed", &[&[3, 20, 0]]),
            ],
        ),
        owned(
            "of the same rows without a key one goes",
            vec![
                apply(
                    A,
                    2,
                    100,
                    vec![keyless(&[7, NULL]), keyless(&[7, NULL])],
                    Done,
                ),
                apply(A, 3, 200, vec![gone("keyless", &[7, NULL])], Done),
                contents("keyless", &[&[7, NULL]]),
            ],
        ),
        owned(
            "what changes a row that is not there changes nothing, or makes it",
            vec![
                first(),
                apply(A, 3, 200, vec![gone("keyed", &[9, 90, 0])], Done),
                apply(
                    A,
                    4,
                    300,
                    vec![change(Op::Update, &[9, 90, 0], &[8, 90, 0])],
                    Done,
                ),
                contents("keyed", &[&[1, 10, 0]]),
                apply(
                    A,
                    5,
                    400,
                    vec![change(Op::Upsert, &[9, 90, 0], &[9, 90, 1])],
                    Done,
                ),
                contents("keyed", &[&[1, 10, 0], &[9, 90, 1]]),
            ],
        ),
        owned(
            "a replacement takes the place of all that it collides with",
            vec![
                apply(
                    A,
                    2,
                    100,
                    vec![keyed(&[1, 10, 0]), keyed(&[2, 20, 0])],
                    Done,
                ),
                apply(
                    A,
                    3,
                    200,
                    vec![written(Op::Replace, "keyed", &[2, 10, 7])],
                    Done,
                ),
                contents("keyed", &[&[2, 10, 7]]),
            ],
        ),
    ]
}
