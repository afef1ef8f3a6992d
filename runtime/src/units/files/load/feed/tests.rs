use std::fs;

use dm_core::full::gaps;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::{disk::LocalDisk, memory::Memory};

/// A directory with one file of rows for `d.t`, and what is known of it.
async fn loading(dir: &TempDir, text: &str) -> Arc<Shared<LocalDisk>> {
    fs::write(dir.path().join("d.t.0.sql"), text).unwrap();
    let dir = DumpDir {
        disk: LocalDisk,
        path: dir.path().to_owned(),
    };
    let name = TableName::new("d", "t");
    let files = dir.contents().await.unwrap().tables.remove(&name);
    let table = LoadTable {
        target: name.clone(),
        name,
        verb: "INSERT",
        tail: String::new(),
        loading: Loading::default(),
        columns: Some(vec![b"k".to_vec(), b"v".to_vec()]),
        time_zone: "+00:00".to_owned(),
        files: files.unwrap().data,
    };
    Arc::new(Shared {
        dir,
        room: 64 << 20,
        tables: vec![table],
    })
}

/// What becomes of a gap.
async fn pieces(shared: &Arc<Shared<LocalDisk>>, gap: Gap) -> Vec<Parcel> {
    let (parcels, mut sent) = mpsc::channel(1000);
    let memory = Memory::default();
    let out = Out::new(parcels, &memory.large_rows(), memory, 4);
    let mut feed = FileFeed(Arc::clone(shared));
    let read = async {
        feed.read(0, gap, &out).await.unwrap();
        drop(out);
    };
    let mut all = Vec::new();
    let write = async {
        while let Some(parcel) = sent.recv().await {
            // Written: its memory is for others.
            all.push(Parcel {
                large: None,
                ..parcel
            });
        }
    };
    tokio::join!(read, write);
    all
}

fn all() -> Gap {
    gaps(&TableName::new("d", "t"), Vec::new())
        .unwrap()
        .remove(0)
}

/// A statement with so many rows of a megabyte each.
fn large(rows: usize, from: usize) -> String {
    let row = |number: usize| format!("({},'{}')", from + number, "x".repeat(1 << 20));
    let rows: Vec<_> = (0..rows).map(row).collect();
    format!("INSERT INTO `t` VALUES {};\n", rows.join(",\n"))
}

/// Wherever a load ends, what is noted tells what is missing: also where it ends once more while
/// it looks for the place where it goes on.
#[tokio::test]
async fn what_was_loaded_is_passed_over() {
    let dir = TempDir::new().unwrap();
    let text = [large(3, 0), large(3, 3), large(1, 6)].concat();
    let shared = loading(&dir, &text).await;
    let mut rows = 0;
    for piece in pieces(&shared, all()).await {
        assert!(piece.rows > 0 || piece.is_last);
        rows += piece.rows;
        // It has what came before it.
        let left = gaps(&TableName::new("d", "t"), vec![piece.copied]).unwrap();
        let mut count = rows;
        for gap in left {
            // What comes is what a load that goes on says is missing.
            let mut bytes = shared.tables[0].left(&gap.piece);
            assert!(bytes < text.len() as u64, "behind {rows} rows");
            for piece in pieces(&shared, gap).await {
                assert!(piece.rows > 0 || piece.is_last, "behind {rows} rows");
                count += piece.rows;
                bytes -= piece.bytes;
            }
            assert_eq!(bytes, 0, "behind {rows} rows");
        }
        assert_eq!(count, 7, "behind {rows} rows");
    }
    assert_eq!(rows, 7);
}

/// Rows with other columns begin another statement, also where there is no room for a cut.
#[tokio::test]
async fn each_row_stands_below_its_columns() {
    let dir = TempDir::new().unwrap();
    let text = "INSERT INTO `t` (`a`) VALUES (1);\nINSERT INTO `t` (`b`) VALUES (2),(3);\n\
                INSERT INTO `t` VALUES (4,5);\nINSERT INTO `t` VALUES (6,7,DEFAULT);\n";
    let shared = loading(&dir, text).await;
    let free: Vec<_> = pieces(&shared, all()).await;
    assert_eq!(
        free.iter().map(|it| it.rows).collect::<Vec<_>>(),
        [1, 2, 1, 1]
    );
    let behind = Copied {
        number: 2,
        piece: Piece {
            after: Some(place("d.t.0.sql", 1000)),
            upto: None,
        },
    };
    let gap = gaps(&TableName::new("d", "t"), vec![behind])
        .unwrap()
        .remove(0);
    let narrow = pieces(&shared, gap).await;
    let text: String = narrow
        .iter()
        .map(|it| String::from_utf8_lossy(&it.sql).into_owned())
        .collect();
    assert_eq!(narrow.len(), 1, "{text}");
    let (first, rest) = text.split_once(" (`b`) VALUES\n(2),(3)").unwrap();
    assert!(first.contains(" (`a`) VALUES\n(1);SET NAMES"), "{text}");
    // Those of the definition, where a statement names none and has values for these.
    let (second, third) = rest.split_once(" (`k`,`v`) VALUES\n(4,5)").unwrap();
    assert!(second.starts_with(";SET NAMES"), "{text}");
    assert!(third.starts_with(";SET NAMES"), "{text}");
    assert!(third.contains("`t` VALUES\n(6,7,DEFAULT);"), "{text}");
}
