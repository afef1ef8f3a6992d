//! Dump files: a subtask that has a directory for them reads its source's tables into files there,
//! or writes into the target what it finds there.

mod dir;
mod dump;
mod load;
mod statements;
mod unpack;

use std::path::PathBuf;

use dm_core::{
    control::{
        SubtaskConfig,
        check::invalid,
        subtask::{LoadConfig, Mode},
    },
    error::Result,
};

/// Where the dump files of a subtask are. Nothing if its rows go straight into the target: its mode
/// has both a dump and a load, and nobody has named a directory.
///
/// # Errors
/// 20900: the directory is not on this machine.
pub(crate) fn directory(task: &SubtaskConfig) -> Result<Option<PathBuf>> {
    let dir = &task.load.dir;
    let mode = Mode::parse(&task.mode);
    // It has the task's name behind it by now, unless the configuration was never adjusted.
    let usual = LoadConfig::standard().dir;
    let is_usual = *dir == usual || *dir == format!("{usual}.{}", task.name);
    let needs_files = mode.is_some_and(|mode| mode.has_dump() != mode.has_load());
    let moves_rows = mode.is_some_and(|mode| mode.has_dump() || mode.has_load());
    if !moves_rows || is_usual && !needs_files {
        return Ok(None);
    }
    let path = match dir.split_once("://") {
        Some(("file" | "local", path)) => path,
        Some(_) => {
            let why = "must be a directory of this machine; other storage is not supported";
            return Err(invalid("loaders: dir", why));
        }
        None => dir,
    };
    if path.is_empty() {
        return Err(invalid("loaders: dir", "must not be empty"));
    }
    Ok(Some(PathBuf::from(path)))
}

/// Whether a directory has a complete dump, as far as the names of its files and `metadata` tell.
/// Asked before the start, which simulations have no part in.
///
/// # Errors
/// 11001: it has none. 34019: it can't be read.
#[cfg(not(madsim))]
pub(crate) async fn look_into(path: PathBuf, flavor: dm_core::binlog::Flavor) -> Result<()> {
    let disk = crate::disk::LocalDisk;
    let dir = dir::DumpDir { disk, path };
    dir.metadata(flavor).await?;
    dir.contents().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_named_is_used() {
        let of = |mode: &str, dir: &str| {
            let mut task = SubtaskConfig {
                name: "t".into(),
                mode: mode.into(),
                ..SubtaskConfig::default()
            };
            task.load.dir = dir.into();
            directory(&task).map_err(|error| error.message)
        };
        let usual = "./dumped_data";
        for mode in ["all", "full", "incremental"] {
            assert_eq!(of(mode, "./dumped_data.t"), Ok(None), "{mode}");
        }
        for mode in ["dump", "load", "load&sync"] {
            assert_eq!(of(mode, usual), Ok(Some(usual.into())), "{mode}");
        }
        for named in ["/a.t", "./dumped_data_of_all.t", "./dumped_data/t.t"] {
            assert_eq!(of("all", named), Ok(Some(named.into())));
        }
        assert_eq!(of("full", "file:///a.t"), Ok(Some("/a.t".into())));
        assert_eq!(of("incremental", "/a"), Ok(None));
        assert!(of("all", "s3://a/t").is_err());
        assert!(of("load", "").is_err());
    }
}
