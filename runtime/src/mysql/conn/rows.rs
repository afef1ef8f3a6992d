//! The rows of a query, one after the other, as the text protocol sends them.

use bytes::Bytes;

use super::{COM_QUERY, Conn, ERR, Fault, is_end, packet::Fields};
use crate::ports::copy::Row;

/// A response may begin with this many columns at most, which is what a table may have.
const COLUMNS_MAX: u64 = 4096;

/// The rows of a running query. To be read to the end, or the connection is of no more use.
#[derive(Debug, Default)]
pub struct Rows {
    /// How many values each of them has.
    pub(super) columns: u64,
    is_over: bool,
}

impl Rows {
    pub(super) async fn query(conn: &mut Conn, sql: &str) -> Result<Self, Fault> {
        conn.command(COM_QUERY, sql.as_bytes()).await?;
        let head = conn.wire.read().await?;
        match head.first() {
            Some(0) => {
                return Ok(Self {
                    columns: 0,
                    is_over: true,
                });
            }
            Some(&ERR) => return Err(Fault::of(&head)),
            _ => {}
        }
        let columns = Fields(&head).lenenc()?.unwrap_or_default();
        if !(1..=COLUMNS_MAX).contains(&columns) {
            return Err(Fault::Protocol("bad number of columns"));
        }
        for _ in 0..columns {
            let _definition = conn.wire.read().await?;
        }
        if !is_end(&conn.wire.read().await?) {
            return Err(Fault::Protocol("more columns than announced"));
        }
        Ok(Self {
            columns,
            is_over: false,
        })
    }

    /// The next row of the connection's query, if there is one. Cancel-safe.
    ///
    /// # Errors
    /// What the server says, or a broken connection; then the connection must be dropped.
    pub async fn next(&mut self, conn: &mut Conn) -> Result<Option<RawRow>, Fault> {
        if self.is_over {
            return Ok(None);
        }
        let payload = conn.wire.read().await?;
        if is_end(&payload) {
            self.is_over = true;
            return Ok(None);
        }
        if payload.first() == Some(&ERR) {
            return Err(Fault::of(&payload));
        }
        Ok(Some(RawRow(payload)))
    }
}

/// A row as it arrived.
#[derive(Clone, Debug)]
pub struct RawRow(Bytes);

/// One that is damaged ends early.
impl Row for RawRow {
    fn values(&self) -> impl Iterator<Item = Option<&[u8]>> + Send {
        let mut fields = Fields(&self.0);
        std::iter::from_fn(move || {
            if fields.0.is_empty() {
                return None;
            }
            fields.string().ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_values_up_to_where_it_is_damaged() {
        let values = |payload: &'static [u8]| {
            let row = RawRow(Bytes::from_static(payload));
            let values: Vec<_> = row
                .values()
                .map(|value| value.map(<[u8]>::to_vec))
                .collect();
            values
        };
        assert_eq!(
            values(b"\x02ab\xfb\x00"),
            [Some(b"ab".to_vec()), None, Some(vec![])]
        );
        assert_eq!(values(b"\x01a\x05b"), [Some(b"a".to_vec())]);
        assert!(values(b"").is_empty());
    }
}
