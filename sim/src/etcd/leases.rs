//! Leases, which the server ends by its own clock.

use std::{collections::BTreeMap, time::Duration};

use super::model::Refusal;

/// The least that a server grants, in seconds: one and a half election timeouts.
const TTL_S_MIN: i64 = 2;

#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl_s: i64,
    ends: Duration,
}

/// All leases that are alive.
#[derive(Debug, Default)]
pub(super) struct Leases {
    alive: BTreeMap<i64, Lease>,
    last: i64,
}

impl Leases {
    pub(super) fn grant(
        &mut self,
        now: Duration,
        id: i64,
        ttl_s: i64,
    ) -> Result<(i64, i64), Refusal> {
        if self.alive.contains_key(&id) {
            return Err(Refusal::LEASE_EXISTS);
        }
        let mut id = id;
        while id == 0 || self.alive.contains_key(&id) {
            self.last += 1;
            id = self.last;
        }
        let ttl_s = ttl_s.max(TTL_S_MIN);
        let ends = now + seconds(ttl_s);
        self.alive.insert(id, Lease { ttl_s, ends });
        Ok((id, ttl_s))
    }

    pub(super) fn is_alive(&self, id: i64) -> bool {
        self.alive.contains_key(&id)
    }

    /// The time to live that it has again, 0 where it is gone.
    pub(super) fn renew(&mut self, now: Duration, id: i64) -> i64 {
        self.alive.get_mut(&id).map_or(0, |lease| {
            lease.ends = now + seconds(lease.ttl_s);
            lease.ttl_s
        })
    }

    /// Whole seconds that are left, -1 where it is gone.
    pub(super) fn left_s(&self, now: Duration, id: i64) -> i64 {
        self.alive.get(&id).map_or(-1, |lease| {
            lease.ends.saturating_sub(now).as_secs().cast_signed()
        })
    }

    pub(super) fn expired(&self, now: Duration) -> Vec<i64> {
        let over = self.alive.iter().filter(|(_, lease)| lease.ends <= now);
        over.map(|(id, _)| *id).collect()
    }

    pub(super) fn ends(&self, id: i64) -> Option<Duration> {
        self.alive.get(&id).map(|lease| lease.ends)
    }

    pub(super) fn remove(&mut self, id: i64) {
        self.alive.remove(&id);
    }

    pub(super) fn extend(&mut self, now: Duration) {
        for lease in self.alive.values_mut() {
            lease.ends = now + seconds(lease.ttl_s);
        }
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(seconds.unsigned_abs())
}
