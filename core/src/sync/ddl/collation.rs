//! Collations that the source's definitions leave to its defaults.

use alloc::{collections::BTreeMap, string::String};

/// The default collation of each character set of a source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Collations(BTreeMap<String, String>);

impl Collations {
    /// From pairs of a character set and its collation. What is no name of a collation is left out.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let is_name = |text: &str| text.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric());
        let pairs = pairs.into_iter();
        let named = pairs.filter(|(_, collation)| is_name(collation));
        let lower = named.map(|(charset, collation)| (charset.to_ascii_lowercase(), collation));
        Self(lower.collect())
    }

    /// The collation of what is created with a character set and no more.
    pub(super) fn of(&self, charset: &str) -> Option<&str> {
        let charset = charset.to_ascii_lowercase();
        // One set with two names, of which a server lists one.
        let other = match &*charset {
            "utf8" => "utf8mb3",
            "utf8mb3" => "utf8",
            other => other,
        };
        let found = self.0.get(&charset).or_else(|| self.0.get(other));
        found.map(String::as_str)
    }
}
