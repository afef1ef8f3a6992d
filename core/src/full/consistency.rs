//! How writers are kept off while a snapshot is taken.

use alloc::format;
use core::str::FromStr;

use crate::error::{Error, Result, code};

/// What makes the connections of a snapshot see the same rows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Consistency {
    /// The first of the others that the user may.
    #[default]
    Auto,
    /// `FLUSH TABLES WITH READ LOCK`: everything waits for a moment.
    Flush,
    /// `LOCK TABLES`: whoever writes into the tables that are read waits for a moment.
    Lock,
    /// Nothing: the rows are of any moment between two places of the binlog.
    None,
}

/// As `--consistency` of the existing worker's `extra-args` has it.
impl FromStr for Consistency {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "auto" => Self::Auto,
            "flush" => Self::Flush,
            "lock" => Self::Lock,
            "none" => Self::None,
            other => {
                let text = format!("`--consistency {other}` in `extra-args` is not supported");
                return Err(Error::new(&code::DUMP_UNIT_RUNTIME, text)
                    .with_workaround("Use `auto`, `flush`, `lock` or `none`."));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_arguments() {
        for (text, consistency) in [
            ("auto", Consistency::Auto),
            ("flush", Consistency::Flush),
            ("lock", Consistency::Lock),
            ("none", Consistency::None),
        ] {
            assert_eq!(text.parse::<Consistency>().unwrap(), consistency);
        }
        // Of TiDB only, which is no source.
        let error = "snapshot".parse::<Consistency>().unwrap_err();
        assert!(error.message.contains("--consistency snapshot"), "{error}");
    }
}
