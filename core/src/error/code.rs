//! All kinds of errors, sorted by number.
//!
//! The number, class, scope and level of each are a contract; so is the wording of messages that
//! stand in back-quotes, where `…` is what depends on the occasion.

use super::{Class, Code, Level, Scope};

/// The message of [`WORKER_NO_START`].
pub const NO_SOURCE_TEXT: &str = "no mysql source is being handled in the worker";

/// Declares the codes and the list of all of them.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal $class:ident $scope:ident $level:ident
        $workaround:literal;)*) => {
        $(
            $(#[$doc])*
            pub static $name: Code = Code {
                number: $number,
                class: Class::$class,
                scope: Scope::$scope,
                level: Level::$level,
                workaround: $workaround,
            };
        )*

        /// Every code, sorted by number.
        pub static ALL: &[&Code] = &[$(&$name),*];
    };
}

codes! {
    /// `database driver error`
    DB_DRIVER_ERROR = 10001 Database NotSet High
        "Check that the database is up, reachable and accepts the configured user.";
    /// `database driver`: the connection broke.
    DB_BAD_CONN = 10002 Database NotSet High
        "Check the database connection, then pause and resume the task.";
    /// `database driver`: the connection is not usable.
    DB_INVALID_CONN = 10003 Database NotSet High
        "Check the database connection, then pause and resume the task.";
    /// `unexpect database error: …`
    DB_UN_EXPECT = 10004 Database NotSet High "";
    /// `query statement failed: …`
    DB_QUERY_FAILED = 10005 Database NotSet High "";
    /// `execute statement failed: …`
    DB_EXECUTE_FAILED = 10006 Database NotSet High "";
    /// `parse mydumper metadata error: …, metadata: …`
    PARSE_MYDUMPER_META = 11001 Functional Internal High "";
    /// `not allowed operation: drop multiple tables in one statement`
    DROP_MULTIPLE_TABLES = 11003 Functional Internal High
        "Skip or replace the statement, and let one statement change one table.";
    /// `not allowed operation: rename multiple tables in one statement`
    RENAME_MULTIPLE_TABLES = 11004 Functional Internal High
        "Skip or replace the statement, and let one statement change one table.";
    /// `parse statement: …`
    PARSE_SQL = 11006 Functional Internal High "";
    /// `unknown type ddl …`
    UNKNOWN_TYPE_DDL = 11007 Functional Internal High "Skip or replace the statement.";
    /// `parse GTID …`
    PARSE_GTID = 11009 Functional Internal High "";
    /// `flavor … not supported`
    NOT_SUPPORTED_FLAVOR = 11010 Functional Internal High
        "Set `flavor` in the source configuration to mysql or mariadb.";
    /// `… is not mysql GTID set`
    NOT_MYSQL_GTID = 11011 Functional Internal High "";
    /// `… is not mariadb GTID set`
    NOT_MARIADB_GTID = 11012 Functional Internal High "";
    /// `binlog reader is already running`
    READER_ALREADY_RUNNING = 11019 Functional Internal High "";
    /// `empty relay dir`
    EMPTY_RELAY_DIR = 11023 Functional Internal High "Set `relay-dir`.";
    /// `read dir: …`
    READ_DIR = 11024 Functional Internal High "";
    /// `base file … in directory … not found`
    BASE_FILE_NOT_FOUND = 11025 Functional Internal High "";
    /// `cmp condition … not supported`
    BIN_FILE_CMP_COND_NOT_SUPPORT = 11026 Functional Internal High "";
    /// `binlog files in dir … not found`
    BINLOG_FILES_NOT_FOUND = 11028 Functional Internal High "";
    /// `get stat for relay log …`
    GET_RELAY_LOG_STAT = 11029 Functional Internal High "";
    /// `file size of relay log … become smaller`
    RELAY_LOG_FILE_SIZE_SMALLER = 11034 Functional Internal High
        "Check the relay directory; remove the damaged relay log and let it be pulled again.";
    /// `binlog file must be specified`
    BINLOG_FILE_NOT_SPECIFIED = 11035 Functional Internal High "";
    /// `no relay log files in dir … match pos …`
    NO_RELAY_LOG_MATCH_POS = 11036 Functional Internal High "";
    /// `the first relay log … not match the start pos …`
    FIRST_RELAY_LOG_NOT_MATCH_POS = 11037 Functional Internal High "";
    /// `parse relay log file …`
    PARSER_PARSE_RELAY_LOG = 11038 Functional Internal High "";
    /// No relay sub-directory follows the one that ended.
    NO_SUBDIR_TO_SWITCH = 11039 Functional Internal High "";
    /// `Last sync error or closed, try sync and get event again`
    NEED_SYNC_AGAIN = 11040 Functional Internal High "";
    /// `Sync was closed`
    SYNC_CLOSED = 11041 Functional Internal High "";
    /// `generate table router`
    GENERATE_TABLE_ROUTER = 11043 Functional Internal High
        "Check `routes` in the task configuration.";
    /// `required dummy event size (…) is too small, the minimum supported size is …`
    BINLOG_DUMMY_EV_SIZE_TOO_SMALL = 11079 Functional Internal High "";
    /// `open file`
    BINLOG_WRITER_OPEN_FILE = 11087 Functional Internal High "";
    /// `get stat for …`
    BINLOG_WRITER_GET_FILE_STAT = 11088 Functional Internal High "";
    /// `data length …`
    BINLOG_WRITER_WRITE_DATA_LEN = 11089 Functional Internal High "";
    /// `backoff argument … value … not valid`
    BACKOFF_ARGS_NOT_VALID = 11103 Functional Internal Medium "";
    /// `init logger failed`
    INIT_LOGGER_FAIL = 11104 Functional Internal Medium "";
    /// `the given relay log pos … of meta config is too big, please check it again`
    RELAY_LOG_GIVEN_POS_TOO_BIG = 11106 Functional Internal High "";
    /// `invalid binlog filename with uuid suffix …`
    INVALID_FILENAME_WITH_UUID_SUFFIX = 11109 Functional Internal High "";
    /// `fail to decode etcd key: …`
    DECODE_ETCD_KEY_FAIL = 11110 Functional Internal Medium "";
    /// `fail to try sync the optimistic shard ddl lock …: …`
    SHARD_DDL_OPTIMISM_TRY_SYNC_FAIL = 11111 Functional Internal Medium
        "Look at the lock with `show-ddl-locks`.";
    /// `invalid TLS config`
    CONN_INVALID_TLS_CONFIG = 11112 Functional Internal Medium
        "Check `ssl-ca`, `ssl-cert` and `ssl-key`.";
    /// The arguments of a handle-error request do not fit.
    VERIFY_HANDLE_ERROR_ARGS = 11118 Functional Internal Low "Check the arguments.";
    /// `no relay subdir match gtid …`
    NO_UUID_DIR_MATCH_GTID = 11120 Functional Internal High "";
    /// `no relay pos match gtid …`
    NO_RELAY_POS_MATCH_GTID = 11121 Functional Internal High "";
    /// The reader reached the end of the file.
    READER_REACH_END_OF_FILE = 11122 Functional Internal Low "";
    /// `didn't found binlog location in dumped metadata file …`
    METADATA_NO_BINLOG_LOC = 11123 Functional Upstream Low
        "Look for errors of the dump unit while it read the source's position.";
    /// `no previous gtid event from binlog …`
    PREVIOUS_GTID_NOT_EXIST = 11124 Functional Internal High "";
    /// `upstream returns an empty result for SHOW MASTER STATUS`
    NO_MASTER_STATUS = 11125 Functional Upstream Medium
        "Switch the source's binary log on, and check the user's privileges.";
    /// `upstream didn't log enough columns in binlog`
    BINLOG_NOT_LOG_COLUMN = 11126 BinlogOp Upstream High
        "Set `binlog_row_image` of the source, all its sessions included, to FULL and restart the \
         task from where it is so.";
    /// `receive conflict DDL for the optimistic shard ddl lock …: …`
    SHARD_DDL_OPTIMISM_NEED_SKIP_AND_REDIRECT = 11127 Functional Internal High "";
    /// `fail to resolve adding not fully dropped columns for optimistic shard ddl lock …: …`
    SHARD_DDL_OPTIMISM_ADD_NOT_FULLY_DROPPED_COLUMN = 11128 Functional Internal Medium
        "Skip it with `binlog skip`.";
    /// A DDL was cancelled at the target.
    SYNCER_CANCELLED_DDL = 11129 SyncUnit Internal High "";
    /// `checking item … is not supported`
    CONFIG_CHECK_ITEM_NOT_SUPPORT = 20001 Config Internal Medium
        "Check `ignore-checking-items` in the task configuration.";
    /// A configuration text is not the TOML that it should be.
    CONFIG_TOML_TRANSFORM = 20002 Config Internal Medium
        "Check that the configuration is correct TOML.";
    /// A configuration file is not the YAML that it should be.
    CONFIG_YAML_TRANSFORM = 20003 Config Internal Medium
        "Check that the configuration file is correct YAML with known keys.";
    /// `task name should not be empty`
    CONFIG_TASK_NAME_EMPTY = 20004 Config Internal Medium "Set `name` in the task configuration.";
    /// `empty source-id not valid`
    CONFIG_EMPTY_SOURCE_ID = 20005 Config Internal Medium "Set `source-id`.";
    /// `too long source-id not valid`
    CONFIG_TOO_LONG_SOURCE_ID = 20006 Config Internal Medium
        "Give a `source-id` of at most 32 bytes.";
    /// `online scheme … not supported`
    CONFIG_ONLINE_SCHEME_NOT_SUPPORT = 20007 Config Internal Medium
        "Set `online-ddl: true`, which covers gh-ost and pt-osc.";
    /// `invalid timezone string: …`
    CONFIG_INVALID_TIMEZONE = 20008 Config Internal Medium
        "Give an IANA name or an offset between -12:59 and +14:00.";
    /// `decrypt DB password … failed`
    CONFIG_DECRYPT_DB_PASSWORD = 20010 Config Internal Medium "";
    /// A start position without binlog name and GTID set.
    CONFIG_META_INVALID = 20011 Config Internal Medium
        "Set `binlog-name`, or `binlog-gtid` when the source has GTIDs enabled, in `meta`.";
    /// `mysql instance config must specify`
    CONFIG_MYSQL_INST_NOT_FOUND = 20012 Config Internal Medium
        "Check `mysql-instances` in the task configuration.";
    /// `must specify at least one mysql-instances`
    CONFIG_MYSQL_INSTS_AT_LEAST_ONE = 20013 Config Internal Medium
        "Check `mysql-instances` in the task configuration.";
    /// `mysql-instance (…) and (…) have same source-id (…)`
    CONFIG_MYSQL_INST_SAME_SOURCE_ID = 20014 Config Internal Medium
        "Check `mysql-instances` in the task configuration.";
    /// `mydumper-config-name and mydumper should only specify one`
    CONFIG_MYDUMPER_CFG_CONFLICT = 20015 Config Internal Medium "Remove one of the two.";
    /// `loader-config-name and loader should only specify one`
    CONFIG_LOADER_CFG_CONFLICT = 20016 Config Internal Medium "Remove one of the two.";
    /// `syncer-config-name and syncer should only specify one`
    CONFIG_SYNCER_CFG_CONFLICT = 20017 Config Internal Medium "Remove one of the two.";
    /// `read config file …`
    CONFIG_READ_CFG_FROM_FILE = 20018 Config Internal Medium "";
    /// `must specify a unique task name`
    CONFIG_NEED_UNIQUE_TASK_NAME = 20019 Config Internal Medium
        "Set `name` in the task configuration.";
    /// The task mode is not one of the known ones.
    CONFIG_INVALID_TASK_MODE = 20020 Config Internal Medium
        "Set `task-mode` to all, full, incremental, dump, load or load&sync.";
    /// `must specify target-database`
    CONFIG_NEED_TARGET_DB = 20021 Config Internal Medium
        "Set `target-database` in the task configuration.";
    /// `mysql-instance(…) must set meta for task-mode …`
    CONFIG_METADATA_NOT_SET = 20022 Config Internal Medium
        "Set `meta` of the instance, or a start time.";
    /// `mysql-instance(…)'s route-rules … not exist in routes`
    CONFIG_ROUTE_RULE_NOT_FOUND = 20023 Config Internal Medium "Check `route-rules` and `routes`.";
    /// `mysql-instance(…)'s filter-rules … not exist in filters`
    CONFIG_FILTER_RULE_NOT_FOUND = 20024 Config Internal Medium
        "Check `filter-rules` and `filters`.";
    /// `mysql-instance(…)'s list … not exist in block allow list`
    CONFIG_BA_LIST_NOT_FOUND = 20026 Config Internal Medium "Check `block-allow-list`.";
    /// `mysql-instance(…)'s mydumper config … not exist in mydumpers`
    CONFIG_MYDUMPER_CFG_NOT_FOUND = 20027 Config Internal Medium
        "Check `mydumper-config-name` and `mydumpers`.";
    /// The dump needs a non-empty `mydumper-path`.
    CONFIG_MYDUMPER_PATH_NOT_VALID = 20028 Config Internal Medium
        "Leave `mydumper-path` out to use the default.";
    /// `mysql-instance(…)'s loader config … not exist in loaders`
    CONFIG_LOADER_CFG_NOT_FOUND = 20029 Config Internal Medium
        "Check `loader-config-name` and `loaders`.";
    /// `mysql-instance(…)'s syncer config … not exist in syncer`
    CONFIG_SYNCER_CFG_NOT_FOUND = 20030 Config Internal Medium
        "Check `syncer-config-name` and `syncers`.";
    /// `source … in deployment configuration not found`
    CONFIG_SOURCE_ID_NOT_FOUND = 20031 Config Internal Medium
        "Give the source configuration with this `source-id`.";
    /// `the following mysql configs have duplicate items, please remove the duplicates:` and a list
    CONFIG_DUPLICATE_CFG_ITEM = 20032 Config Internal Medium "Remove the duplicates.";
    /// `shard mode … not supported`
    CONFIG_SHARD_MODE_NOT_SUPPORT = 20033 Config Internal Medium
        "Set `shard-mode` to pessimistic or optimistic, or leave it out.";
    /// `found … … for … which should <= 1`
    CONFIG_MORE_THAN_ONE = 20034 Config Internal High "";
    /// `incapable config of … from etcd`
    CONFIG_ETCD_PARSE = 20035 Config Internal High "";
    /// `source bound … doesn't have related source config in etcd`
    CONFIG_MISSING_FOR_BOUND = 20036 Config Internal High "";
    /// `generate binlog event filter`
    CONFIG_BINLOG_EVENT_FILTER = 20037 Config Internal High
        "Check `filters` in the source and task configuration.";
    /// `The configurations as following … are set in global configuration but instances don't use
    /// them`
    CONFIG_GLOBAL_CONFIGS_UNUSED = 20038 Config Internal High
        "Name them in an instance or remove them.";
    /// An expression filter with expressions of more than one kind of change.
    CONFIG_EXPR_FILTER_MANY_EXPR = 20039 Config Internal High
        "Write one filter for each kind of change.";
    /// `mysql-instance(…)'s expression-filters … not exist in expression-filter`
    CONFIG_EXPR_FILTER_NOT_FOUND = 20040 Config Internal High
        "Check `expression-filters` and `expression-filter`.";
    /// `expression-filter … has empty …`
    CONFIG_EXPR_FILTER_EMPTY_NAME = 20042 Config Internal High
        "Check `expression-filter` in the task configuration.";
    /// `backoff-max` is less than `backoff-min`.
    CONFIG_CHECKER_MAX_TOO_SMALL = 20043 Config Internal High "Increase `backoff-max`.";
    /// `generate block allow list error`
    CONFIG_GEN_BA_LIST = 20044 Config Internal High
        "Check `block-allow-list` in the task configuration.";
    /// `generate table router error`
    CONFIG_GEN_TABLE_ROUTER = 20045 Config Internal High
        "Check `routes` in the task configuration.";
    /// `chunk-filesize` is not a size.
    CONFIG_INVALID_CHUNK_FILE_SIZE = 20047 Config Internal High
        "Give a number of MiB, or a number with a unit.";
    /// A shadow or trash table rule is not usable.
    CONFIG_ONLINE_DDL_INVALID_REGEX = 20048 Config Internal High
        "Give a regular expression with exactly one capture group.";
    /// A table looks like one of an online schema change, but no rule matches it.
    CONFIG_ONLINE_DDL_MISTAKE_REGEX = 20049 Config Internal High
        "Check `shadow-table-rules` and `trash-table-rules`.";
    /// `collation compatible … not supported`
    CONFIG_COLLATION_COMPATIBLE_NOT_SUPPORT = 20052 Config Internal Medium
        "Set `collation_compatible` to loose or strict.";
    /// `invalid load mode '…'`
    CONFIG_INVALID_LOAD_MODE = 20053 Config Internal Medium
        "Set `import-mode` to logical, physical or import-into.";
    /// `invalid load on-duplicate '…'`
    CONFIG_INVALID_LOAD_DUPLICATE_RESOLUTION = 20054 Config Internal Medium
        "Set `on-duplicate-logical` to replace, error or ignore.";
    /// `invalid validation mode`
    CONFIG_VALIDATION_MODE = 20055 Config Internal High
        "Set `mode` of the validator to none, fast or full.";
    /// `mysql-instance(…)'s continuous validator config … not exist`
    CONTINUOUS_VALIDATOR_CFG_NOT_FOUND = 20056 Config Internal Medium
        "Check `validator-config-name` and `validators`.";
    /// `start-time … is too late, no binlog location matches it`
    CONFIG_START_TIME_TOO_LATE = 20057 Config Internal High
        "Check the start time, or try again later.";
    /// `loader's dir … is invalid`
    CONFIG_LOADER_DIR_INVALID = 20058 Config Internal High "Check `dir` of the loader.";
    /// Column mappings are no more.
    CONFIG_COLUMN_MAPPING_DEPRECATED = 20064 Config Internal High
        "Remove `column-mappings`; use extracted columns in `routes` instead.";
    /// A value is not allowed, or two values contradict each other. Not a code of the existing
    /// worker.
    CONFIG_INVALID_VALUE = 20900 Config Internal Medium "";
    /// A valid configuration asks for something that is not built yet. Not a code of the existing
    /// worker.
    CONFIG_NOT_SUPPORTED = 20901 Config Internal High "";
    /// A binlog name with a relay suffix that fits no sub-directory.
    BINLOG_EXTRACT_POSITION = 22001 BinlogOp Internal High "";
    /// `invalid binlog filename`
    BINLOG_INVALID_FILENAME = 22002 BinlogOp Internal High "";
    /// A text that is not a binlog position.
    BINLOG_PARSE_POS_FROM_STR = 22003 BinlogOp Internal High "";
    /// `invalid task mode: …`
    CHECKPOINT_INVALID_TASK_MODE = 24001 Checkpoint Internal Medium "";
    /// `save point … is older than current location …`
    CHECKPOINT_SAVE_INVALID_POS = 24002 Checkpoint Internal High "";
    /// `same table name in case-insensitive …`
    TASK_CHECK_SAME_TABLE_NAME = 26001 TaskCheck Internal Medium
        "Check `target-table` of `routes`.";
    /// A check before the start of a task failed.
    TASK_CHECK_SYNC_CONFIG_ERROR = 26005 TaskCheck Internal Medium "";
    /// `parse server-uuid.index`
    RELAY_PARSE_UUID_INDEX = 28001 RelayEventLib Internal High "";
    /// `UUID (with suffix) … not valid`
    RELAY_PARSE_UUID_SUFFIX = 28002 RelayEventLib Internal High "";
    /// `generate fake rotate event`
    RELAY_GEN_FAKE_ROTATE_EVENT = 28004 RelayEventLib Internal High "";
    /// `there aren't any data under relay log directory ….`
    RELAY_NO_VALID_RELAY_SUB_DIR = 28005 RelayEventLib Internal High
        "Check the relay log with `query-status`.";
    /// `UUID … suffix … should be 1 larger than previous suffix …`
    RELAY_UUID_SUFFIX_NOT_VALID = 30001 RelayUnit Internal High "";
    /// `previous UUID … has suffix larger than …`
    RELAY_UUID_SUFFIX_LESS_THAN_PREV = 30002 RelayUnit Internal High "";
    /// `load meta data`
    RELAY_LOAD_META_DATA = 30003 RelayUnit Internal High "";
    /// `relay-binlog-name … not valid`
    RELAY_BINLOG_NAME_NOT_VALID = 30004 RelayUnit Internal High
        "Check `relay-binlog-name` in the source configuration.";
    /// `no current UUID set`
    RELAY_NO_CURRENT_UUID = 30005 RelayUnit Internal High "";
    /// `flush local meta`
    RELAY_FLUSH_LOCAL_META = 30006 RelayUnit Internal High "";
    /// `update UUID index file …`
    RELAY_UPDATE_INDEX_FILE = 30007 RelayUnit Internal High "";
    /// `dirpath is empty`
    RELAY_LOG_DIRPATH_EMPTY = 30008 RelayUnit Internal High
        "Set `relay-dir` of the source or the worker.";
    /// `stage …, expect …, already started`
    RELAY_READER_NOT_STATE_NEW = 30009 RelayUnit Internal High "";
    /// `stage …, expect …, can not close`
    RELAY_READER_STATE_CANNOT_CLOSE = 30010 RelayUnit Internal High "";
    /// `stage …, expect …`
    RELAY_READER_NEED_START = 30011 RelayUnit Internal High "";
    /// `start sync from position …`
    RELAY_TCP_READER_START_SYNC = 30012 RelayUnit Upstream High "";
    /// `nil GTID set not valid`
    RELAY_TCP_READER_NIL_GTID = 30013 RelayUnit Internal High "";
    /// `start sync from GTID set …`
    RELAY_TCP_READER_START_SYNC_GTID = 30014 RelayUnit Upstream High "";
    /// `TCPReader get relay event with error`
    RELAY_TCP_READER_GET_EVENT = 30015 RelayUnit Upstream High "";
    /// `no underlying writer opened`
    RELAY_WRITER_NOT_OPENED = 30019 RelayUnit Internal High "";
    /// A rotate event was due.
    RELAY_WRITER_EXPECT_ROTATE_EV = 30020 RelayUnit Internal High "";
    /// `get stat for …`
    RELAY_WRITER_GET_FILE_STAT = 30023 RelayUnit Internal High "";
    /// `latest pos … greater than file size …, should not happen`
    RELAY_WRITER_LATEST_POS_GT_FILE_SIZE = 30024 RelayUnit Internal High "";
    /// An operation on a relay log file failed.
    RELAY_WRITER_FILE_OPERATE = 30025 RelayUnit Internal High "";
    /// The file header could not be checked.
    RELAY_CHECK_BINLOG_FILE_HEADER_EXIST = 30026 RelayUnit Internal High "";
    /// The first event could not be checked.
    RELAY_CHECK_FORMAT_DESC_EVENT_EXIST = 30027 RelayUnit Internal High "";
    /// `parse …`
    RELAY_CHECK_FORMAT_DESC_EVENT_PARSE_EV = 30028 RelayUnit Internal High "";
    /// The bytes in the file and those received differ.
    RELAY_CHECK_IS_DUPLICATE_EVENT = 30029 RelayUnit Internal High "";
    /// `update GTID set … with GTID …`
    RELAY_UPDATE_GTID = 30030 RelayUnit Internal High "";
    /// `should have a PreviousGTIDsEvent before the GTIDEvent …`
    RELAY_NEED_PREV_GTID_EV_BEFORE_GTID_EV = 30031 RelayUnit Internal High "";
    /// `should have a MariadbGTIDListEvent before the MariadbGTIDEvent …`
    RELAY_NEED_MA_GTID_LIST_EV_BEFORE_GTID_EV = 30032 RelayUnit Internal High "";
    /// `relay mkdir`
    RELAY_MKDIR = 30033 RelayUnit Internal High "";
    /// `this strategy is purging`
    RELAY_THIS_STRATEGY_IS_PURGING = 30035 RelayUnit Internal High "";
    /// `… is purging`
    RELAY_OTHER_STRATEGY_IS_PURGING = 30036 RelayUnit Internal High "";
    /// `relay log purge is forbidden temporarily, because …`
    RELAY_PURGE_IS_FORBIDDEN = 30037 RelayUnit Internal High "Try again later.";
    /// `no active relay log file found`
    RELAY_NO_ACTIVE_RELAY_LOG = 30038 RelayUnit Internal High "";
    /// `request … not valid`
    RELAY_PURGE_REQUEST_NOT_VALID = 30039 RelayUnit Internal High "";
    /// `UUID … in UUIDs … not found`
    RELAY_TRIM_UUID_NOT_FOUND = 30040 RelayUnit Internal High "";
    /// `remove relay log … …`
    RELAY_REMOVE_FILE_FAIL = 30041 RelayUnit Internal High "";
    /// `args (…) … not valid`
    RELAY_PURGE_ARGS_NOT_VALID = 30042 RelayUnit Internal High "";
    /// `receive fake rotate event with different server_id`
    ROTATE_EVENT_WITH_DIFFERENT_SERVER_ID = 30044 RelayUnit Internal High
        "Resume the relay if the source has changed.";
    /// `mydumper/dumpling runs with error, with output (may empty): …`
    DUMP_UNIT_RUNTIME = 32001 DumpUnit Internal High "";
    /// `Couldn't acquire global lock`
    DUMP_UNIT_GLOBAL_LOCK = 32004 DumpUnit Internal High
        "Grant the privileges for FLUSH TABLES WITH READ LOCK, or choose another `--consistency` \
         in `extra-args`.";
    /// `generate schema file`
    LOAD_UNIT_CREATE_SCHEMA_FILE = 34001 LoadUnit Internal Medium "";
    /// `different worker in load stage, previous worker: …, current worker: …`
    LOAD_TASK_WORKER_NOT_MATCH = 34017 Functional Internal High
        "Check whether the previous worker is online.";
    /// `inconsistent checkpoints between loader and target database`
    LOAD_TASK_CHECKPOINT_NOT_MATCH = 34018 Functional Internal High
        "To do the whole task again, start it with `--remove-meta`.";
    /// The import failed.
    LOAD_LIGHTNING_RUNTIME = 34019 LoadUnit Internal High "";
    /// The import met duplicate rows.
    LOAD_LIGHTNING_HAS_DUP = 34020 LoadUnit Internal High "";
    /// The checksums of dump and target differ.
    LOAD_LIGHTNING_CHECKSUM = 34021 LoadUnit Internal High "";
    /// `panic error: …`
    SYNCER_UNIT_PANIC = 36001 SyncUnit Internal High "";
    /// `detect inconsistent DDL sequence from source …, right DDL sequence should be …`
    SYNC_UNIT_DDL_WRONG_SEQUENCE = 36008 SyncUnit Internal High
        "Look at the lock with `show-ddl-locks`.";
    /// `only support ROW format binlog, unexpected DML statement found in query event`
    SYNCER_UNIT_DML_STATEMENT_FOUND = 36014 SyncUnit Internal High "";
    /// A binlog event filter failed.
    SYNCER_UNIT_BINLOG_EVENT_FILTER = 36015 SyncUnit Internal High "";
    /// `UUID … not the latest one in UUIDs …`
    SYNCER_UNIT_UUID_NOT_LATEST = 36018 SyncUnit Internal High "";
    /// `ddl on multiple table: … not supported`
    SYNCER_UNIT_DDL_ON_MULTIPLE_TABLE = 36022 SyncUnit Internal High
        "Skip or replace the statement, and let one statement change one table.";
    /// `op … not supported`
    SYNCER_UNIT_NOT_SUPPORTED_OPERATE = 36025 SyncUnit Internal Medium "";
    /// `Column count doesn't match value count: … (columns) vs … (values)`
    SYNCER_UNIT_DML_COLUMN_NOT_MATCH = 36027 SyncUnit Internal High
        "Look in the log whether a DDL of this table was skipped, and correct the table's \
         structure.";
    /// `Old value count doesn't match new value count: … (old) vs … (new)`
    SYNCER_UNIT_DML_OLD_NEW_VALUE_MISMATCH = 36028 SyncUnit Internal High "";
    /// `generate binlog event filter`
    SYNCER_UNIT_GEN_BINLOG_EVENT_FILTER = 36030 SyncUnit Internal High
        "Check `filters` in the source and task configuration.";
    /// `generate table router`: a route is invalid, or more than one matches.
    SYNCER_UNIT_GEN_TABLE_ROUTER = 36031 SyncUnit Internal High
        "Correct the `routes` of the task, so that one rule at most matches a table.";
    /// `online ddl changes on multiple table: … not supported`
    SYNCER_UNIT_ONLINE_DDL_ON_MULTIPLE_TABLE = 36041 SyncUnit Internal High "";
    /// `rename table to gh-ost temporary table … not supported`
    SYNCER_UNIT_GHOST_RENAME_TO_GHOST_TABLE = 36044 SyncUnit Internal High "";
    /// `rename gh-ost temporary table to other temporary table … not supported`
    SYNCER_UNIT_GHOST_RENAME_GHOST_TBL_TO_OTHER = 36045 SyncUnit Internal High "";
    /// The record of an online schema change is missing.
    SYNCER_UNIT_GHOST_ONLINE_DDL_ON_GHOST_TBL = 36046 SyncUnit Internal High "";
    /// `start syncing binlog from remote streamer`
    SYNCER_UNIT_REMOTE_STEAMER_START_SYNC = 36053 SyncUnit Internal High "";
    /// An invalid table.
    SYNCER_UNIT_GET_TABLE_FROM_DB = 36054 SyncUnit Internal High "";
    /// `try update config when some tables' (…) sharding DDL not synced not supported`
    SYNCER_UNIT_UPDATE_CONFIG_IN_SHARDING = 36058 SyncUnit Internal High "Try again later.";
    /// `generate block allow list`
    SYNCER_UNIT_GEN_BA_LIST = 36060 SyncUnit Internal High
        "Check `block-allow-list` in the task configuration.";
    /// `fail to handle ddl job for …`
    SYNCER_UNIT_HANDLE_DDL_FAILED = 36061 SyncUnit Internal High "";
    /// `fail to handle shard ddl … in optimistic mode, because schema conflict detected, conflict
    /// error: …`
    SYNCER_SHARD_DDL_CONFLICT = 36062 SyncUnit Internal High
        "Look at the lock with `show-ddl-locks`.";
    /// A handle-error operation failed.
    SYNCER_EVENT = 36064 SyncUnit Internal High "";
    /// `error operator not exist, position: …`
    SYNCER_OPERATOR_NOT_EXIST = 36065 SyncUnit Internal Low "";
    /// `parse DDL: …`
    SYNCER_PARSE_DDL = 36067 SyncUnit Internal High
        "Check the statement; skip or replace it, or ignore it with a binlog filter.";
    /// A statement that the mode does not support.
    SYNCER_UNSUPPORTED_STMT = 36068 SyncUnit Internal High "";
    /// `get binlog event error: …`
    SYNCER_GET_EVENT = 36069 SyncUnit Upstream High
        "Check whether `mysqlbinlog` can read the binlog.";
    /// `downstream table … not found`
    SYNCER_DOWNSTREAM_TABLE_NOT_FOUND = 36070 SyncUnit Internal High "";
    /// Reprocessing needs safe mode, which the configuration forbids.
    SYNCER_REPROCESS_WITH_SAFE_MODE_FAIL = 36071 SyncUnit Internal High
        "Give a `safe-mode-duration` greater than 0.";
    /// A write was refused because another owner holds the source.
    SYNCER_FENCED = 36901 SyncUnit Downstream High
        "If another worker has the source now: nothing, it goes on with it.";
    /// A write was refused because the progress in the target is not what it was planned from.
    SYNCER_PROGRESS_MOVED = 36902 SyncUnit Downstream High
        "Nothing to do: the worker reads the progress again and goes on.";
    /// The former owner's transactions or connections do not end.
    SYNCER_TAKEOVER_TIMEOUT = 36903 SyncUnit Downstream High
        "Look for open transactions and hanging connections of the task's user in the target.";
    /// Whether a DDL ran can't be said yet.
    SYNCER_DDL_UNSETTLED = 36904 SyncUnit Downstream High
        "Look for the statement among the target's running statements and DDL jobs.";
    /// A row of the worker's tables in the target can't be read.
    SYNCER_PROGRESS_INVALID = 36905 SyncUnit Downstream High
        "Somebody changed the meta tables by hand: restore them, or start the task anew.";
    /// The binlog holds a part of a transaction that was never committed.
    SYNCER_TRANSACTION_BROKEN_OFF = 36906 SyncUnit Upstream High
        "Compare the rows that this transaction changed (`mysqlbinlog` shows them) with the \
         source's, correct the target, remove the task's progress and checkpoint in the target, \
         and set `meta` to the end location in this message.";
    /// Rows of the target's table can't share a transaction with the progress.
    SYNCER_TARGET_NOT_TRANSACTIONAL = 36907 SyncUnit Downstream High
        "Give the table an engine with transactions, such as InnoDB.";
    /// `nil request not valid`
    MASTER_SQL_OP_NIL_REQUEST = 38001 DmMaster Internal Medium "";
    /// `some error occurs in dm-worker: …`
    MASTER_OPERATE_RESP_NOT_SUCCESS = 38032 DmMaster Internal High "See `query-status`.";
    /// `source bound is changed too frequently, last old bound …:, new bound …`
    MASTER_BOUND_CHANGING = 38052 DmMaster Internal Low "Try again later.";
    /// `parse dm-worker config flag set`
    WORKER_PARSE_FLAG_SET = 40001 DmWorker Internal Medium "";
    /// `'…' is an invalid flag`
    WORKER_INVALID_FLAG = 40002 DmWorker Internal Medium "";
    /// `toml decode file`
    WORKER_DECODE_CONFIG_FROM_FILE = 40003 DmWorker Internal Medium
        "Check that the configuration file is correct TOML.";
    /// `worker config contains unknown configuration options: …`
    WORKER_UNDECODED_ITEM_FROM_FILE = 40004 DmWorker Internal Medium "Remove the unknown keys.";
    /// A source configuration without `source-id`.
    WORKER_NEED_SOURCE_ID = 40005 DmWorker Internal Medium "Set `source-id`.";
    /// `the length of source ID … is more than max allowed value …`
    WORKER_TOO_LONG_SOURCE_ID = 40006 DmWorker Internal Medium "";
    /// `relay-binlog-name … not valid`
    WORKER_RELAY_BINLOG_NAME = 40007 DmWorker Internal Medium "";
    /// `current stage is …, … required, relay op …`
    WORKER_RELAY_STAGE_NOT_VALID = 40039 DmWorker Internal High "";
    /// `operation … not supported`
    WORKER_RELAY_OPER_NOT_SUPPORT = 40040 DmWorker Internal High "";
    /// `start server`
    WORKER_START_SERVICE = 40048 DmWorker Internal High "";
    /// `mysql source handler worker already closed`
    WORKER_ALREADY_CLOSED = 40049 DmWorker Internal High "";
    /// `current stage is … but not running, invalid`
    WORKER_NOT_RUNNING_STAGE = 40050 DmWorker Internal High "";
    /// `current stage is … but not paused, invalid`
    WORKER_NOT_PAUSED_STAGE = 40051 DmWorker Internal High "";
    /// `can only update task on Paused stage, but current stage is …`
    WORKER_UPDATE_TASK_STAGE = 40052 DmWorker Internal High "Pause the task first.";
    /// `sub task with name … not found`
    WORKER_SUB_TASK_NOT_FOUND = 40054 DmWorker Internal High "";
    /// `sub task … already exists`
    WORKER_SUB_TASK_EXISTS = 40055 DmWorker Internal High "";
    /// `such operation is only available for syncer, but now syncer is not running. current unit is
    /// …`
    WORKER_OPER_SYNC_UNIT_ONLY = 40056 DmWorker Internal High "";
    /// `subtask … has no dm units for mode …`
    WORKER_NO_AVAIL_UNITS = 40060 DmWorker Internal High "";
    /// `DDLLockInfo with ID … not found`
    WORKER_DDL_LOCK_INFO_NOT_FOUND = 40061 DmWorker Internal High
        "See the locks with `show-ddl-locks`.";
    /// `waiting for relay to catch up with loader is timeout (exceeding …), loader: …, relay: …`
    WORKER_WAIT_RELAY_CATCHUP_TIMEOUT = 40067 DmWorker Internal High "";
    /// `relay log purger is purging, cannot start sub task …`
    WORKER_RELAY_IS_PURGING = 40068 DmWorker Internal High "Try again later.";
    /// `host:port '…' not valid`
    WORKER_HOST_PORT_NOT_VALID = 40069 DmWorker Internal High
        "Check the addresses in the worker's configuration.";
    /// [`NO_SOURCE_TEXT`]
    WORKER_NO_START = 40070 DmWorker Internal High "";
    /// `mysql source worker … has already started with source …, but get a request with source …`
    WORKER_ALREADY_START = 40071 DmWorker Internal High "Restart the worker.";
    /// `source of request does not match with source in worker`
    WORKER_SOURCE_NOT_MATCH = 40072 DmWorker Internal High "";
    /// `there is no relative subtask config for task … in etcd`
    WORKER_FAIL_TO_GET_SUBTASK_CONFIG_FROM_ETCD = 40073 DmWorker Internal Medium "";
    /// `there is no relative source config for source … in etcd`
    WORKER_FAIL_TO_GET_SOURCE_CONFIG_FROM_ETCD = 40074 DmWorker Internal Medium "";
    /// `TLS config not valid`
    WORKER_TLS_CONFIG_NOT_VALID = 40076 DmWorker Internal High
        "Check `ssl-ca`, `ssl-cert` and `ssl-key` of the worker.";
    /// `cannot join with master endpoints: …, error: …`
    WORKER_FAIL_CONNECT_MASTER = 40077 DmWorker Internal High
        "Check the network to the masters, and that the worker's name is unique.";
    /// `cannot compare gtid between loader and relay, loader gtid: …, relay gtid: …`
    WORKER_RELAY_CONFIG_GTID_NOT_COMPARABLE = 40078 DmWorker Internal High "";
    /// `relay config of worker … is changed too frequently, last relay source …:, new relay source
    /// …`
    WORKER_RELAY_CONFIG_CHANGING = 40079 DmWorker Internal Low "Try again later.";
    /// `table ….… matches more than one rule`
    WORKER_ROUTE_TABLE_DUP_MATCH = 40080 DmWorker Internal High
        "Check `routes` in the task configuration.";
    /// `can only update task config for limited fields and this task must in sync unit, current
    /// task: … current unit: …`
    WORKER_UPDATE_SUB_TASK_CONFIG = 40081 DmWorker Internal High "";
    /// `current validator stage is … but not paused, invalid`
    WORKER_VALIDATOR_NOT_PAUSED = 40082 DmWorker Internal High "";
    /// The server is closed.
    WORKER_SERVER_CLOSED = 40083 DmWorker Internal Low "";
    /// `fail to do etcd txn operation: …`
    HA_FAIL_TXN_OPERATION = 42501 Ha Internal High "Check etcd and the network to it.";
    /// `meets invalid ha item: …`
    HA_INVALID_ITEM = 42502 Ha Internal High
        "Look for manual changes in etcd, and for workers and masters of different versions.";
    /// `fail to watch etcd: …`
    HA_FAIL_WATCH_ETCD = 42503 Ha Internal High "Check etcd and the network to it.";
    /// `fail to do etcd lease operation: …`
    HA_FAIL_LEASE_OPERATION = 42504 Ha Internal High "Check etcd and the network to it.";
    /// `fail to keepalive to etcd: …`
    HA_FAIL_KEEPALIVE = 42505 Ha Internal High "Check etcd and the network to it.";
    /// `failed to load persisted data`
    VALIDATOR_LOAD_PERSISTED_DATA = 43001 Validator Internal High "";
    /// `failed to persist checkpoint and data`
    VALIDATOR_PERSIST_DATA = 43002 Validator Internal High "";
    /// `failed to get event`
    VALIDATOR_GET_EVENT = 43003 Validator Internal High "";
    /// `failed to process event`
    VALIDATOR_PROCESS_EVENT = 43004 Validator Internal High "";
    /// `failed to validate row change`
    VALIDATOR_VALIDATE_CHANGE = 43005 Validator Internal High "";
    /// `validator not found for task … with source …`
    VALIDATOR_NOT_FOUND = 43006 Validator NotSet Medium "";
    /// `panic error: …`
    VALIDATOR_PANIC = 43007 Validator Internal High "";
    /// `too much pending data, stop validator. row size(curr/max): …/…, row count(curr/max): …/…`
    VALIDATOR_TOO_MUCH_PENDING = 43008 Validator Internal Medium "";
    /// The saved schema of a table is not proper JSON.
    SCHEMA_TRACKER_INVALID_JSON = 44001 SchemaTracker Downstream High "";
    /// `cannot get table info for … from schema tracker`
    SCHEMA_TRACKER_CANNOT_GET_TABLE = 44005 SchemaTracker Internal High "";
    /// `cannot track DDL: …`
    SCHEMA_TRACKER_CANNOT_EXEC_DDL = 44006 SchemaTracker Internal High "";
    /// `cannot fetch downstream table schema of … to initialize upstream schema … in schema
    /// tracker`
    SCHEMA_TRACKER_CANNOT_FETCH_DOWNSTREAM_TABLE = 44007 SchemaTracker Downstream Medium
        "Create the table in the target, or exclude it: check `routes` and `block-allow-list`.";
    /// `cannot parse downstream table schema of … to initialize upstream schema … in schema
    /// tracker`
    SCHEMA_TRACKER_CANNOT_PARSE_DOWNSTREAM_TABLE = 44008 SchemaTracker Internal High "";
    /// `the scheduler has not started`
    SCHEDULER_NOT_STARTED = 46001 Scheduler Internal High "";
    /// `dm-worker with name … already exists`
    SCHEDULER_WORKER_EXIST = 46003 Scheduler Internal Medium "";
    /// An error that no part of the system gave a code.
    NOT_SET = 50000 NotSet NotSet High "";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_sorted_and_unique() {
        assert!(ALL.is_sorted_by(|a, b| a.number < b.number));
    }
}
