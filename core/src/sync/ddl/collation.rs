//! Collations that the source's definitions leave to its defaults.

use alloc::{collections::BTreeMap, string::String};

use crate::binlog::StatusVars;

/// What a source gives to what is created without a collation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Collations {
    /// Of each character set.
    defaults: BTreeMap<String, String>,
    /// Of a schema that is created without a character set, too: `collation_server`.
    server: Option<String>,
    /// The character set and the name of each number that an event may have.
    numbers: BTreeMap<u16, (String, String)>,
}

/// A collation as a server lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct Collation {
    /// Its number.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// The character set that it is for.
    pub charset: String,
    /// Whether it is the one that its character set was built with.
    pub is_default: bool,
}

impl Collations {
    /// Those that a server lists, and its variables `collation_server` and
    /// `default_collation_for_utf8mb4`, where it has them. What is no name is left out.
    pub fn new(
        listed: impl IntoIterator<Item = Collation>,
        server: Option<String>,
        utf8mb4: Option<String>,
    ) -> Self {
        let mut known = Self {
            server: server.filter(|name| is_name(name)),
            ..Self::default()
        };
        for Collation {
            id,
            name,
            charset,
            is_default,
        } in listed.into_iter().filter(|it| is_name(&it.name))
        {
            let charset = charset.to_ascii_lowercase();
            if is_default {
                known.defaults.insert(charset.clone(), name.clone());
            }
            known.numbers.insert(id, (charset, name));
        }
        if let Some(name) = utf8mb4.filter(|name| is_name(name)) {
            known.defaults.insert("utf8mb4".into(), name);
        }
        known
    }

    /// Those of the session that wrote an event, as far as it tells them.
    #[must_use]
    pub fn of_session(&self, vars: &StatusVars) -> Self {
        let mut session = self.clone();
        if let Some((_, name)) = vars.charset.and_then(|ids| self.numbers.get(&ids[2])) {
            session.server = Some(name.clone());
        }
        let utf8mb4 = vars.default_collation_for_utf8mb4.map(|id| (id, id));
        let pairs = vars.default_collations.iter().copied().chain(utf8mb4);
        for (of, id) in pairs {
            if let (Some((charset, _)), Some((_, name))) =
                (self.numbers.get(&of), self.numbers.get(&id))
            {
                session.defaults.insert(charset.clone(), name.clone());
            }
        }
        session
    }

    /// Whether a number of an event is known by its name.
    #[must_use]
    pub fn knows(&self, id: u16) -> bool {
        self.numbers.contains_key(&id)
    }

    /// The collation of what is created with a character set and no more; of a schema that is
    /// created without one.
    pub(super) fn of(&self, charset: Option<&str>) -> Option<&str> {
        let Some(charset) = charset else {
            return self.server.as_deref();
        };
        let charset = charset.to_ascii_lowercase();
        // One set with two names, of which a server lists one.
        let other = match &*charset {
            "utf8" => "utf8mb3",
            "utf8mb3" => "utf8",
            other => other,
        };
        let defaults = &self.defaults;
        let found = defaults.get(&charset).or_else(|| defaults.get(other));
        found.map(String::as_str)
    }
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric())
}
