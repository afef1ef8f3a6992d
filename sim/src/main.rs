//! Runs simulations: see `cargo sim help`.

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
