//! The pattern language of lists and routes.

use alloc::{format, string::String, vec::Vec};

use regex::{Regex, RegexBuilder};

/// A pattern for the name of a schema or a table.
///
/// `?` is any one character, `[a-z]` one of a set, `[!x]` one outside a set, and `*`, which must
/// come last, any rest. With a leading `~` the remainder is a regular expression that may match
/// anywhere in the name. Unless the task is case-sensitive, case does not count.
#[derive(Clone, Debug)]
pub struct Pattern {
    case_sensitive: bool,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    Wildcard { items: Vec<Item>, open: bool },
    Regex(Regex),
}

#[derive(Clone, Debug)]
enum Item {
    One(char),
    Any,
    Set {
        ranges: Vec<(char, char)>,
        negated: bool,
    },
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn new(text: &str, case_sensitive: bool) -> Result<Self, String> {
        if text.is_empty() {
            return Err(String::from("a pattern must not be empty"));
        }
        let matcher = if let Some(expression) = text.strip_prefix('~') {
            let mut builder = RegexBuilder::new(expression);
            let regex = builder.case_insensitive(!case_sensitive).build();
            Matcher::Regex(regex.map_err(|error| format!("`{text}` is invalid: {error}"))?)
        } else {
            wildcard(&fold(text, case_sensitive))
                .ok_or_else(|| format!("`*` must be the last character of `{text}`"))?
        };
        Ok(Self {
            case_sensitive,
            matcher,
        })
    }

    /// Whether a name matches.
    pub fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Regex(regex) => regex.is_match(name),
            Matcher::Wildcard { items, open } => {
                let name = fold(name, self.case_sensitive);
                let mut rest = name.chars();
                items
                    .iter()
                    .all(|item| rest.next().is_some_and(|c| item.matches(c)))
                    && (*open || rest.next().is_none())
            }
        }
    }
}

impl Item {
    fn matches(&self, c: char) -> bool {
        match self {
            Self::One(one) => *one == c,
            Self::Any => true,
            Self::Set { ranges, negated } => {
                ranges.iter().any(|&(low, high)| low <= c && c <= high) != *negated
            }
        }
    }
}

fn fold(name: &str, case_sensitive: bool) -> String {
    if case_sensitive {
        return name.into();
    }
    name.chars().flat_map(char::to_lowercase).collect()
}

/// `None` where a `*` is not the last character.
fn wildcard(text: &str) -> Option<Matcher> {
    let chars: Vec<char> = text.chars().collect();
    let mut items = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        at += 1;
        match c {
            '*' => {
                let open = at == chars.len();
                return open.then_some(Matcher::Wildcard { items, open });
            }
            '?' => items.push(Item::Any),
            // A bracket that is never closed stands for itself.
            '[' => match chars[at..].iter().position(|&c| c == ']') {
                Some(length) => {
                    items.push(set(&chars[at..at + length]));
                    at += length + 1;
                }
                None => items.push(Item::One(c)),
            },
            _ => items.push(Item::One(c)),
        }
    }
    Some(Matcher::Wildcard { items, open: false })
}

fn set(chars: &[char]) -> Item {
    let (negated, chars) = match chars {
        ['!', rest @ ..] if !rest.is_empty() => (true, rest),
        _ => (false, chars),
    };
    let mut ranges = Vec::new();
    let mut rest = chars;
    loop {
        rest = match rest {
            [low, '-', high, rest @ ..] => {
                ranges.push((*low, *high));
                rest
            }
            [one, rest @ ..] => {
                ranges.push((*one, *one));
                rest
            }
            [] => return Item::Set { ranges, negated },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_and_expressions() {
        // Pattern, names that match, names that don't.
        let table: &[(&str, &[&str], &[&str])] = &[
            ("abc", &["abc", "ABC"], &["ab", "abcd", ""]),
            ("*", &["", "x", "日本"], &[]),
            ("t*", &["t", "T1", "t_long"], &["", "at"]),
            ("t?", &["t1", "té"], &["t", "t12"]),
            ("t??*", &["t12", "t123"], &["t1"]),
            ("t[0-9]", &["t0", "t9"], &["t", "ta", "t10"]),
            ("t[!0-9]*", &["ta", "tab"], &["t1", "t"]),
            ("t[abx-z]", &["ta", "ty"], &["tc"]),
            ("t[!]", &["t!"], &["ta"]),
            ("t[]", &[], &["t", "t[]"]),
            ("t[1", &["t[1"], &["t1"]),
            ("t[-a]", &["t-", "ta"], &["tb"]),
            ("~^t\\d+$", &["t1", "T22"], &["xt1", "t"]),
            ("~b", &["abc", "B"], &["ac"]),
            ("~", &["", "anything"], &[]),
            ("~^(?:a|b)\\D$", &["ax", "B_"], &["a1"]),
        ];
        for (pattern, yes, no) in table {
            let compiled = Pattern::new(pattern, false).unwrap();
            for name in *yes {
                assert!(compiled.matches(name), "{pattern} must match {name}");
            }
            for name in *no {
                assert!(!compiled.matches(name), "{pattern} must not match {name}");
            }
        }
    }

    #[test]
    fn case_counts_when_the_task_says_so() {
        for pattern in ["Ab*", "~^Ab", "[A]b?"] {
            assert!(
                Pattern::new(pattern, true).unwrap().matches("Abc"),
                "{pattern}"
            );
            assert!(
                !Pattern::new(pattern, true).unwrap().matches("abc"),
                "{pattern}"
            );
            assert!(
                Pattern::new(pattern, false).unwrap().matches("aBC"),
                "{pattern}"
            );
        }
    }

    #[test]
    fn what_cannot_match_as_meant_is_refused() {
        for pattern in ["", "a*b", "**", "~(", "~[a"] {
            assert!(Pattern::new(pattern, false).is_err(), "{pattern}");
        }
    }
}
