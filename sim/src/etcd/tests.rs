use super::{
    cases::{self, Reality},
    *,
};

/// A store whose time passes as the cases say.
#[derive(Default)]
struct Simulated {
    store: Store,
    now: Duration,
}

impl Reality for Simulated {
    async fn call(&mut self, request: &Request) -> Result<Answer, (String, String)> {
        let answer = self.store.call(self.now, request);
        answer.map_err(|refusal| (refusal.code.into(), refusal.text.into()))
    }

    async fn changes(&mut self, span: &Span, from: i64) -> Result<Vec<Change>, i64> {
        self.store.pass(self.now);
        self.store.changes(span, from)
    }

    async fn wait(&mut self, time: Duration) {
        self.now += time;
    }
}

#[test]
fn it_answers_as_the_table_says() {
    for case in cases::all() {
        let mut reality = Simulated::default();
        let told = ready(cases::run(&case, &mut reality));
        told.unwrap_or_else(|error| panic!("{}: {error}", case.name));
    }
}

/// The cases never wait for anything here.
fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

#[test]
fn a_restart_keeps_keys_and_gives_leases_all_their_time() {
    let mut store = Store::default();
    let call = |store: &mut Store, at, request: &Request| {
        let answer = store.call(Duration::from_secs(at), request);
        answer.expect("it is there").body
    };
    call(&mut store, 0, &Request::Grant { id: 7, ttl_s: 10 });
    let put = Op::Put {
        key: "k".into(),
        value: "v".into(),
        lease: 7,
    };
    call(&mut store, 0, &Request::Op(put));
    store.restart(Duration::from_secs(9));
    assert_eq!(store.lease_ends(7), Some(Duration::from_secs(19)));
    let left = call(&mut store, 18, &Request::TimeToLive { id: 7 });
    assert_eq!(left, Body::Lease { id: 7, ttl_s: 1 });
    assert_eq!(store.history.held_by(7).len(), 1);
    store.pass(Duration::from_secs(19));
    assert_eq!(store.history.held_by(7).len(), 0);
}
