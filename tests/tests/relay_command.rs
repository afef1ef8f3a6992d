//! `dm-worker relay`: recorded directories are good, whatever is missing or damaged is found, and
//! nothing that a file contains ends in a panic.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use dm_tests::{Result, process, worker};
use serde_json::Value;

const FIRST: &[u8] = include_bytes!("../../core/testdata/binlog/mysql-sample.binlog");
/// The file behind [`FIRST`]: its events end at 4, 127, 198 and 502, the last of a transaction.
const NEXT: &[u8] = include_bytes!("../../core/testdata/binlog/mysql-next.binlog");
const SESSION: &[u8] = include_bytes!("../../core/testdata/binlog/mysql-session.binlog");
const TYPES: &[u8] = include_bytes!("../../core/testdata/binlog/mysql-types.binlog");
const MARIADB: &[u8] = include_bytes!("../../core/testdata/binlog/mariadb-sample.binlog");

const UUID: &str = "0a0431f2-e6eb-11f1-beb0-02fc00000001";
const META: &str = "binlog-name = \"binlog.000005\"\nbinlog-pos = 4\nbinlog-gtid = \"\"\n";
/// Where the ROTATE of [`FIRST`] begins: all before it is whole without it.
const ROTATE_AT: usize = FIRST.len() - 44;

/// What the command did.
struct Done {
    code: Option<i32>,
    out: String,
    errors: String,
}

impl Done {
    /// # Errors
    /// It did not end so.
    fn ended(self, code: i32, says: &[&str]) -> Result<Self> {
        let Self { out, errors, .. } = &self;
        let all = format!("{out}{errors}");
        if self.code != Some(code) || all.contains("panicked") {
            return Err(format!("exit code {:?}, not {code}:\n{all}", self.code).into());
        }
        match says.iter().find(|part| !all.contains(**part)) {
            Some(part) => Err(format!("{part:?} is not in\n{all}").into()),
            None => Ok(self),
        }
    }
}

fn relay(args: &[&str]) -> Result<Done> {
    let output = Command::new(worker::binary()?)
        .arg("relay")
        .args(args)
        .output()?;
    Ok(Done {
        code: output.status.code(),
        out: String::from_utf8(output.stdout)?,
        errors: String::from_utf8(output.stderr)?,
    })
}

/// A directory with files in it, which goes away with the test.
struct Dir(PathBuf);

impl Dir {
    fn new(files: &[(&str, &[u8])]) -> Result<Self> {
        let dir = Self(process::scratch("relay")?.join("data"));
        files
            .iter()
            .try_for_each(|(name, bytes)| dir.write(name, bytes))?;
        Ok(dir)
    }

    /// The recorded one, as the existing worker has left it.
    fn recorded() -> Result<Self> {
        let dir = format!("{UUID}.000001");
        Self::new(&[
            ("server-uuid.index", format!("{dir}\n").as_bytes()),
            (&format!("{dir}/binlog.000004"), FIRST),
            (&format!("{dir}/binlog.000005"), NEXT),
            (&format!("{dir}/relay.meta"), META.as_bytes()),
        ])
    }

    /// A file in its only sub-directory.
    fn inside(&self, name: &str) -> PathBuf {
        self.0.join(format!("{UUID}.000001")).join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        Ok(fs::write(path, bytes)?)
    }

    fn path(&self) -> Result<&str> {
        text(&self.0)
    }

    fn verify(&self) -> Result<Done> {
        relay(&["verify", self.path()?])
    }
}

fn text(path: &Path) -> Result<&str> {
    Ok(path.to_str().ok_or("not UTF-8")?)
}

#[test]
fn what_the_existing_worker_left_is_good() -> Result<()> {
    let dir = Dir::recorded()?;
    let good = [
        "2 files, 19662 bytes, 63 transactions",
        "good, 0 notes",
        "0a0431f2…:187-248",
    ];
    let done = dir.verify()?.ended(0, &good)?;
    assert_eq!(
        done.out
            .lines()
            .filter(|line| line.ends_with("  ok"))
            .count(),
        2
    );

    let mariadb = Dir::new(&[
        ("server-uuid.index", b"0-3404.000001\n"),
        ("0-3404.000001/vm-bin.000002", MARIADB),
        (
            "0-3404.000001/relay.meta",
            b"binlog-name = \"vm-bin.000002\"\nbinlog-pos = 4\nbinlog-gtid = \"0-3404-4\"\n",
        ),
    ])?;
    mariadb
        .verify()?
        .ended(0, &["3 transactions", "0-3404-7", "good, 0 notes"])?;

    // A server's own directory, and a file of it.
    let plain = Dir::new(&[
        ("binlog.000004", FIRST),
        ("binlog.000005", NEXT),
        ("my.pid", b"7"),
    ])?;
    plain.verify()?.ended(0, &["2 files, 19662 bytes"])?;
    let file = plain.0.join("binlog.000004");
    relay(&["verify", text(&file)?])?.ended(0, &["1 file, 19160 bytes", "binlog.000005 is the"])?;
    Ok(())
}

/// What a worker leaves that is killed while it writes.
#[test]
fn the_newest_file_may_end_anywhere() -> Result<()> {
    let dir = Dir::recorded()?;
    let newest = dir.inside("binlog.000005");
    for len in (0..NEXT.len()).step_by(5).chain([4, 127, 198]) {
        fs::write(&newest, &NEXT[..len])?;
        let note = match len {
            0 => "it is empty",
            4 | 127 | 198 => "good, 0 notes",
            _ => "note: it ends within a transaction",
        };
        dir.verify()?
            .ended(0, &[note, "good"])
            .map_err(|error| format!("{len}: {error}"))?;
        relay(&["dump", dir.path()?])?.ended(0, &[])?;
    }
    Ok(())
}

#[test]
fn what_is_missing_at_the_end_of_an_older_file_is_named() -> Result<()> {
    let dir = Dir::recorded()?;
    let older = dir.inside("binlog.000004");
    for len in (0..ROTATE_AT).step_by(911).chain([ROTATE_AT - 1]) {
        fs::write(&older, &FIRST[..len])?;
        // Without its second event nobody knows what the first file begins with.
        let says = if len < 198 {
            "binlog.000005"
        } else {
            "248 are missing before binlog.000005"
        };
        let code = i32::from(len >= 198 || len == 0);
        dir.verify()?
            .ended(code, &[says])
            .map_err(|error| format!("{len}: {error}"))?;
    }
    fs::write(&older, &FIRST[..ROTATE_AT])?;
    let note = "binlog.000004 does not end with a ROTATE";
    dir.verify()?.ended(0, &[note, "good, 1 note"])?;
    Ok(())
}

#[test]
fn any_damaged_byte_is_found() -> Result<()> {
    let dir = Dir::recorded()?;
    for (name, bytes, step) in [("binlog.000004", FIRST, 397), ("binlog.000005", NEXT, 11)] {
        let path = dir.inside(name);
        for at in (0..bytes.len()).step_by(step) {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0x10;
            fs::write(&path, &damaged)?;
            let done = dir
                .verify()?
                .ended(1, &["code=11038", name, "Workaround: "]);
            done.map_err(|error| format!("{name} {at}: {error}"))?;
            relay(&["dump", text(&path)?])?
                .ended(1, &["code=11038", name])
                .map_err(|error| format!("{name} {at}: {error}"))?;
            relay(&["ls", dir.path()?])?;
        }
        fs::write(&path, bytes)?;
    }
    Ok(())
}

#[test]
fn files_that_are_missing_or_in_disorder_are_found() -> Result<()> {
    let dir = |files: &[(&str, &[u8])]| -> Result<Done> { Dir::new(files)?.verify() };
    dir(&[("binlog.000004", FIRST), ("binlog.000006", NEXT)])?
        .ended(1, &["code=11028", "binlog.000005 is missing", "1 problem"])?;
    dir(&[("binlog.000004", NEXT), ("binlog.000006", NEXT)])?
        .ended(1, &["between binlog.000004 and binlog.000006"])?;
    dir(&[("binlog.000004", NEXT), ("binlog.000005", FIRST)])?.ended(
        1,
        &["code=11121", "does not know of transactions", ":187-249"],
    )?;
    dir(&[("binlog.000004", b""), ("binlog.000005", NEXT)])?
        .ended(1, &["binlog.000004 is empty, and others follow"])?;
    dir(&[("binlog.000004", b"not a binlog"), ("binlog.000005", NEXT)])?.ended(1, &["11038"])?;
    Ok(())
}

#[test]
fn sub_directories_go_on_from_each_other() -> Result<()> {
    let other = "7747f834-e6f4-11f1-99f0-02fc00000001.000002";
    let dir = Dir::recorded()?;
    let index = format!("{UUID}.000001\n{other}\n");
    dir.write("server-uuid.index", index.as_bytes())?;
    dir.write(&format!("{other}/b.000007"), NEXT)?;
    dir.write(&format!("{other}/relay.meta"), b"")?;
    dir.verify()?.ended(0, &["3 files", "good, 0 notes"])?;
    fs::write(dir.inside("binlog.000004"), &FIRST[..ROTATE_AT])?;
    fs::remove_file(dir.inside("binlog.000005"))?;
    dir.verify()?.ended(1, &["code=30024", "no such file"])?;
    fs::write(dir.inside("relay.meta"), b"")?;
    dir.verify()?.ended(0, &["2 files"])?;
    fs::write(dir.inside("binlog.000004"), &FIRST[..693])?;
    let gap = ["code=11121", ":189-248 are missing before b.000007"];
    dir.verify()?.ended(1, &gap)?;

    // Not in the index; in the index only, the oldest one and the newest one.
    dir.write("server-uuid.index", format!("{UUID}.000001\n").as_bytes())?;
    dir.verify()?
        .ended(0, &["the index does not have this directory"])?;
    relay(&["ls", dir.path()?])?.ended(0, &[&format!("{other}  (not in the index)")])?;
    dir.write("server-uuid.index", format!("a.000000\n{index}").as_bytes())?;
    fs::write(dir.inside("binlog.000004"), &FIRST[..ROTATE_AT])?;
    dir.verify()?
        .ended(0, &["a.000000 is in the index only: it was removed"])?;
    relay(&["ls", dir.path()?])?.ended(0, &["a.000000  (in the index, but not there)"])?;
    fs::remove_dir_all(dir.0.join(other))?;
    dir.verify()?.ended(1, &["code=28005", other])?;
    dir.write("server-uuid.index", b"a.000001\nb.000003\n")?;
    dir.verify()?.ended(1, &["code=30001"])?;
    Ok(())
}

#[test]
fn what_stands_beside_the_files_is_looked_at() -> Result<()> {
    let dir = Dir::recorded()?;
    fs::write(dir.inside("relay.meta848724126"), b"")?;
    dir.write("server-uuid.index1234", b"")?;
    dir.verify()?
        .ended(0, &["relay.meta848724126 is a leftover", "good, 2 notes"])?;
    let meta = dir.inside("relay.meta");
    for (text, says) in [
        (META.replace("= 4", "= 503"), "code=30024"),
        (META.replace("05", "06"), "there is no such file"),
        (
            META.replace("\"\"", &format!("\"{UUID}:1-250\"")),
            ":250 were read",
        ),
        ("binlog-name".to_owned(), "code=30003"),
    ] {
        fs::write(&meta, text)?;
        dir.verify()?.ended(1, &[says, "relay.meta", "1 problem"])?;
    }
    Ok(())
}

#[test]
fn a_listing_shows_what_is_in_each_file() -> Result<()> {
    let dir = Dir::recorded()?;
    let done = relay(&["ls", dir.path()?])?.ended(0, &["2 files, 19662 bytes"])?;
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(
        lines[1],
        format!("{UUID}.000001  relay.meta: (binlog.000005, 4)")
    );
    let cells = |line: &str| -> Vec<String> {
        line.split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(
        cells(lines[2]),
        [
            "binlog.000004",
            "19160",
            "2026-11-23T03:23:52Z",
            "0a0431f2…:1-186",
            "62",
            "0a0431f2…:187-248"
        ]
    );
    assert_eq!(
        cells(lines[3])[3..],
        ["0a0431f2…:1-248", "1", "0a0431f2…:249"]
    );
    Ok(())
}

#[test]
fn events_are_shown_as_json() -> Result<()> {
    let dir = Dir::new(&[("binlog.000004", FIRST), ("binlog.000005", SESSION)])?;
    let done = relay(&["dump", dir.path()?, "--json"])?.ended(0, &[])?;
    let lines: Vec<Value> = done
        .out
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let of =
        |file: &str| -> Vec<&Value> { lines.iter().filter(|line| line["file"] == file).collect() };
    assert_eq!(of("binlog.000004").len(), 286);
    for file in ["binlog.000004", "binlog.000005"] {
        let mut end = 4;
        for line in of(file) {
            if let Some(offset) = line["offset"].as_u64() {
                assert_eq!(offset, end, "{line}");
                end += line["size"].as_u64().ok_or("no size")?;
            }
        }
    }
    let find = |key: &str, value: Value| lines.iter().find(|line| line[key] == value);
    let gtid = find("gtid", format!("{UUID}:187").into()).ok_or("no GTID")?;
    assert_eq!(
        (&gtid["type"], &gtid["offset"]),
        (&"GTID".into(), &198.into())
    );
    assert_eq!(
        (&gtid["time"], &gtid["transaction_size"]),
        (&"2026-11-23T03:23:52Z".into(), &304.into())
    );
    let rotate = find("type", "ROTATE".into()).ok_or("no ROTATE")?;
    assert_eq!(rotate["next_file"], "binlog.000005");
    // What is in a compressed transaction has no place of its own.
    let inside: Vec<&Value> = lines
        .iter()
        .filter(|line| line["offset"].is_null())
        .collect();
    assert_eq!(inside.first().ok_or("nothing inside")?["query"], "BEGIN");
    assert_eq!(inside.last().ok_or("nothing inside")?["type"], "XID");
    assert!(
        inside
            .iter()
            .any(|line| line["type"] == "WRITE_ROWS" && line["rows"].is_u64())
    );
    Ok(())
}

#[test]
fn what_is_in_a_compressed_transaction_stands_further_right() -> Result<()> {
    let dir = Dir::new(&[("binlog.000001", SESSION)])?;
    let done = relay(&["dump", dir.path()?])?.ended(0, &["  TRANSACTION_PAYLOAD  "])?;
    let inside = |line: &&str| line.starts_with(&" ".repeat(12)) && line.contains("Z    ");
    let lines = done
        .out
        .lines()
        .skip_while(|line| !line.contains("PAYLOAD"));
    assert_eq!(lines.skip(1).take_while(inside).count(), 8, "{}", done.out);
    Ok(())
}

#[test]
fn some_events_can_be_chosen() -> Result<()> {
    let dir = Dir::new(&[("binlog.000004", FIRST), ("binlog.000005", NEXT)])?;
    let file = dir.0.join("binlog.000004");
    let offsets = |args: &[&str]| -> Result<Vec<String>> {
        let done = relay(&[&["dump"], args].concat())?.ended(0, &[])?;
        let lines = done.out.lines().filter(|line| !line.starts_with('#'));
        Ok(lines
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect())
    };
    let file = text(&file)?;
    let all = ["198", "277", "352", "416", "471"];
    assert_eq!(offsets(&[file, "-from", "198", "-to", "502"])?, all);
    assert_eq!(
        offsets(&[file, "--from=binlog.000004:199", "--to=278"])?,
        ["277"]
    );
    assert_eq!(offsets(&[file, "-gtid", &format!("{UUID}:187")])?, all);
    let both = format!("{UUID}:188:249");
    let some = ["502", "579", "198", "277", "352", "416", "471"];
    assert_eq!(offsets(&[dir.path()?, "-gtid", &both])?, some);
    let (from, to) = ("(binlog.000004, 19116)", "binlog.000005:127");
    assert_eq!(
        offsets(&[dir.path()?, "-from", from, "-to", to])?,
        ["19116", "4"]
    );
    // The rows need a table map that is not shown.
    let done = relay(&["dump", file, "-from", "416", "-to", "471"])?.ended(0, &["WRITE_ROWS"])?;
    assert!(
        done.out.contains(", 1 row, end of statement"),
        "{}",
        done.out
    );
    Ok(())
}

#[test]
fn a_position_names_one_file() -> Result<()> {
    let dir = Dir::recorded()?;
    let other = "7747f834-e6f4-11f1-99f0-02fc00000001.000002";
    dir.write(
        "server-uuid.index",
        format!("{UUID}.000001\n{other}\n").as_bytes(),
    )?;
    dir.write(&format!("{other}/binlog.000005"), NEXT)?;
    let path = dir.path()?;
    let from = |at: &str| relay(&["dump", path, "-from", at]);
    from("4")?.ended(2, &["FILE:OFFSET"])?;
    from("binlog.000009:4")?.ended(2, &["there is no file binlog.000009"])?;
    from("binlog.000005:4")?.ended(2, &["in several sub-directories", "`binlog|000001.000005`"])?;
    let done = from("binlog|000002.000005:198")?.ended(0, &[])?;
    assert_eq!(
        done.out.lines().next(),
        Some(&*format!("# {other}/binlog.000005"))
    );
    assert_eq!(done.out.lines().count(), 6);
    Ok(())
}

#[test]
fn values_of_rows_are_not_shown() -> Result<()> {
    let dir = Dir::new(&[("binlog.000001", TYPES)])?;
    for json in ["-json=false", "-json"] {
        let done = relay(&["dump", dir.path()?, json])?.ended(0, &["WRITE_ROWS"])?;
        assert!(!done.out.contains("üü"), "{}", done.out);
    }
    Ok(())
}

#[test]
fn a_reader_that_has_enough_is_no_error() -> Result<()> {
    let names: Vec<String> = (1..9).map(|number| format!("b.{number:06}")).collect();
    let files: Vec<_> = names.iter().map(|name| (&**name, FIRST)).collect();
    let dir = Dir::new(&files)?;
    let mut child = Command::new(worker::binary()?)
        .args(["relay", "dump", dir.path()?])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let output = child.stdout.take().ok_or("no output")?;
    BufReader::new(output).read_line(&mut line)?;
    assert_eq!(line, "# b.000001\n");
    let output = child.wait_with_output()?;
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &[][..]));
    Ok(())
}

#[test]
fn wrong_use_is_told_from_problems() -> Result<()> {
    let empty = Dir::new(&[("my.cnf", b"")])?;
    let file = Path::new(empty.path()?).join("my.cnf");
    let file = text(&file)?;
    for (args, says) in [
        (&[][..], "code=40001"),
        (&["verify"], "code=40001"),
        (&["verify", "/no/such/dir"], "code=11024"),
        (&["ls", "/no/such/dir"], "/no/such/dir"),
        (&["dump", "/no/such/dir"], "/no/such/dir"),
        (&["verify", empty.path()?], "code=11028"),
        (&["verify", file], "my.cnf is no binlog file"),
        (&["dump", file], "my.cnf is no binlog file"),
        (
            &["dump", empty.path()?, "-rows"],
            "allowed: -from, -to, -gtid, -json",
        ),
    ] {
        relay(args)?.ended(2, &[says, "Workaround: "])?;
    }
    // The data directory of a worker, and what is called `relay-dir` in it.
    let data = Dir::new(&[])?;
    let logs = Path::new(data.path()?).join("relay-dir");
    fs::create_dir_all(logs.join("shop"))?;
    fs::write(logs.join("shop/server-uuid.index"), "")?;
    for dir in [data.path()?, &logs.display().to_string()] {
        relay(&["ls", dir])?.ended(2, &["/relay-dir/shop."])?;
    }
    Ok(())
}
