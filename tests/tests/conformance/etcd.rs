//! A real etcd answers what the simulated one answers, case by case.

use std::time::Duration;

use dm_sim::etcd::{
    Answer, Body, Change, Compare, Condition, KeyValue, Op, Order, Request, Span,
    cases::{self, Reality},
};
use dm_tests::{Result, servers::Etcd};
use etcd_client::{
    Client, Compare as RealCompare, CompareOp, DeleteOptions, Error, EventType, GetOptions,
    GetResponse, KeyValue as RealKeyValue, LeaseGrantOptions, PutOptions, ResponseHeader, Txn,
    TxnOp, TxnOpResponse, WatchOptions,
};
use tokio::time::{sleep, timeout};

/// How long a watch is silent before it is believed to have told everything.
const SILENCE: Duration = Duration::from_millis(500);

struct Real(Client);

#[tokio::test(flavor = "multi_thread")]
async fn a_real_etcd_answers_as_the_table_says() -> Result<()> {
    let all = cases::all();
    assert!(!all.is_empty());
    for case in all {
        // An empty store for each case, at revision 1.
        let etcd = Etcd::start()?;
        if !etcd.is_ours() {
            return Ok(());
        }
        let mut real = Real(etcd.client().await?);
        let told = cases::run(&case, &mut real).await;
        told.map_err(|error| format!("{}: {error}", case.name))?;
    }
    Ok(())
}

/// A restart of the server keeps keys and leases, and gives leases all their time again.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_restart_keeps_keys_and_leases() -> Result<()> {
    let mut etcd = Etcd::start()?;
    if !etcd.is_ours() {
        return Ok(());
    }
    let mut real = Real(etcd.client().await?);
    let grant = Request::Grant { id: 7, ttl_s: 20 };
    let put = Request::Op(Op::Put {
        key: "k".into(),
        value: "v".into(),
        lease: 7,
    });
    for request in [grant, put] {
        real.call(&request).await.map_err(|(_, text)| text)?;
    }
    sleep(Duration::from_secs(3)).await;
    etcd.kill()?;
    etcd.restart()?;
    let mut real = Real(etcd.client().await?);
    let left = real.call(&Request::TimeToLive { id: 7 }).await;
    let Body::Lease { ttl_s, .. } = left.map_err(|(_, text)| text)?.body else {
        return Err("no lease".into());
    };
    assert!((18..=20).contains(&ttl_s), "{ttl_s}");
    let read = Request::Op(Op::Get {
        span: Span::key("k"),
        revision: 0,
        limit: 0,
    });
    let answer = real.call(&read).await.map_err(|(_, text)| text)?;
    assert_eq!(answer.revision, 2);
    Ok(())
}

impl Reality for Real {
    async fn call(&mut self, request: &Request) -> Result<Answer, (String, String)> {
        self.ask(request).await.map_err(|error| match error {
            Error::GRpcStatus(status) => {
                (format!("{:?}", status.code()), status.message().to_owned())
            }
            other => (String::new(), other.to_string()),
        })
    }

    async fn changes(&mut self, span: &Span, from: i64) -> Result<Vec<Change>, i64> {
        self.watch(span, from)
            .await
            .unwrap_or_else(|error| panic!("a watch broke: {error}"))
    }

    async fn wait(&mut self, time: Duration) {
        sleep(time).await;
    }
}

impl Real {
    async fn ask(&mut self, request: &Request) -> Result<Answer, Error> {
        let client = &mut self.0;
        let (header, body) = match request {
            Request::Op(Op::Put { key, value, lease }) => {
                let options = PutOptions::new().with_lease(*lease);
                let answer = client.put(&**key, &**value, Some(options)).await?;
                (answer.header().cloned(), Body::Done)
            }
            Request::Op(Op::Get {
                span,
                revision,
                limit,
            }) => {
                let options = get_options(span, *revision, *limit);
                let answer = client.get(&*span.key, Some(options)).await?;
                (answer.header().cloned(), entries(answer))
            }
            Request::Op(Op::Delete { span }) => {
                let options = DeleteOptions::new().with_range(&*span.end);
                let answer = client.delete(&*span.key, Some(options)).await?;
                (answer.header().cloned(), Body::Deleted(answer.deleted()))
            }
            Request::Txn { when, then, or } => {
                let txn = Txn::new()
                    .when(when.iter().map(compare).collect::<Vec<_>>())
                    .and_then(then.iter().map(op).collect::<Vec<_>>())
                    .or_else(or.iter().map(op).collect::<Vec<_>>());
                let answer = client.txn(txn).await?;
                let bodies = answer.op_responses().into_iter().map(|body| match body {
                    TxnOpResponse::Get(answer) => entries(answer),
                    TxnOpResponse::Delete(answer) => Body::Deleted(answer.deleted()),
                    _ => Body::Done,
                });
                let body = Body::Txn {
                    succeeded: answer.succeeded(),
                    bodies: bodies.collect(),
                };
                (answer.header().cloned(), body)
            }
            Request::Compact { revision } => {
                let answer = client.compact(*revision, None).await?;
                (answer.header().cloned(), Body::Done)
            }
            Request::Grant { id, ttl_s } => {
                let options = LeaseGrantOptions::new().with_id(*id);
                let answer = client.lease_grant(*ttl_s, Some(options)).await?;
                let (id, ttl_s) = (answer.id(), answer.ttl());
                (answer.header().cloned(), Body::Lease { id, ttl_s })
            }
            Request::Renew { id } => return self.renew(*id).await,
            Request::TimeToLive { id } => {
                let answer = client.lease_time_to_live(*id, None).await?;
                let ttl_s = answer.ttl();
                (answer.header().cloned(), Body::Lease { id: *id, ttl_s })
            }
            Request::Revoke { id } => {
                let answer = client.lease_revoke(*id).await?;
                (answer.header().cloned(), Body::Done)
            }
        };
        Ok(Answer {
            revision: header.map_or(0, |header: ResponseHeader| header.revision()),
            body,
        })
    }

    async fn renew(&mut self, id: i64) -> Result<Answer, Error> {
        // The client takes the first answer for itself, and swallows its revision.
        let ttl_s = match self.0.lease_keep_alive(id).await {
            Err(Error::LeaseKeepAliveError(text)) if text == "lease not found" => 0,
            opened => {
                let (mut keeper, mut answers) = opened?;
                keeper.keep_alive().await?;
                answers.message().await?.map_or(-2, |answer| answer.ttl())
            }
        };
        let status = self.0.get("none", None).await?;
        Ok(Answer {
            revision: status.header().map_or(0, ResponseHeader::revision),
            body: Body::Lease { id, ttl_s },
        })
    }

    async fn watch(&mut self, span: &Span, from: i64) -> Result<Result<Vec<Change>, i64>, Error> {
        let options = WatchOptions::new()
            .with_range(&*span.end)
            .with_start_revision(from)
            .with_prev_key();
        let mut stream = self.0.watch(&*span.key, Some(options)).await?;
        let mut changes = Vec::new();
        while let Ok(message) = timeout(SILENCE, stream.message()).await {
            let Some(message) = message? else { break };
            if message.canceled() {
                return Ok(Err(message.compact_revision()));
            }
            for event in message.events() {
                let (Some(now), is_put) = (event.kv(), event.event_type() == EventType::Put) else {
                    continue;
                };
                changes.push(Change {
                    revision: now.mod_revision(),
                    key: now.key().to_vec().into(),
                    now: is_put.then(|| entry(now)),
                    before: event.prev_kv().map(entry),
                });
            }
        }
        Ok(Ok(changes))
    }
}

fn get_options(span: &Span, revision: i64, limit: usize) -> GetOptions {
    GetOptions::new()
        .with_range(&*span.end)
        .with_revision(revision)
        .with_limit(limit as i64)
}

fn op(op: &Op) -> TxnOp {
    match op {
        Op::Put { key, value, lease } => {
            let options = PutOptions::new().with_lease(*lease);
            TxnOp::put(&**key, &**value, Some(options))
        }
        Op::Get {
            span,
            revision,
            limit,
        } => TxnOp::get(&*span.key, Some(get_options(span, *revision, *limit))),
        Op::Delete { span } => {
            let options = DeleteOptions::new().with_range(&*span.end);
            TxnOp::delete(&*span.key, Some(options))
        }
    }
}

fn compare(compare: &Compare) -> RealCompare {
    let key = &*compare.key;
    match &compare.condition {
        Condition::Version(order, than) => RealCompare::version(key, by(*order), *than),
        Condition::Created(order, than) => RealCompare::create_revision(key, by(*order), *than),
        Condition::Modified(order, than) => RealCompare::mod_revision(key, by(*order), *than),
        Condition::Lease(order, than) => RealCompare::lease(key, by(*order), *than),
        Condition::Value(order, than) => RealCompare::value(key, by(*order), &**than),
    }
}

const fn by(order: Order) -> CompareOp {
    match order {
        Order::Equal => CompareOp::Equal,
        Order::NotEqual => CompareOp::NotEqual,
        Order::Less => CompareOp::Less,
        Order::Greater => CompareOp::Greater,
    }
}

fn entries(answer: GetResponse) -> Body {
    Body::Entries {
        entries: answer.kvs().iter().map(entry).collect(),
        more: answer.more(),
        count: answer.count(),
    }
}

fn entry(kv: &RealKeyValue) -> KeyValue {
    KeyValue {
        key: kv.key().to_vec().into(),
        value: kv.value().to_vec().into(),
        create_revision: kv.create_revision(),
        mod_revision: kv.mod_revision(),
        version: kv.version(),
        lease: kv.lease(),
    }
}
