use super::*;

fn grants(text: &str) -> Grants {
    Grants::parse(text.lines().map(str::trim), Names::default())
}

/// As MySQL 9.7 answers for a user that was granted everything.
const MYSQL_ALL: &str = "\
    GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, RELOAD, SHUTDOWN, PROCESS, FILE, \
    REFERENCES, INDEX, ALTER, SHOW DATABASES, SUPER, CREATE TEMPORARY TABLES, LOCK TABLES, \
    EXECUTE, REPLICATION SLAVE, REPLICATION CLIENT, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, \
    ALTER ROUTINE, CREATE USER, EVENT, TRIGGER, CREATE TABLESPACE, CREATE ROLE, DROP ROLE ON *.* \
    TO `dm`@`%` WITH GRANT OPTION
    GRANT APPLICATION_PASSWORD_ADMIN,AUDIT_ADMIN,BACKUP_ADMIN,FLUSH_TABLES,XA_RECOVER_ADMIN ON \
    *.* TO `dm`@`%` WITH GRANT OPTION";

#[test]
fn mysql_names_everything() {
    let all = grants(MYSQL_ALL);
    for privilege in ["SELECT", "RELOAD", "REPLICATION CLIENT", "FLUSH_TABLES"] {
        assert!(all.everywhere(privilege), "{privilege}");
        assert!(all.on_table(privilege, &TableName::new("d", "t")));
    }
    assert!(!all.everywhere("BINLOG_ADMIN"));
}

#[test]
fn everything_in_one_word() {
    for row in [
        "GRANT ALL PRIVILEGES ON *.* TO `dm`@`%` IDENTIFIED BY PASSWORD '*5F9A' WITH GRANT OPTION",
        "GRANT ALL PRIVILEGES ON *.* TO 'root'@'localhost' WITH GRANT OPTION",
    ] {
        assert!(grants(row).everywhere("REPLICATION SLAVE"), "{row}");
    }
    assert!(!grants("GRANT USAGE ON *.* TO `u`@`%`").everywhere("SELECT"));
}

#[test]
fn mariadb_has_words_of_its_own() {
    let found = grants(
        "GRANT `r` TO `dm`@`%`
         GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO `dm`@`%` IDENTIFIED BY PASSWORD '*5F'
         GRANT SELECT ON `shop`.* TO `dm`@`%`
         SET DEFAULT ROLE `r` FOR `dm`@`%`
         GRANT USAGE ON *.* TO `r`
         GRANT INSERT ON `other`.* TO `r`",
    );
    assert!(found.everywhere("BINLOG MONITOR"));
    assert!(found.in_schema("SELECT", "shop") && found.in_schema("INSERT", "other"));
    assert_eq!(found.roles, ["r"]);
}

#[test]
fn roles_are_no_privileges() {
    let found = grants("GRANT `a b`@`%`,`c`@`localhost` TO `u`@`%` WITH ADMIN OPTION");
    assert_eq!(found.roles, ["a b", "c"]);
    assert_eq!(found.granted, []);
}

#[test]
fn names_of_schemas_are_patterns() {
    let found = grants(
        r"GRANT SELECT ON `d\_%`.* TO `u`@`%`
          GRANT INSERT ON `a_c`.* TO `u`@`%`
          GRANT DELETE ON `x``.y`.* TO `u`@`%`",
    );
    assert!(found.in_schema("SELECT", "d_") && found.in_schema("SELECT", "d_shop"));
    assert!(!found.in_schema("SELECT", "dashop") && !found.in_schema("SELECT", "d"));
    assert!(found.in_schema("INSERT", "abc") && !found.in_schema("INSERT", "abbc"));
    assert!(found.in_schema("DELETE", "x`.y"));
    let literal = Names {
        literal: true,
        ..Names::default()
    };
    let found = Grants::parse(["GRANT INSERT ON `a_c`.* TO `u`@`%`"], literal);
    assert!(found.in_schema("INSERT", "a_c") && !found.in_schema("INSERT", "abc"));
}

#[test]
fn letter_case_counts_where_the_server_says_so() {
    let row = ["GRANT SELECT ON `Shop`.* TO `u`@`%`"];
    assert!(!Grants::parse(row, Names::default()).in_schema("SELECT", "shop"));
    let any = Names {
        any_case: true,
        ..Names::default()
    };
    assert!(Grants::parse(row, any).in_schema("SELECT", "sHOP"));
}

#[test]
fn what_is_taken_back_does_not_count() {
    let found = grants(
        "GRANT SELECT, RELOAD ON *.* TO `u`@`%`
         REVOKE SELECT ON `secret`.* FROM `u`@`%`",
    );
    assert!(found.in_schema("SELECT", "shop") && !found.in_schema("SELECT", "secret"));
    assert!(!found.on_table("SELECT", &TableName::new("secret", "t")));
    assert!(found.in_schema("RELOAD", "secret"));
}

#[test]
fn tables_columns_and_routines() {
    let found = grants(
        "GRANT SELECT, LOCK TABLES ON `d`.`t` TO `u`@`%`
         GRANT SELECT (`a`, `b`), INSERT ON `d`.`part` TO `u`@`%`
         GRANT SELECT ON TABLE `d`.`table` TO `u`@`%`
         GRANT EXECUTE ON PROCEDURE `d`.`p` TO `u`@`%`
         GRANT PROXY ON ``@`` TO `root`@`localhost` WITH GRANT OPTION",
    );
    let on = |privilege, table| found.on_table(privilege, &TableName::new("d", table));
    assert!(on("SELECT", "t") && on("LOCK TABLES", "t") && on("SELECT", "table"));
    assert!(!on("SELECT", "part") && on("INSERT", "part"));
    assert!(!on("EXECUTE", "p") && !found.everywhere("PROXY") && !on("SELECT", "other"));
}
