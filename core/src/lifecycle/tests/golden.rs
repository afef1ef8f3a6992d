//! The life of a real cluster, recorded: what the master wrote into etcd, step by step, and what
//! the workers answered to its questions. Fed with the same writes, a machine in a healthy world
//! must come to the same stages, units and sources.

use std::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    time::Duration,
    vec,
    vec::Vec,
};

use serde_json::Value;

use super::world::World;
use crate::{
    error::Error,
    lifecycle::{Command, Config, ControlCall, Effect, Input, Outcome, Reply, View},
    status::{ProcessResult, Stage},
};

/// Recorded from the existing worker, a master and its etcd, with two workers and two sources.
const EVENTS: &str = include_str!("../../../testdata/golden/etcd-events.jsonl");
/// Every call of the master on the workers in the same run.
const CALLS: &str = include_str!("../../../testdata/golden/grpc-calls.txt");

/// A recorded question about the status, and what of the answer the machine decides.
#[derive(Debug)]
struct Poll {
    step: String,
    worker: String,
    answer: Answer,
}

#[derive(Debug, Default, PartialEq)]
struct Answer {
    /// There is a source worker.
    handled: bool,
    source: String,
    relay: Option<(String, bool)>,
    subtasks: Vec<Answered>,
}

/// Name, stage, unit, and of the result, if any, whether it is cancelled and the error codes. Empty
/// stage and unit for an unknown name.
type Answered = (String, String, String, Option<(bool, Vec<u32>)>);

/// What the machine answers to the same question.
fn answer(view: &View, asked: &str) -> Answer {
    let result = |result: &Option<ProcessResult>| {
        let codes = |errors: &[Error]| errors.iter().map(|error| error.code).collect();
        result
            .as_ref()
            .map(|result| (result.is_canceled, codes(&result.errors)))
    };
    let mut answer = Answer {
        handled: !view.sources.is_empty(),
        source: view.source.clone(),
        ..Answer::default()
    };
    for source in &view.sources {
        answer.relay = source.relay.as_ref().map(|relay| {
            (
                relay.stage.to_string(),
                relay.result.as_ref().is_some_and(|it| it.is_canceled),
            )
        });
        for subtask in source
            .subtasks
            .iter()
            .filter(|it| asked.is_empty() || it.name == asked)
        {
            let unit = subtask
                .unit
                .map(|unit| unit.to_string())
                .unwrap_or_default();
            let shown = (subtask.name.clone(), subtask.stage.to_string(), unit);
            // The result of a run that is over is not shown while the next one is at work.
            let result = result(&subtask.result).filter(|_| subtask.stage != Stage::Running);
            answer.subtasks.push((shown.0, shown.1, shown.2, result));
        }
        if !source.subtasks.is_empty() && answer.subtasks.is_empty() {
            answer
                .subtasks
                .push((asked.into(), String::new(), String::new(), None));
        }
    }
    answer
}

/// Reads the decoded part of the recorded calls.
fn polls() -> Vec<(Poll, String)> {
    let blocks = CALLS
        .split("## ")
        .filter(|block| block.contains("/pb.Worker/QueryStatus"));
    blocks.map(poll).collect()
}

fn poll(block: &str) -> (Poll, String) {
    let mut lines = block.lines();
    let mut words = lines.next().expect("a title").split(' ');
    let step = words.next().expect("a step").to_string();
    let worker = words.next().expect("a worker").to_string();
    let (request, response) = block.split_once("\nresponse ").expect("two parts");
    let asked = request
        .lines()
        .find_map(|line| line.trim().strip_prefix("name: "));
    let asked = asked.map(text).unwrap_or_default();
    let mut answer = Answer::default();
    let mut path: Vec<&str> = Vec::new();
    for line in response.lines().skip(1).map(str::trim) {
        if let Some(name) = line.strip_suffix(" {") {
            path.push(name);
            match path.as_slice() {
                ["subTaskStatus"] => answer.subtasks.push(Answered::default()),
                ["subTaskStatus", "result"] => {
                    answer.subtasks.last_mut().expect("begun").3 = Some((false, Vec::new()));
                }
                [.., "relayStatus"] => answer.relay = Some(Default::default()),
                _ => {}
            }
        } else if line == "}" {
            path.pop();
        } else if let Some((name, value)) = line.split_once(": ") {
            path.push(name);
            field(&mut answer, &path, value);
            path.pop();
        }
    }
    (
        Poll {
            step,
            worker,
            answer,
        },
        asked,
    )
}

fn field(answer: &mut Answer, path: &[&str], value: &str) {
    let subtask = answer.subtasks.last_mut();
    match (path, subtask) {
        (["result"], _) => answer.handled = true,
        (["sourceStatus", "source"], _) => answer.source = text(value),
        (["sourceStatus", "relayStatus", "stage"], _) => {
            answer.relay.as_mut().expect("begun").0 = value.to_string();
        }
        (["sourceStatus", "relayStatus", "result", "isCanceled"], _) => {
            answer.relay.as_mut().expect("begun").1 = true;
        }
        (["subTaskStatus", "name"], Some(subtask)) => subtask.0 = text(value),
        (["subTaskStatus", "stage"], Some(subtask)) => subtask.1 = value.to_string(),
        (["subTaskStatus", "unit"], Some(subtask)) => subtask.2 = value.to_string(),
        (["subTaskStatus", "result", "isCanceled"], Some(subtask)) => {
            subtask.3.as_mut().expect("begun").0 = true;
        }
        (["subTaskStatus", "result", "errors", "ErrCode"], Some(subtask)) => {
            let code = value.parse().expect("a number");
            subtask.3.as_mut().expect("begun").1.push(code);
        }
        _ => {}
    }
}

fn text(quoted: &str) -> String {
    quoted.trim_matches('"').to_string()
}

/// What one transaction writes or deletes.
type Writes = Vec<(String, Option<String>)>;

/// The two workers, and the keys that both see.
struct Cluster {
    workers: BTreeMap<&'static str, World>,
    /// Every write of the master so far, for a worker that is started later.
    history: Vec<Writes>,
    /// Tasks whose units fail whenever they run, and with which code.
    broken: BTreeMap<&'static str, u32>,
}

impl Cluster {
    fn start(&mut self, worker: &'static str) {
        let mut config = Config::new(worker, "2026-11-23T03:24:51.602278637Z", 1);
        config.ttl = Duration::from_secs(10);
        let mut world = World::new(config);
        for writes in &self.history {
            write(&mut world, writes);
        }
        if let Some(other) = self.workers.values().next() {
            // Checkpoints are in the target, for all to see.
            world.progress.clone_from(&other.progress);
        }
        world.input(Input::Command(Command::Start));
        world.run(Duration::from_secs(1));
        self.workers.insert(worker, world);
    }

    fn write(&mut self, writes: Writes) {
        for world in self.workers.values_mut() {
            write(world, &writes);
            world.run(Duration::from_secs(1));
        }
        self.history.push(writes);
        self.fail();
    }

    /// What happens in the world, apart from the control store, before the polls of a step.
    fn happen(&mut self, step: &str) {
        let finished = || Outcome::Ok(Reply::Finished);
        match step {
            "01-start-worker1" => self.start("worker1"),
            "18-start-worker2" | "41-restart-worker2" => self.start("worker2"),
            "39-kill-worker2" => drop(self.workers.remove("worker2")),
            "06-query-status" => {
                self.end("t_all", finished());
                self.end("t_all", finished());
            }
            "23-query-incr" => drop(self.broken.insert("t_incr", 44_007)),
            "29-query-error" => drop(self.broken.insert("t_all", 10_006)),
            "31-binlog-skip" => {
                self.broken.remove("t_all");
                let (source, task) = ("one".into(), "t_all".into());
                let resume = Input::Command(Command::Resume { source, task });
                self.workers
                    .get_mut("worker1")
                    .expect("alive")
                    .input(resume);
            }
            "34-query-full" => {
                self.end("t_full", finished());
                self.end("t_full", finished());
            }
            "43-stop-worker1" => {
                let world = self.workers.get_mut("worker1").expect("alive");
                world.input(Input::Command(Command::Stop));
                world.quiet();
                assert!(world.worker.is_over());
            }
            _ => {}
        }
        self.fail();
    }

    /// Lets units fail that cannot work.
    fn fail(&mut self) {
        for world in self.workers.values_mut() {
            world.quiet();
            for (task, code) in &self.broken {
                if let Some(live) = world.live("one", task) {
                    world.end(live, Outcome::Failed(vec![super::error(*code, "broken")]));
                    world.quiet();
                }
            }
        }
    }

    fn end(&mut self, task: &str, outcome: Outcome) {
        let world = self.workers.get_mut("worker1").expect("alive");
        let live = world.live("one", task).expect("live");
        world.end(live, outcome);
        world.quiet();
    }
}

fn write(world: &mut World, writes: &[(String, Option<String>)]) {
    let writes: Vec<_> = writes
        .iter()
        .map(|(key, value)| (&**key, value.as_deref()))
        .collect();
    world.store.write(&writes);
}

const LOAD_TASKS: &str = "/dm-master/load-task/";

/// What the workers were recorded to write about whose dump files are where.
fn recorded_marks() -> Writes {
    let events = EVENTS.lines().map(|line| {
        let event: Value = serde_json::from_str(line).expect("JSON");
        let text = |name: &str| event[name].as_str().map(str::to_string);
        (text("key").expect("a key"), text("value"))
    });
    events
        .filter(|(key, _)| key.starts_with(LOAD_TASKS))
        .collect()
}

/// What a machine writes about that.
fn marks(world: &World) -> Writes {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let effects = world.effects.iter().filter_map(|(_, effect)| match effect {
        Effect::Control(ControlCall::Replace { key, value, .. }) => {
            Some((text(key), value.as_ref().map(|value| text(value))))
        }
        _ => None,
    });
    effects
        .filter(|(key, _)| key.starts_with(LOAD_TASKS))
        .collect()
}

/// The writes of the master, by step and revision.
fn writes() -> Vec<(String, Vec<Writes>)> {
    let mut steps = Vec::<(String, Vec<Writes>)>::new();
    let mut last = 0;
    for line in EVENTS.lines() {
        let event: Value = serde_json::from_str(line).expect("JSON");
        let step = event["step"].as_str().expect("a step").to_string();
        if steps.last().is_none_or(|(last, _)| *last != step) {
            steps.push((step, Vec::new()));
        }
        let key = event["key"].as_str().expect("a key").to_string();
        // These are the workers' own.
        if key.starts_with("/dm-worker/a/") || key.starts_with(LOAD_TASKS) {
            continue;
        }
        let value = event
            .get("value")
            .and_then(Value::as_str)
            .map(str::to_string);
        let revision = event["rev"].as_i64().expect("a revision");
        let writes = &mut steps.last_mut().expect("begun").1;
        if revision != last || writes.is_empty() {
            writes.push(Vec::new());
        }
        last = revision;
        writes.last_mut().expect("begun").push((key, value));
    }
    steps
}

#[test]
fn recorded_writes_lead_to_recorded_answers() {
    let writes = writes();
    let polls = polls();
    let mut steps: Vec<&str> = writes.iter().map(|(step, _)| &**step).collect();
    steps.extend(polls.iter().map(|(poll, _)| &*poll.step));
    steps.push("31-binlog-skip");
    steps.push("41-restart-worker2");
    steps.sort_unstable();
    steps.dedup();
    // It sorts behind the numbers.
    steps.rotate_right(1);
    assert_eq!(steps[0], "boot");

    let mut cluster = Cluster {
        workers: BTreeMap::new(),
        history: Vec::new(),
        broken: BTreeMap::new(),
    };
    let mut answered = 0;
    for step in steps {
        let mut open: Vec<_> = polls.iter().filter(|(poll, _)| poll.step == step).collect();
        open.reverse();
        cluster.happen(step);
        let writes = writes
            .iter()
            .find(|(of, _)| of == step)
            .map(|(_, writes)| writes.clone());
        // The master asks between its writes as well as after them.
        let mut seen = vec![ask(&cluster, &mut open)];
        for writes in writes.into_iter().flatten() {
            cluster.write(writes);
            seen.push(ask(&cluster, &mut open));
        }
        assert!(open.is_empty(), "{step}: {open:#?}\nbut {seen:#?}");
        answered += polls.iter().filter(|(poll, _)| poll.step == step).count();
    }
    assert_eq!(answered, polls.len());
    assert!(answered > 20, "{answered}");
    let marks = cluster.workers.values().flat_map(marks);
    assert_eq!(marks.collect::<Writes>(), recorded_marks());
    for world in cluster.workers.values() {
        world.replay();
    }
}

/// Takes off the list what is answered as recorded; returns the answer that is not.
fn ask(cluster: &Cluster, open: &mut Vec<&(Poll, String)>) -> String {
    while let Some((poll, asked)) = open.last() {
        let view = cluster.workers[&*poll.worker].view();
        let ours = answer(&view, asked);
        if ours != poll.answer {
            return format!("{ours:?}");
        }
        open.pop();
    }
    String::new()
}
