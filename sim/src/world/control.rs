//! The simulated etcd as a server, and the client that a worker has of it.
//!
//! A request travels, is carried out, and its answer travels back; each way may be cut for one
//! client, and the server may freeze. Whoever asks waits as long as the real client does, and then
//! knows as little as that one.

mod client;
mod server;

use dm_core::lifecycle::{Entry, Range};

pub(super) use self::{
    client::Client,
    server::{Link, Server},
};
use crate::etcd::{Body, KeyValue, Span};

fn span(range: &Range) -> Span {
    match range {
        Range::Key(key) => Span::key(key.clone()),
        Range::Prefix(prefix) => Span::prefix(prefix.clone()),
    }
}

fn entries(body: Body) -> Vec<Entry> {
    let Body::Entries { entries, .. } = body else {
        return Vec::new();
    };
    entries.into_iter().map(entry).collect()
}

fn entry(kv: KeyValue) -> Entry {
    Entry {
        key: kv.key,
        value: kv.value,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        lease: kv.lease,
    }
}
