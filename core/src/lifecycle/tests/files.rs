//! The mark of the worker that has the dump files of a subtask.

use std::{format, string::String, time::Duration, vec};

use super::{
    operator::load_task,
    world::{WORKER, World},
};
use crate::{
    error::{Code, Error, code},
    lifecycle::{ControlCall, Effect, Event, Input, Outcome, Reply, Ticket},
    status::{Stage, UnitKind},
};

const SECOND: Duration = Duration::from_secs(1);

fn finished() -> Outcome {
    Outcome::Ok(Reply::Finished)
}

fn failed(code: &'static Code) -> Outcome {
    Outcome::Failed(vec![Error::new(code, "there is none in /d")])
}

impl World {
    /// Who has the files of the subtask.
    fn marked(&self) -> Option<String> {
        let entry = self.store.get(&load_task("a", "t"))?;
        Some(String::from_utf8(entry.value.to_vec()).expect("text"))
    }

    /// A world whose subtask loads, and what is done with its unit is up to the test.
    fn loading(streamed: bool) -> Self {
        let mut world = Self::begun();
        if streamed {
            world.streamed.push("t");
        }
        world.quiet();
        world.source("a", false);
        world.bind("a");
        world.task("a", "t", "all");
        world.quiet();
        world.finish();
        world
    }

    fn finish(&mut self) {
        let live = self.live("a", "t").expect("live");
        self.end(live, finished());
    }

    /// The unit says that it has files, and nobody answers anything.
    fn has_files(&mut self) -> Ticket {
        let ticket = self.live("a", "t").expect("live");
        let unit = self.units.get_mut(&ticket).expect("live");
        unit.waits = true;
        let event = Event::HasFiles;
        self.input(Input::Event { ticket, event });
        ticket
    }

    /// Whether the unit waits.
    fn waits(&self) -> bool {
        self.units.values().any(|unit| unit.waits)
    }

    /// The write of the mark that is on its way.
    fn writing(&self) -> Option<usize> {
        let mut calls = self.calls.iter();
        let key = load_task("a", "t");
        calls.position(|call| {
            matches!(&call.effect, Effect::Control(ControlCall::Replace { key: of, .. })
                if *of == key)
        })
    }
}

#[test]
fn a_load_from_files_is_marked_until_it_is_over() {
    for mode in ["all", "full", "load", "load&sync"] {
        let mut world = World::running(mode);
        if mode.ends_with("ll") {
            assert_eq!(world.marked(), None, "{mode}: only a dump");
            world.finish();
            world.quiet();
        }
        assert_eq!(world.marked(), Some(format!("\"{WORKER}\"")), "{mode}");
        world.expect("a", "t", 3);
        world.quiet();
        assert!(world.marked().is_some(), "{mode}: a pause is no end");
        world.expect("a", "t", 2);
        world.quiet();
        world.finish();
        world.quiet();
        assert_eq!(world.marked(), None, "{mode}");
        world.replay();
    }
}

#[test]
fn the_next_owner_leaves_the_mark_where_it_is() {
    let mut world = World::loading(false);
    world.quiet();
    world.transfer("a");
    world.run(SECOND);
    assert!(world.view().sources.is_empty());
    assert_eq!(world.marked(), Some(format!("\"{WORKER}\"")));
}

#[test]
fn a_copy_without_files_is_not_marked() {
    let mut world = World::loading(true);
    world.mark("a", "t", Some("worker2"));
    world.quiet();
    assert_eq!(
        world.at("a", "t"),
        Some((Stage::Running, Some(UnitKind::Load)))
    );
    assert_eq!(world.marked(), Some("\"worker2\"".into()));
    // What somebody has left would keep a master preferring him for ever.
    world.finish();
    world.quiet();
    assert_eq!(world.marked(), None);
}

#[test]
fn without_files_it_says_who_has_them() {
    let missing = &code::PARSE_MYDUMPER_META;
    // Those that it has itself are of another dump.
    let others = &code::LOAD_TASK_CHECKPOINT_NOT_MATCH;
    let elsewhere = &code::LOAD_TASK_WORKER_NOT_MATCH;
    for (holder, found, expected) in [
        (Some("worker2"), missing, elsewhere),
        (Some("worker2"), others, elsewhere),
        (Some(WORKER), missing, missing),
        (None, missing, missing),
    ] {
        let mut world = World::loading(false);
        world.mark("a", "t", holder);
        world.learn();
        let live = world.live("a", "t").expect("live");
        world.end(live, failed(found));
        let shown = world.subtask("a", "t").expect("there");
        assert_eq!(shown.stage, Stage::Paused);
        let error = &shown.result.expect("failed").errors[0];
        assert!(error.is(expected), "{holder:?}: {error}");
        if holder == Some("worker2") {
            assert_eq!(
                error.message,
                "different worker in load stage, previous worker: worker2, current worker: worker1"
            );
            assert_eq!(error.cause, "there is none in /d");
        }
        assert_eq!(world.marked(), holder.map(|it| format!("\"{it}\"")));
        // They may come back with it.
        world.run(5 * SECOND);
        let stage = world.at("a", "t").expect("there").0;
        assert_eq!(stage, Stage::Running);
    }
}

/// They were copied here, or are on a disk that both share.
#[test]
fn files_that_are_here_are_marked_as_ours() {
    for value in ["\"worker2\"", "{}"] {
        let mut world = World::loading(false);
        world.store.write(&[(&load_task("a", "t"), Some(value))]);
        world.quiet();
        assert_eq!(world.marked(), Some(format!("\"{WORKER}\"")), "{value}");
    }
}

#[test]
fn an_answer_that_is_lost_changes_nothing() {
    for arrives in [false, true] {
        let mut world = World::loading(false);
        world.has_files();
        let write = world.writing().expect("asked");
        if arrives {
            world.execute(write);
        }
        let lost = Outcome::Unknown(super::error(1, "timeout"));
        world.answer(write, lost);
        assert!(world.writing().is_none(), "not at once");
        assert!(world.waits(), "{arrives}");
        world.run(2 * SECOND);
        assert!(!world.waits(), "{arrives}");
        assert_eq!(world.marked(), Some(format!("\"{WORKER}\"")));
        world.finish();
        world.quiet();
        assert_eq!(world.marked(), None);
    }
}

/// A snapshot may tell who has written before the refusal does.
#[test]
fn a_refusal_behind_the_news_waits_for_nothing() {
    let mut world = World::loading(false);
    world.has_files();
    world.mark("a", "t", Some("worker2"));
    // All that is asked is answered but this.
    loop {
        let write = world.writing().expect("not answered");
        match (0..world.calls.len()).find(|call| *call != write) {
            Some(call) => world.complete(call),
            None if world.deliver_any() => {}
            None => break,
        }
    }
    let write = world.writing().expect("not answered");
    world.complete(write);
    assert!(world.waits(), "it was refused");
    world.quiet();
    assert!(!world.waits());
    assert_eq!(world.marked(), Some(format!("\"{WORKER}\"")));
}

#[test]
fn a_load_begins_when_its_mark_is_written() {
    let mut world = World::loading(false);
    world.has_files();
    assert!(world.waits());
    let write = world.writing().expect("asked");
    world.execute(write);
    assert!(world.waits(), "nobody knows yet");
    world.complete(write);
    assert!(!world.waits());
    // A unit that comes after it finds the mark, and is told as well.
    world.expect("a", "t", 3);
    world.quiet();
    world.expect("a", "t", 2);
    world.learn();
    world.has_files();
    assert!(!world.waits() && world.writing().is_none());
}

/// Whoever waits ends when it is told to, and what comes late is for nobody.
#[test]
fn a_load_that_waits_for_its_mark_can_be_paused() {
    let mut world = World::loading(false);
    let live = world.has_files();
    let write = world.writing().expect("asked");
    let call = world.calls.remove(write);
    world.expect("a", "t", 3);
    world.learn();
    assert!(world.units[&live].stop.is_some() && world.waits());
    world.end(live, Outcome::Ok(Reply::Stopped));
    world.quiet();
    assert_eq!(world.at("a", "t").expect("there").0, Stage::Paused);
    let outcome = Outcome::Unknown(super::error(1, "timeout"));
    let ticket = call.ticket;
    world.input(Input::Done { ticket, outcome });
    world.expect("a", "t", 2);
    world.run(2 * SECOND);
    assert_eq!(world.at("a", "t").expect("there").0, Stage::Running);
    assert!(!world.waits());
    world.replay();
}

/// D7: a write that is late hits nothing that somebody else has written.
#[test]
fn d7_a_late_write_takes_no_mark_away() {
    let mut world = World::loading(false);
    world.quiet();
    world.finish();
    let write = world.writing().expect("asked");
    world.transfer("a");
    world.mark("a", "t", Some("worker2"));
    world.complete(write);
    world.run(5 * SECOND);
    assert_eq!(world.marked(), Some("\"worker2\"".into()));
}
