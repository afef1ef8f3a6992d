//! Prints the rows of a binlog file as SQL, or measures how fast they are decoded and rendered.
//!
//! `cargo run --release -p dm-core --example binlog_rows -- [--mariadb] [--into S] [--time] FILE`
//!
//! With `--into`, complete INSERT statements for tables of the same names in schema S. Compressed
//! transactions are skipped.

use std::{env, error::Error, fs, io::Write, time::Instant};

use bytes::Bytes;
use dm_core::binlog::{
    ColumnHint, Decoder, Dialect, Event, Flavor, Header, RowImage, TableMap, write_literal,
};

/// Decoding the file is repeated for at least this long when measuring.
const SECONDS_MIN: f64 = 3.0;

/// Every binlog file starts with these bytes.
const MAGIC: &[u8] = b"\xfebin";

fn main() -> Result<(), Box<dyn Error>> {
    let mut flavor = Flavor::Mysql;
    let (mut into, mut file, mut time) = (None, None, false);
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--mariadb" => flavor = Flavor::Mariadb,
            "--into" => into = args.next(),
            "--time" => time = true,
            _ => file = Some(arg),
        }
    }
    let data = Bytes::from(fs::read(file.ok_or("no file given")?)?);
    if !data.starts_with(MAGIC) {
        return Err("not a binlog file".into());
    }
    let mut sql = Vec::new();
    if time {
        return measure(flavor, &data, &mut sql);
    }
    render(flavor, &data, into.as_deref(), &mut sql, usize::MAX)?;
    std::io::stdout().write_all(&sql)?;
    Ok(())
}

/// Prints the speed of the fastest pass over the file: other processes only ever add time.
fn measure(flavor: Flavor, data: &Bytes, sql: &mut Vec<u8>) -> Result<(), Box<dyn Error>> {
    let (start, mut images, mut best) = (Instant::now(), 0, f64::MAX);
    while start.elapsed().as_secs_f64() < SECONDS_MIN {
        let pass = Instant::now();
        images = render(flavor, data, None, sql, 1 << 20)?;
        best = best.min(pass.elapsed().as_secs_f64());
        sql.clear();
    }
    println!(
        "{:.0} ns per image, {:.2} M images/s, {:.0} MB/s of binlog",
        best * 1e9 / images as f64,
        images as f64 / best / 1e6,
        data.len() as f64 / best / 1e6,
    );
    Ok(())
}

/// Renders every image of a file; the output starts over when it gets larger than `keep_max`.
fn render(
    flavor: Flavor,
    data: &Bytes,
    into: Option<&str>,
    sql: &mut Vec<u8>,
    keep_max: usize,
) -> Result<usize, Box<dyn Error>> {
    let hint = ColumnHint {
        dialect: match flavor {
            Flavor::Mysql => Dialect::MySql,
            Flavor::Mariadb => Dialect::MariaDb,
        },
        ..ColumnHint::default()
    };
    let mut decoder = Decoder::new(flavor);
    let mut rest = data.slice(MAGIC.len()..);
    let mut images = 0;
    while !rest.is_empty() {
        let len = Header::peek(&rest)?.event_size as usize;
        let frame = decoder.frame(rest.split_to(len.min(rest.len())))?;
        let Event::Rows(event) = decoder.event(&frame)? else {
            continue;
        };
        for change in event.rows() {
            let change = change?;
            for image in [change.before, change.after].iter().flatten() {
                if sql.len() > keep_max {
                    sql.clear();
                }
                write_row(sql, &event.table, &hint, image, into)?;
                images += 1;
            }
        }
    }
    Ok(images)
}

fn write_row(
    sql: &mut Vec<u8>,
    table: &TableMap,
    hint: &ColumnHint,
    image: &RowImage,
    into: Option<&str>,
) -> Result<(), Box<dyn Error>> {
    if let Some(schema) = into {
        write!(sql, "INSERT INTO `{schema}`.`{}` VALUES ", table.table)?;
    }
    sql.push(b'(');
    for (index, column) in table.columns.iter().enumerate() {
        if index > 0 {
            sql.push(b',');
        }
        match image.column(index) {
            Some(raw) => write_literal(sql, column, hint, raw)?,
            None => sql.extend_from_slice(b"NULL"),
        }
    }
    sql.extend_from_slice(b");\n");
    Ok(())
}
