//! Runs simulations.

use std::process::ExitCode;

#[cfg(not(madsim))]
fn main() -> ExitCode {
    eprintln!("this was built without the simulated runtime: use `cargo sim`");
    ExitCode::from(2)
}

#[cfg(madsim)]
fn main() -> ExitCode {
    ExitCode::from(2)
}
