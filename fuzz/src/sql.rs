//! What is certain of every SQL literal.

/// Panics unless the text ends outside of quotes and parentheses, so that what stands behind it in
/// a statement is no part of it, and has nothing outside of quotes that a literal does not need.
pub(crate) fn assert_closed(sql: &[u8]) {
    let text = || String::from_utf8_lossy(sql);
    let (mut depth, mut rest) = (0_u32, sql);
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'\'' => rest = behind_string(rest).unwrap_or_else(|| panic!("no end: {}", text())),
            b'(' => depth += 1,
            b')' => {
                let closed = depth.checked_sub(1);
                depth = closed.unwrap_or_else(|| panic!("never opened: {}", text()));
            }
            b'_' | b' ' | b'.' | b',' | b'-' | b'+' | b'=' | b'|' | b'`' => {}
            _ => assert!(byte.is_ascii_alphanumeric(), "byte {byte} in: {}", text()),
        }
    }
    assert_eq!(depth, 0, "not closed: {}", text());
}

/// What is behind the closing quote of a string.
fn behind_string(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        rest = match rest {
            [b'\'', behind @ ..] => return Some(behind),
            [b'\\', _, behind @ ..] | [_, behind @ ..] => behind,
            [] => return None,
        };
    }
}

/// The content of a literal that is one string in quotes.
pub(crate) fn unquoted(sql: &[u8]) -> Option<Vec<u8>> {
    let inner = sql.strip_prefix(b"'")?.strip_suffix(b"'")?;
    let mut content = Vec::with_capacity(inner.len());
    let mut rest = inner.iter();
    while let Some(byte) = rest.next() {
        content.push(match byte {
            b'\\' => match rest.next()? {
                b'0' => 0,
                escaped => *escaped,
            },
            _ => *byte,
        });
    }
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_closed() {
        for sql in [
            "'a\\'b\\\\'",
            "CAST(_binary'\\0' AS JSON)",
            "-1.5e3",
            "(`c`|0)=9",
        ] {
            assert_closed(sql.as_bytes());
        }
        for sql in ["'a", "'a\\'", "(1", "1)", "1;", "'a''", "1/*"] {
            let sql = sql.as_bytes();
            assert!(std::panic::catch_unwind(|| assert_closed(sql)).is_err());
        }
    }

    #[test]
    fn quotes_are_taken_away() {
        assert_eq!(
            unquoted(b"'a\\'b\\\\c\\0'").as_deref(),
            Some(&b"a'b\\c\0"[..])
        );
        assert_eq!(unquoted(b"1"), None);
    }
}
