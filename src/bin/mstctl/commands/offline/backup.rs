//! Writes a backup of a folder.

use std::{fs, path::Path};

use zenoh_backend_mst::{
    backup::{BackupWriter, Header, MAX_MISSING},
    store::{CellStore as _, DurableStore, Owner},
    sync::Group,
};

use super::folder::{Loaded, load, open};
use crate::{
    args::Backup,
    commands::{Context, backup, restore::backup_error},
    exit::{Answer, Error, file_error},
    files::{Unfinished, is_standard},
    progress::Progress,
};

/// Backs a folder up.
pub(super) fn backup(context: &Context, dir: &Path, args: &Backup) -> Result<Answer, Error> {
    let owner = Owner::read(dir)?;
    let (key_expr, strip_prefix) = match (&context.global.storage, owner) {
        (Some(key_expr), _) => (key_expr.clone(), args.strip_prefix.clone()),
        (None, _) if args.strip_prefix.is_some() => {
            return Err(Error::Usage(
                "--strip-prefix goes with the storage's key expression, -s".to_owned(),
            ));
        }
        (
            None,
            Some(Owner {
                key_expr,
                strip_prefix,
            }),
        ) => (
            key_expr.to_string(),
            strip_prefix.map(|prefix| prefix.to_string()),
        ),
        (None, None) => return Err(Error::Usage(
            "the folder does not say whose it is: give the storage's key expression with -s, and \
                 what it takes off its keys with --strip-prefix"
                .to_owned(),
        )),
    };
    if is_standard(&args.file) {
        return Err(Error::Usage(
            "with --dir a backup goes to a file, not to `-`".to_owned(),
        ));
    }
    let store = open(dir)?;
    let mut loaded = load(&store)?;
    let group = Group {
        key_expr: key_expr.clone(),
        strip_prefix: strip_prefix.clone(),
    };
    let missing = take_damaged(&store, &mut loaded, &group)?;
    let header = Header {
        key_expr,
        strip_prefix,
        missing,
        cut: loaded.latest.saturating_add(1),
        root: loaded.root(),
        cells: loaded.entries.len() as u64,
        // What its router was told, and not its data.
        rules: String::new(),
        replica: None,
        storage: dir.file_name().unwrap_or_default().to_string_lossy().into(),
    };
    let mut file = Unfinished::create(&args.file, args.force)?;
    write(&store, &loaded, &header, &mut file, &args.file)?;
    let header = backup::complete(file, &args.file)?;
    let bytes = fs::metadata(&args.file).map_err(file_error("read", &args.file))?;
    backup::said(context.output, &args.file, &header, bytes.len(), None)
}

/// Takes out what cannot be read, and returns the keys of that and of what is in quarantine.
pub(super) fn take_damaged(
    store: &DurableStore,
    loaded: &mut Loaded,
    group: &Group,
) -> Result<Vec<String>, Error> {
    let (progress, all) = (Progress::new("reading"), loaded.entries.len() as u64);
    let (mut read, mut damaged, mut failure) = (0, Vec::new(), None);
    loaded.entries.retain(|(key, version)| {
        read += 1;
        progress.set(read, Some(all));
        match store.read(key, *version) {
            Ok(Some(_)) => true,
            Err(error) if !error.is_damage() => {
                failure.get_or_insert(error);
                true
            }
            _ => {
                damaged.push(key.clone());
                false
            }
        }
    });
    if let Some(error) = failure {
        return Err(error.into());
    }
    let quarantined = loaded.quarantined.iter().map(|(key, _)| key);
    let lost = damaged.iter().chain(quarantined);
    let mut keys: Vec<_> = lost
        .filter_map(|key| group.full_key(&key.key))
        .take(MAX_MISSING)
        .collect();
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

pub(super) fn write(
    store: &DurableStore,
    loaded: &Loaded,
    header: &Header,
    file: &mut Unfinished,
    path: &Path,
) -> Result<(), Error> {
    let damaged = backup_error(path);
    let progress = Progress::new("backing up");
    let mut writer = BackupWriter::new(file, header).map_err(&damaged)?;
    for (done, (key, version)) in loaded.entries.iter().enumerate() {
        let cell = store.read(key, *version)?;
        let cell = cell.ok_or_else(|| Error::Place {
            path: path.to_owned(),
            problem: format!("it was not made: the value of `{}` is gone", key.key),
        })?;
        writer.push(key, version, &cell).map_err(&damaged)?;
        progress.set(done as u64 + 1, Some(header.cells));
    }
    writer.finish().map_err(&damaged)?;
    Ok(())
}
