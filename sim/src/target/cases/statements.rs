//! Statements that commit by themselves.

use dm_core::sync::ddl::Kind;

use super::{
    A, B, Case,
    End::{Done, Failed, Fenced, Moved, Unknown, Unsettled},
    Place, Statement,
    Step::{self, Execute},
    apply, checkpoint, columns, contents, ddl, denied, keyed, owned, reset, take, within,
};

pub(super) const CREATE: Statement = Statement {
    kind: Kind::CreateTable,
    sql: "CREATE TABLE $.`other` (`id` BIGINT NOT NULL, PRIMARY KEY (`id`))",
    tables: &["other"],
    replay: false,
    swaps: false,
};
const CREATE_AGAIN: Statement = Statement {
    sql: "CREATE TABLE $.`keyed` (`id` BIGINT NOT NULL, PRIMARY KEY (`id`))",
    tables: &["keyed"],
    ..CREATE
};
const DROP: Statement = statement(Kind::DropTable, "DROP TABLE $.`no`", &["no"]);
const EMPTY: Statement = statement(Kind::TruncateTable, "TRUNCATE TABLE $.`keyed`", &["keyed"]);
const TRUNCATE: Statement = statement(Kind::TruncateTable, "TRUNCATE TABLE $.`no`", &["no"]);
const RENAME: Statement = statement(
    Kind::RenameTable,
    "RENAME TABLE $.`keyed` TO $.`other`",
    &["keyed", "other"],
);
const SWAP: Statement = Statement {
    swaps: true,
    ..statement(
        Kind::RenameTable,
        "RENAME TABLE $.`keyed` TO $.`x`, $.`keyless` TO $.`keyed`, $.`x` TO $.`keyless`",
        &["keyed", "x", "keyless", "keyed", "x", "keyless"],
    )
};

pub(super) fn cases() -> Vec<Case> {
    let add = alter("ALTER TABLE $.`keyed` ADD COLUMN `u` BIGINT NULL");
    let drop_column = alter("ALTER TABLE $.`keyed` DROP COLUMN `no`");
    let missing = alter("ALTER TABLE $.`no` DROP COLUMN `u`");
    vec![
        owned(
            "a statement moves all slots",
            vec![
                reset(A, 2, 4, None, Ok(3)),
                ddl(A, CREATE, 500, Done),
                columns(A, "other", Some(&["id"])),
                apply(A, 3, 600, vec![keyed(&[1, 10, 0])], Moved),
                apply(A, 4, 600, vec![keyed(&[1, 10, 0])], Done),
                Step::Ddl(A, alter(WIDEN), Place(600, 1), Done),
                columns(A, "keyed", Some(&["id", "u", "v", "w"])),
                within(A, 5, &[(8, Place(600, 1)), (7, Place(600, 1))]),
            ],
        ),
        owned(
            "rows go with a statement, too",
            vec![
                apply(A, 2, 100, vec![keyed(&[1, 10, 0])], Done),
                ddl(A, EMPTY, 500, Done),
                contents("keyed", &[]),
                apply(A, 4, 600, vec![keyed(&[1, 10, 0])], Done),
                take(A, 5, &[(7, 600)], Some((4, None)), None),
            ],
        ),
        owned(
            "a statement that is refused moves nothing",
            vec![
                ddl(A, CREATE_AGAIN, 500, Failed(1050)),
                ddl(A, DROP, 500, Failed(1051)),
                ddl(A, TRUNCATE, 500, Failed(1146)),
                ddl(A, add, 500, Failed(1060)),
                ddl(A, drop_column, 500, Failed(1091)),
                ddl(A, missing, 500, Failed(1146)),
                columns(A, "keyed", Some(&["id", "u", "v"])),
                apply(A, 2, 100, vec![keyed(&[1, 10, 0])], Done),
                take(A, 5, &[(5, 100)], Some((4, None)), None),
            ],
        ),
        owned(
            "what is there already, or gone, is done in a replay",
            vec![
                ddl(A, replay(CREATE_AGAIN), 500, Done),
                ddl(A, replay(DROP), 501, Done),
                ddl(A, replay(add), 502, Done),
                ddl(A, replay(drop_column), 503, Done),
                ddl(A, replay(missing), 504, Failed(1146)),
                ddl(A, replay(TRUNCATE), 505, Failed(1146)),
                columns(A, "keyed", Some(&["id", "u", "v"])),
                take(A, 5, &[(8, 503)], Some((4, None)), None),
            ],
        ),
        owned(
            "of a table that has its new name, a replay tells",
            vec![
                ddl(A, replay(RENAME), 500, Done),
                columns(A, "keyed", None),
                columns(A, "other", Some(&["id", "u", "v"])),
                ddl(A, replay(RENAME), 501, Done),
                Execute("DROP TABLE $.`other`"),
                ddl(A, RENAME, 502, Failed(1146)),
                ddl(A, replay(RENAME), 503, Failed(1146)),
                take(A, 5, &[(6, 501)], Some((4, None)), None),
            ],
        ),
        owned(
            "names are exchanged once, and not where that may have happened",
            vec![
                ddl(A, SWAP, 500, Done),
                columns(A, "keyed", Some(&["x", "y"])),
                ddl(A, replay(SWAP), 501, Unknown),
                columns(A, "keyed", Some(&["x", "y"])),
                denied(A, 5, Unsettled),
                denied(B, 6, Unsettled),
                checkpoint(A, 50, None, Fenced),
                // An operator says that it is done.
                Execute("ALTER TABLE $.`keyless` ADD COLUMN `w` BIGINT NULL"),
                take(B, 6, &[(10, 501)], Some((4, None)), None),
                checkpoint(B, 510, None, Done),
            ],
        ),
    ]
}

const WIDEN: &str = "ALTER TABLE $.`keyed` ADD COLUMN `w` BIGINT NULL";

const fn statement(kind: Kind, sql: &'static str, tables: &'static [&'static str]) -> Statement {
    Statement {
        kind,
        sql,
        tables,
        replay: false,
        swaps: false,
    }
}

const fn alter(sql: &'static str) -> Statement {
    statement(Kind::AlterTable, sql, &["keyed"])
}

const fn replay(statement: Statement) -> Statement {
    Statement {
        replay: true,
        ..statement
    }
}
