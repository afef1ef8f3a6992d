//! Who may write, and who comes too late.

use super::{
    A, B, Case,
    End::{Done, Fenced, Moved},
    Step::ReadBack,
    apply, case, checkpoint, columns, contents, ddl, denied, keyed, owned, reset, session,
    statements::CREATE,
    take,
};

pub(super) fn cases() -> Vec<Case> {
    let nothing = || take(A, 5, &[], None, None);
    vec![
        case("a first takeover finds nothing", vec![nothing(), nothing()]),
        case(
            "who has not taken over writes nothing",
            vec![
                reset(A, 1, 4, None, Err(Moved)),
                session(A, 0, Moved),
                ReadBack(A, 0, Err(Moved)),
                checkpoint(A, 50, None, Moved),
                ddl(A, CREATE, 500, Moved),
                columns(A, "other", None),
                nothing(),
            ],
        ),
        case(
            "new slots begin above every step",
            vec![
                nothing(),
                reset(A, 2, 4, None, Ok(2)),
                take(A, 5, &[(4, 4), (4, 4)], Some((4, None)), None),
                reset(A, 3, 50, None, Ok(5)),
                checkpoint(A, 51, None, Done),
                checkpoint(A, 52, None, Done),
                checkpoint(A, 53, None, Done),
                reset(A, 1, 60, None, Ok(8)),
                take(A, 5, &[(10, 60)], Some((60, None)), None),
            ],
        ),
        owned(
            "a newer owner ends an older one",
            vec![
                take(B, 6, &[(4, 4)], Some((4, None)), None),
                apply(A, 2, 100, vec![keyed(&[1, 10, 0])], Fenced),
                apply(A, 4, 100, vec![keyed(&[1, 10, 0])], Fenced),
                session(A, 0, Fenced),
                ReadBack(A, 0, Err(Fenced)),
                checkpoint(A, 50, None, Fenced),
                reset(A, 1, 50, None, Err(Fenced)),
                ddl(A, CREATE, 500, Fenced),
                columns(B, "other", None),
                contents("keyed", &[]),
                session(B, 0, Done),
                apply(B, 4, 100, vec![keyed(&[1, 10, 0])], Done),
                take(B, 6, &[(7, 100)], Some((4, None)), None),
            ],
        ),
        owned(
            "an older fence takes nothing over",
            vec![
                denied(B, 4, Fenced),
                session(B, 0, Fenced),
                apply(A, 2, 100, vec![keyed(&[1, 10, 0])], Done),
                take(A, 5, &[(5, 100)], Some((4, None)), None),
            ],
        ),
        owned(
            "what was planned before a takeover comes too late, and does not look applied",
            vec![
                apply(A, 2, 100, vec![], Done),
                take(A, 5, &[(5, 100)], Some((4, None)), None),
                apply(A, 3, 200, vec![keyed(&[1, 10, 0])], Moved),
                apply(A, 4, 200, vec![keyed(&[1, 10, 0])], Moved),
                contents("keyed", &[]),
                apply(A, 5, 200, vec![keyed(&[1, 10, 0])], Done),
            ],
        ),
        owned(
            "of two with the same fence the first one is behind",
            vec![
                take(B, 5, &[(4, 4)], Some((4, None)), None),
                apply(A, 2, 100, vec![keyed(&[1, 10, 0])], Moved),
                checkpoint(A, 50, None, Moved),
                reset(A, 1, 50, None, Err(Moved)),
                ddl(A, CREATE, 500, Moved),
                columns(B, "other", None),
                take(B, 5, &[(6, 4)], Some((4, None)), None),
            ],
        ),
    ]
}
