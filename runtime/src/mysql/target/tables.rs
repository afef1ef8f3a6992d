//! What must be known of the target's tables before anything is written into them.

use dm_core::{
    error::{Error, Result, Scope, code},
    sync::schema::{Table, TableName},
};
use mysql_async::Row;

use crate::mysql::{
    definition,
    session::{Session, Values},
};

/// Reads a table; `None` when there is none of that name.
///
/// # Errors
/// Rows in it could not be committed together with their progress.
pub(super) async fn read(session: &mut Session, name: &TableName) -> Result<Option<Table>> {
    let columns = session.rows(&definition::columns(name)).await?;
    if columns.is_empty() {
        return Ok(None);
    }
    let kind = session
        .rows(&format!(
            "SELECT TABLE_TYPE,TABLES.ENGINE,TRANSACTIONS FROM information_schema.TABLES \
             LEFT JOIN information_schema.ENGINES ON ENGINES.ENGINE=TABLES.ENGINE WHERE {}",
            definition::condition(name)
        ))
        .await?;
    if let Some(kind) = kind.first() {
        takes_transactions(name, kind)?;
    }
    let parts = session.rows(&definition::keys(name)).await?;
    Ok(definition::table(name, &columns, &parts))
}

/// Refuses what an open transaction can't take back.
fn takes_transactions(name: &TableName, kind: &Row) -> Result<()> {
    let (message, workaround) = if kind.text(0).eq_ignore_ascii_case("view") {
        (
            format!("{name} is a view in the target: it has no keys to find rows by"),
            "Route the rows to the table behind the view, or put a table in its place.".to_owned(),
        )
    } else if kind.text(2).eq_ignore_ascii_case("yes") {
        return Ok(());
    } else {
        (
            format!(
                "the target's table {name} has no transactions (engine {}): its rows could be \
                 applied twice or by halves",
                kind.text(1)
            ),
            format!("Execute `ALTER TABLE {name} ENGINE=InnoDB` in the target, then resume."),
        )
    };
    Err(Error::new(&code::SYNCER_TARGET_NOT_TRANSACTIONAL, message)
        .with_scope(Scope::Downstream)
        .with_workaround(workaround))
}
