//! Runs simulations.
//!
//! ```text
//! dm-sim run --seeds A..B [--jobs N] [--twice]   runs worlds; --twice compares two runs of each
//! dm-sim replay SEED [MUTANT]                    shows what happens in one
//! dm-sim mutants [--seeds A..B] [--jobs N]       switches guards off, one at a time
//! ```

use std::process::ExitCode;

#[cfg(madsim)]
mod cli;

#[cfg(madsim)]
fn main() -> ExitCode {
    cli::main()
}

#[cfg(not(madsim))]
fn main() -> ExitCode {
    eprintln!("this was built without the simulated runtime: use `cargo sim`");
    ExitCode::from(2)
}
