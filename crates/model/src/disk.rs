//! Writing a folder so that nothing half ever stands under its name: a temporary name beside it, sync, rename. Single
//! files are `underdog_eval::files`'.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use underdog_eval::files::sync_folder;
use underdog_eval::{Error, Kind, Result};

fn partial(path: &Path) -> PathBuf {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{}.partial", std::process::id()))
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Writes a new directory with these files.
///
/// # Errors
/// When the directory exists already, or what the file system says; nothing stands under the name then.
pub fn write_directory(path: &Path, files: &[(&str, Vec<u8>)]) -> Result<()> {
    if path.exists() {
        return Err(Error::new(Kind::System, "the folder exists already").at(path.display().to_string()));
    }
    let temporary = partial(path);
    let write = || -> std::io::Result<()> {
        // What a killed process of the same number left behind is of no use to anyone.
        let _ = fs::remove_dir_all(&temporary);
        fs::create_dir_all(&temporary)?;
        for (name, bytes) in files {
            write_synced(&temporary.join(name), bytes)?;
        }
        sync_folder(&temporary);
        fs::rename(&temporary, path)
    };
    write().map_err(|e| {
        let _ = fs::remove_dir_all(&temporary);
        Error::io("cannot write the folder", path, &e)
    })?;
    sync_folder(path.parent().unwrap_or(Path::new("")));
    Ok(())
}
