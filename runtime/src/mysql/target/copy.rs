//! The copy of the tables that a task begins with: what is noted of it, beside its rows.

use dm_core::{
    binlog::Dialect,
    error::{Error, Result, code},
    sync::progress::SlotProgress,
};
use tracing::{info, warn};

use super::{Inner, error_of};
use crate::{
    mysql::{
        errors,
        meta::WARNINGS,
        session::{Session, Values},
    },
    ports::copy::Copy,
};

const NO_SUCH_TABLE: u16 = 1146;

impl Inner {
    /// Whether rows may come as lines; see [`crate::ports::Target::takes_lines`].
    pub(super) async fn takes_lines(&self, session: &mut Session) -> Result<bool> {
        let server = &self.server;
        if server.dialect == Dialect::TiDb || server.statement_binlog || !server.good_files {
            return Ok(false);
        }
        if !self.server.local_infile {
            info!(
                "the copy would be faster after `SET GLOBAL local_infile=ON` at the target, which \
                 takes rows as `LOAD DATA LOCAL` with less work"
            );
            return Ok(false);
        }
        // All that lines can do wrong is told by its warnings: they must be seen.
        session
            .run(&format!(
                "DO CAST('x' AS SIGNED);SET {WARNINGS}=@@warning_count"
            ))
            .await?;
        let rows = session.rows(&format!("SELECT {WARNINGS}")).await?;
        Ok(rows.first().is_some_and(|row| row.number::<u64>(0) == 1))
    }

    /// Reads what is noted; see [`crate::ports::Target::copy`].
    pub(super) async fn copy(&self, session: &mut Session) -> Result<Option<Copy>> {
        let rows = rows_of(session, &self.meta.select_copy()).await?;
        let rows = rows.unwrap_or_default();
        let copy = self.meta.copy_of(&rows)?;
        let load = rows_of(session, &self.meta.select_load()).await?;
        let load = load.and_then(|rows| rows.first().map(|row| row.text(0)));
        match (copy, load.as_deref()) {
            (Some(copy), Some("init")) if !copy.is_over => Ok(Some(copy)),
            (Some(copy), Some("finished")) if copy.is_over => Ok(Some(copy)),
            (copy, None | Some("init")) => {
                if copy.is_some() {
                    warn!("the meta data was removed: what is noted of the copy does not count");
                }
                Ok(None)
            }
            (_, Some(status)) => Err(Error::new(
                &code::LOAD_TASK_CHECKPOINT_NOT_MATCH,
                format!("inconsistent checkpoints: another worker's load is {status}"),
            )
            .with_workaround(
                "Let the worker that has the dump files go on until it has a checkpoint; or begin \
                 anew: stop the task, drop what was loaded from the target, and start it with \
                 `--remove-meta`.",
            )),
        }
    }

    /// Notes a copy; see [`crate::ports::Target::begin_copy`].
    pub(super) async fn begin_copy(
        &self,
        session: &mut Session,
        slots: u32,
        copy: &Copy,
    ) -> Result<Vec<SlotProgress>> {
        for sql in self.meta.create_copy() {
            session.run(&sql).await?;
        }
        let rows = self.fresh(session, slots, &copy.from).await?;
        let set = format!("`slots`={slots},{}", self.meta.safe_until(None));
        let body = format!(
            "{};{};{}",
            self.meta.replace_slots(&rows, self.fence()),
            self.meta.replace_copy(copy),
            self.meta.upsert_load(false)
        );
        error_of(self.send_control(session, &set, &body).await)?;
        Ok(rows)
    }

    /// Ends a copy; see [`crate::ports::Target::end_copy`].
    pub(super) async fn end_copy(
        &self,
        session: &mut Session,
        slots: Option<u32>,
        copy: &Copy,
    ) -> Result<()> {
        let over = Copy {
            is_over: true,
            ..copy.clone()
        };
        let note = format!(
            "{};{}",
            self.meta.replace_copy(&over),
            self.meta.upsert_load(true)
        );
        match slots {
            Some(slots) => {
                let at = (&copy.from, copy.until.as_ref());
                self.reset(session, slots, at, &note).await.map(drop)
            }
            None => {
                let body = format!("{};{note}", self.meta.replace_slots(&[], self.fence()));
                error_of(self.send_control(session, "`slots`=0", &body).await)
            }
        }
    }
}

/// The rows of a query; nothing if its table is not there.
async fn rows_of(session: &mut Session, sql: &str) -> Result<Option<Vec<mysql_async::Row>>> {
    match session.query(sql).await {
        Ok(rows) => Ok(Some(rows)),
        Err(error) if errors::number(&error) == Some(NO_SUCH_TABLE) => Ok(None),
        Err(error) => Err(errors::query_failed(sql, &error)),
    }
}
