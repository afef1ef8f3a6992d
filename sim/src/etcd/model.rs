//! What is asked of the store, and what it answers.

use bytes::Bytes;

/// Keys from one up to another, as the protocol names them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Span {
    /// The first key.
    pub key: Bytes,
    /// The first key behind the range; empty for just `key`, one zero byte for no end.
    pub end: Bytes,
}

impl Span {
    /// Just one key.
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            end: Bytes::new(),
        }
    }

    /// All keys that start so. The last byte of the prefix must not be the highest.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let key: Bytes = prefix.into();
        let mut end = key.to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        Self {
            key,
            end: end.into(),
        }
    }

    /// Whether a key is in it.
    #[must_use]
    pub fn covers(&self, key: &[u8]) -> bool {
        match &*self.end {
            [] => self.key == key,
            [0] => &*self.key <= key,
            end => &*self.key <= key && key < end,
        }
    }
}

/// A key and what the store knows about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// Revision at which the key came into being, after its last deletion.
    pub create_revision: i64,
    /// Revision of the last write.
    pub mod_revision: i64,
    /// Writes since it came into being.
    pub version: i64,
    /// The lease it hangs on, or 0.
    pub lease: i64,
}

/// What a watch tells.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Revision of the write.
    pub revision: i64,
    /// The key.
    pub key: Bytes,
    /// The entry as it is now; `None` for a deletion.
    pub now: Option<KeyValue>,
    /// The entry as it was; `None` for a creation.
    pub before: Option<KeyValue>,
}

/// One request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request {
    /// A single operation.
    Op(Op),
    /// One transaction: `then` if all conditions hold, else `or`.
    Txn {
        /// The conditions.
        when: Vec<Compare>,
        /// What to do if they hold.
        then: Vec<Op>,
        /// What to do if not.
        or: Vec<Op>,
    },
    /// Forgets everything before a revision.
    Compact {
        /// The oldest revision that stays.
        revision: i64,
    },
    /// Creates a lease.
    Grant {
        /// Its number, or 0 to let the store choose one.
        id: i64,
        /// Its time to live in seconds.
        ttl_s: i64,
    },
    /// Renews a lease once; 0 seconds say that it is gone.
    Renew {
        /// The lease.
        id: i64,
    },
    /// Asks how much time a lease has left; -1 says that it is gone.
    TimeToLive {
        /// The lease.
        id: i64,
    },
    /// Ends a lease.
    Revoke {
        /// The lease.
        id: i64,
    },
}

/// An operation on keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Op {
    /// Writes a key.
    Put {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// The lease that it hangs on from now on, or 0.
        lease: i64,
    },
    /// Reads keys.
    Get {
        /// Which.
        span: Span,
        /// At which revision; 0 for the newest.
        revision: i64,
        /// How many at most; 0 for all.
        limit: usize,
    },
    /// Deletes keys.
    Delete {
        /// Which.
        span: Span,
    },
}

/// A condition on a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Compare {
    /// The key.
    pub key: Bytes,
    /// What must hold of it.
    pub condition: Condition,
}

/// What must hold of a key. All numbers of a missing key are 0.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Condition {
    /// Of its version.
    Version(Order, i64),
    /// Of its creation revision.
    Created(Order, i64),
    /// Of its last write's revision.
    Modified(Order, i64),
    /// Of its lease.
    Lease(Order, i64),
    /// Of its value.
    Value(Order, Bytes),
}

/// How the actual value compares to the given one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// They are equal.
    Equal,
    /// They differ.
    NotEqual,
    /// It is less.
    Less,
    /// It is greater.
    Greater,
}

impl Order {
    /// Whether `actual` compares to `given` like this.
    pub fn holds<T: Ord>(self, actual: &T, given: &T) -> bool {
        match self {
            Self::Equal => actual == given,
            Self::NotEqual => actual != given,
            Self::Less => actual < given,
            Self::Greater => actual > given,
        }
    }
}

/// An answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The store's revision behind the request.
    pub revision: i64,
    /// The answer itself.
    pub body: Body,
}

/// What a request is answered with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Body {
    /// It is done, and there is nothing more to say.
    Done,
    /// The entries of a range.
    Entries {
        /// In order of their keys.
        entries: Vec<KeyValue>,
        /// Whether a limit left some out.
        more: bool,
        /// How many there are without the limit.
        count: i64,
    },
    /// How many keys were deleted.
    Deleted(i64),
    /// A lease.
    Lease {
        /// The lease.
        id: i64,
        /// Its time to live in seconds.
        ttl_s: i64,
    },
    /// A transaction.
    Txn {
        /// Whether the conditions held.
        succeeded: bool,
        /// Answers to the operations of the branch that was taken.
        bodies: Vec<Self>,
    },
}

/// A refused request: the status code of gRPC, and the text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// Name of the status code.
    pub code: &'static str,
    /// The server's text.
    pub text: &'static str,
}

impl Refusal {
    /// There is no such lease.
    pub const NO_LEASE: Self = Self {
        code: "NotFound",
        text: "etcdserver: requested lease not found",
    };
    /// A lease of that number is alive.
    pub const LEASE_EXISTS: Self = Self {
        code: "FailedPrecondition",
        text: "etcdserver: lease already exists",
    };
    /// A key without a name.
    pub const NO_KEY: Self = Self {
        code: "InvalidArgument",
        text: "etcdserver: key is not provided",
    };
    /// A transaction would write a key twice.
    pub const DUPLICATE_KEY: Self = Self {
        code: "InvalidArgument",
        text: "etcdserver: duplicate key given in txn request",
    };
    /// The revision is forgotten.
    pub const COMPACTED: Self = Self {
        code: "OutOfRange",
        text: "etcdserver: mvcc: required revision has been compacted",
    };
    /// The revision is not there yet.
    pub const FUTURE: Self = Self {
        code: "OutOfRange",
        text: "etcdserver: mvcc: required revision is a future revision",
    };
}
