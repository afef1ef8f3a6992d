//! Checkpoints, of ours and of others, and windows of safe mode.

use super::{A, B, Case, End::Done, Step::PutCheckpoint, apply, checkpoint, owned, reset, take};

pub(super) fn cases() -> Vec<Case> {
    vec![
        owned(
            "a checkpoint is remembered",
            vec![
                checkpoint(A, 60, Some(80), Done),
                take(A, 5, &[(4, 4)], Some((60, Some(80))), None),
                checkpoint(A, 70, None, Done),
                take(B, 6, &[(6, 4)], Some((70, None)), None),
            ],
        ),
        owned(
            "another's checkpoint makes progress void",
            vec![
                apply(A, 2, 100, vec![], Done),
                PutCheckpoint(Some((300, Some(400)))),
                take(B, 6, &[], Some((300, Some(400))), None),
                take(B, 6, &[], Some((300, Some(400))), None),
                reset(B, 1, 300, None, Ok(8)),
                take(B, 6, &[(10, 300)], Some((300, None)), None),
            ],
        ),
        owned(
            "another exit point makes progress void",
            vec![
                PutCheckpoint(Some((4, Some(90)))),
                take(A, 5, &[], Some((4, Some(90))), None),
            ],
        ),
        owned(
            "without a checkpoint progress is void",
            vec![
                PutCheckpoint(None),
                take(A, 5, &[], None, None),
                checkpoint(A, 50, None, Done),
                take(A, 5, &[(6, 4)], Some((50, None)), None),
            ],
        ),
        owned(
            "a window of safe mode is open until a checkpoint passes it",
            vec![
                reset(A, 1, 4, Some(100), Ok(3)),
                take(B, 6, &[(5, 4)], Some((4, Some(100))), Some(100)),
                checkpoint(B, 50, None, Done),
                take(B, 6, &[(7, 4)], Some((50, Some(100))), Some(100)),
                checkpoint(B, 60, Some(80), Done),
                take(B, 6, &[(9, 4)], Some((60, Some(100))), Some(100)),
                checkpoint(B, 70, Some(150), Done),
                take(B, 6, &[(11, 4)], Some((70, Some(150))), Some(100)),
                checkpoint(B, 100, None, Done),
                take(B, 6, &[(13, 4)], Some((100, None)), None),
                checkpoint(B, 110, None, Done),
                take(B, 6, &[(15, 4)], Some((110, None)), None),
            ],
        ),
        owned(
            "a window of safe mode ends with the progress, and with new slots",
            vec![
                reset(A, 1, 4, Some(100), Ok(3)),
                PutCheckpoint(Some((50, None))),
                take(A, 5, &[], Some((50, None)), None),
                reset(A, 1, 50, Some(200), Ok(6)),
                reset(A, 1, 60, None, Ok(7)),
                take(A, 5, &[(9, 60)], Some((60, None)), None),
            ],
        ),
    ]
}
