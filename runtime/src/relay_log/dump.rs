//! Shows the events of a relay log.

use std::io::Write;

use dm_core::{
    binlog::{Decoder, Event, FileName, Frame, GtidSet, Position, event_type as kind},
    error::{Error, Result, code},
    relay::Scan,
};

use super::{
    Stop,
    event::{Line, Says},
    reading::Reading,
    text::plain,
    tree::{Place, State, Tree},
};
use crate::{config::args::Dump, units::payload::Payload};

/// A file, and the directory that it is in.
type Named<'a> = (&'a Place, &'a str);
/// Which file of all, and an offset in it.
type Bound = (usize, u64);

/// Shows what was asked for. Whether all of it could be understood.
pub(super) fn dump(args: &Dump, out: &mut dyn Write) -> Result<bool, Stop> {
    let tree = Tree::open(&args.path)?;
    let files: Vec<Named<'_>> = (tree.places.iter())
        .filter(|place| place.state == State::There)
        .flat_map(|place| {
            place
                .contents
                .files
                .iter()
                .map(move |name| (place, &**name))
        })
        .collect();
    let bound = |flag, position: &Option<Position>, default| match position {
        Some(position) => find(&files, flag, position).map_err(Stop::Refused),
        None => Ok(default),
    };
    let from = bound("from", &args.from, (0, 0))?;
    let to = bound("to", &args.to, (files.len(), 0))?;
    let mut shown = Shown {
        out,
        gtids: args.gtids.as_ref(),
        json: args.json,
        failed: 0,
    };
    for (index, file) in files.iter().enumerate() {
        let first = if index == from.0 { from.1 } else { 0 };
        let end = if index == to.0 { to.1 } else { u64::MAX };
        if index < from.0 || index > to.0 || end == 0 {
            continue;
        }
        if files.len() > 1 && !args.json {
            writeln!(shown.out, "# {}", title(*file))?;
        }
        shown.file(*file, first, end)?;
    }
    Ok(shown.failed == 0)
}

/// Which file a position is in.
fn find(files: &[Named<'_>], flag: &str, position: &Position) -> Result<Bound> {
    let refuse = |why: &str| {
        let message = format!("-{flag}: {why}");
        Err(Error::new(&code::NO_RELAY_LOG_MATCH_POS, message)
            .with_workaround("`dm-worker relay ls` shows which files there are."))
    };
    let Position { file, pos } = position;
    let Ok(name) = FileName::parse(file) else {
        return match files {
            [_] => Ok((0, *pos)),
            _ => refuse("in a directory with more than one file it must be FILE:OFFSET"),
        };
    };
    let plain = name.plain();
    let mut found = (files.iter().enumerate()).filter(|(_, (place, file))| {
        let number = place.dir.as_ref().map(|dir| dir.number());
        *file == plain && (name.relay.is_none() || name.relay == number)
    });
    match (found.next(), found.next()) {
        (Some((index, _)), None) => Ok((index, *pos)),
        (None, _) => refuse(&format!("there is no file {file}")),
        (Some((_, (place, _))), Some(_)) => {
            let number = place.dir.as_ref().map_or(0, |dir| dir.number());
            let digits = plain.rsplit('.').next().unwrap_or_default();
            refuse(&format!(
                "{plain} is in several sub-directories; `{}|{number:06}.{digits}` is the first one",
                name.base
            ))
        }
    }
}

/// A file's name with that of its sub-directory.
fn title((place, name): Named<'_>) -> String {
    let dir = place.dir.as_ref().map(|dir| format!("{dir}/"));
    format!("{}{}", dir.unwrap_or_default(), plain(name))
}

/// What is shown, and where.
struct Shown<'a> {
    out: &'a mut dyn Write,
    gtids: Option<&'a GtidSet>,
    json: bool,
    /// Events that are not understood, though they are whole.
    failed: u64,
}

impl Shown<'_> {
    /// Shows the events that begin from one offset on and before another.
    fn file(&mut self, file: Named<'_>, first: u64, end: u64) -> Result<(), Stop> {
        let title = title(file);
        let path = file.0.path.join(file.1);
        let failed = |error: Error| {
            let error = error.annotate(&path.display().to_string());
            Stop::Failed(error.with_workaround(
                "`dm-worker relay verify` says what else is damaged. Copy the file again while \
                 the source has it, or let the relay begin anew in an empty directory.",
            ))
        };
        let mut reading = Reading::open(&path).map_err(Stop::Failed)?;
        let mut scan = Scan::new(reading.flavor());
        let mut decoder = Decoder::new(reading.flavor()).accept_unchecked();
        while let Some(piece) = reading.piece(&scan).map_err(failed)? {
            let start = scan.end();
            if start >= end {
                return Ok(());
            }
            let open = scan.transaction().cloned();
            let Some(frame) = scan.take_framed(&piece).map_err(failed)? else {
                continue;
            };
            let begins = matches!(
                frame.header.event_type,
                kind::GTID | kind::GTID_TAGGED | kind::MARIADB_GTID
            );
            let gtid = if begins {
                scan.transaction()
            } else {
                open.as_ref()
            };
            let is_wanted = self
                .gtids
                .is_none_or(|wanted| gtid.is_some_and(|gtid| wanted.contains_txn(gtid)));
            if start >= first && is_wanted {
                self.event(&mut decoder, &title, start, &frame)?;
            } else if frame.header.event_type == kind::TABLE_MAP {
                // Rows that are shown may be of that table. If not, it does not matter.
                let _ = decoder.event(&frame);
            }
        }
        let left = reading.len() - scan.end();
        if left == 0 {
            return Ok(());
        }
        if !scan.is_beginning(&reading.rest()) {
            let text = format!("{left} bytes behind offset {} are no event", scan.end());
            return Err(failed(Error::new(&code::PARSER_PARSE_RELAY_LOG, text)));
        }
        if !self.json {
            writeln!(
                self.out,
                "# {left} bytes are left of an event that is not whole"
            )?;
        }
        Ok(())
    }

    fn event(
        &mut self,
        decoder: &mut Decoder,
        file: &str,
        offset: u64,
        frame: &Frame,
    ) -> Result<(), Stop> {
        let event = decoder.event(frame);
        self.line(&Line::new(
            file,
            Some(offset),
            frame,
            Says::of(&event, frame),
        ))?;
        let Ok(Event::Payload {
            compression,
            uncompressed_size,
            body,
        }) = event
        else {
            return Ok(());
        };
        let mut payload = Payload::open(compression, uncompressed_size, body);
        loop {
            let raw = match &mut payload {
                Ok(payload) => payload.next(),
                Err(error) => Err(error.clone()),
            };
            let inside = raw.and_then(|raw| {
                let inside = raw.map(|raw| Frame::inside_payload(&raw));
                Ok(inside.transpose()?)
            });
            match inside {
                Ok(Some(inside)) => {
                    let says = Says::of(&decoder.event(&inside), &inside);
                    self.line(&Line::new(file, None, &inside, says))?;
                }
                Ok(None) => return Ok(()),
                Err(error) => {
                    let error = error.to_string();
                    return self.line(&Line::new(file, None, frame, Says::Failed { error }));
                }
            }
        }
    }

    fn line(&mut self, line: &Line<'_>) -> Result<(), Stop> {
        if line.is_failed() {
            self.failed += 1;
        }
        if self.json {
            let json = serde_json::to_string(line).map_err(std::io::Error::other)?;
            writeln!(self.out, "{json}")?;
        } else {
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }
}
