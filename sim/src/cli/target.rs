//! The simulated target, held to what real ones answer.

use dm_core::guard::Guard;
use dm_sim::{target::cases, world};

use super::name_of;

/// The guards that show in answers alone. What the others keep from happening takes a connection
/// that hangs.
const ANSWERED: [Guard; 6] = [
    Guard::FenceCompare,
    Guard::StepCompare,
    Guard::TakeoverCompare,
    Guard::TakeoverSteps,
    Guard::TakeoverTwoSteps,
    Guard::DdlSettle,
];

/// Runs all cases; and once more without each guard, which some case must notice.
pub(super) fn target() -> bool {
    let wrong = world::wrong_target_cases(None);
    wrong.iter().for_each(|case| say!("{case}"));
    let mut is_good = wrong.is_empty();
    say!("{} cases, {} go wrong", cases::all().len(), wrong.len());
    for guard in ANSWERED {
        let wrong = world::wrong_target_cases(Some(guard)).len();
        say!("  without {:<20} {wrong}", name_of(guard));
        is_good &= wrong > 0;
    }
    is_good
}
