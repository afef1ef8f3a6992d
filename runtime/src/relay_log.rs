//! `dm-worker relay`: what is in a relay log, and whether all of it is right.
//!
//! Files are only read, a piece at a time, and whatever they contain ends in a line or an error.
//! The binlog of a server looks the same without sub-directories, so it will do as well.

mod dump;
mod event;
mod ls;
mod reading;
mod text;
mod tree;
mod verify;

use std::io::{self, BufWriter, ErrorKind, Write};

use dm_core::error::{Error, code};

use crate::config::args::Relay;

/// Room for output before it is written.
const OUTPUT_BYTES: usize = 64 * 1024;

/// Why it ends early.
#[derive(Debug)]
pub enum Stop {
    /// It can't be done as it was asked for.
    Refused(Error),
    /// Something is wrong with the files.
    Failed(Error),
    /// Nobody takes the output.
    Output(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Does what the command line says. Whether nothing is wrong with what was looked at.
///
/// # Errors
/// It can't be done, or could not be brought to its end. A reader of the output that has enough is
/// none.
pub fn run(what: &Relay, out: &mut dyn Write) -> Result<bool, Stop> {
    let mut out = BufWriter::with_capacity(OUTPUT_BYTES, out);
    let done = match what {
        Relay::Ls(path) => ls::ls(path, &mut out),
        Relay::Verify(path) => verify::verify(path, &mut out),
        Relay::Dump(args) => dump::dump(args, &mut out),
    };
    // What was found before an error is shown before it.
    let flushed = out.flush().map_err(Stop::from);
    match done.and_then(|good| flushed.map(|()| good)) {
        Err(Stop::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(true),
        Err(Stop::Output(error)) => {
            let text = "the output can't be written";
            let failed = Error::new(&code::RELAY_WRITER_FILE_OPERATE, text);
            Err(Stop::Failed(failed.with_cause(error.to_string())))
        }
        done => done,
    }
}
