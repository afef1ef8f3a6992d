//! Oracles: each knows one thing that must hold, and looks at it all along.

pub(super) mod checkpoint;
pub(super) mod convergence;
pub(super) mod end;
pub(super) mod exactly_once;
pub(super) mod fence;
pub(super) mod files;
pub(super) mod leak;
pub(super) mod lease;
pub(super) mod moment;
pub(super) mod name;
pub(super) mod order;
pub(super) mod owner;
pub(super) mod progress;
pub(super) mod purge;
pub(super) mod relay;
pub(super) mod snapshot;
pub(super) mod stop;
pub(super) mod tables;

/// Names of all oracles.
pub const NAMES: [&str; 18] = [
    checkpoint::NAME,
    convergence::NAME,
    end::NAME,
    exactly_once::NAME,
    fence::NAME,
    files::NAME,
    leak::NAME,
    lease::NAME,
    moment::NAME,
    name::NAME,
    order::NAME,
    owner::NAME,
    progress::NAME,
    purge::NAME,
    relay::NAME,
    snapshot::NAME,
    stop::NAME,
    tables::NAME,
];
