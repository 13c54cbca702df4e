//! Files that are whole or not there: written under a temporary name, synced, renamed. What is in them is decided by
//! the callers; records, which grow line by line, are written in `record`.

use crate::{Error, Kind, Result};
use std::io::Write;
use std::path::Path;

/// Writes `bytes` to `path` so that a reader sees the old content or the new one, never a part. Missing folders are made.
///
/// # Errors
/// When the disk is full or the place cannot be written; what was at `path` is then still there.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let failed = |source: &std::io::Error| Error::io("cannot write the file", path, source);
    std::fs::create_dir_all(folder).map_err(|source| failed(&source))?;
    let mut temporary = tempfile::Builder::new()
        .prefix(".partial-")
        .permissions_like_new_file()
        .tempfile_in(folder)
        .map_err(|source| failed(&source))?;
    temporary
        .write_all(bytes)
        .and_then(|()| temporary.as_file().sync_all())
        .map_err(|source| failed(&source))?;
    temporary.persist(path).map_err(|source| failed(&source.error))?;
    sync_folder(folder);
    Ok(())
}

/// Makes a rename inside a folder durable, where the file system lets a folder be synced; some refuse it, and the data
/// itself is synced already. The empty path is the current folder.
pub fn sync_folder(folder: &Path) {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if let Ok(opened) = std::fs::File::open(folder) {
        let _ = opened.sync_all();
    }
}

/// Temporary files are private by default; a report or record is an ordinary file, readable as the umask allows.
trait OrdinaryPermissions {
    fn permissions_like_new_file(&mut self) -> &mut Self;
}

impl OrdinaryPermissions for tempfile::Builder<'_, '_> {
    #[cfg(unix)]
    fn permissions_like_new_file(&mut self) -> &mut Self {
        use std::os::unix::fs::PermissionsExt;
        // The system takes the umask off these bits when it makes the file.
        self.permissions(std::fs::Permissions::from_mode(0o666))
    }

    #[cfg(not(unix))]
    fn permissions_like_new_file(&mut self) -> &mut Self {
        self
    }
}

/// Reads a text file that must be UTF-8.
///
/// # Errors
/// When it cannot be read, or is not UTF-8 (with the line of the first bad byte).
pub fn read_text(path: &Path, what: &str) -> Result<String> {
    let bytes =
        std::fs::read(path).map_err(|source| Error::io(format!("cannot read the {what}"), path, &source))?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..good].iter().filter(|&&byte| byte == b'\n').count();
        Error::new(Kind::Data, format!("the {what} is not UTF-8 text"))
            .at(format!("{}:{line}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_folders_are_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/report.html");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named_and_bad_bytes_have_a_line() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), b"ok\nx\xff").unwrap();
        let error = write_atomic(&folder.path().join("file/under"), b"x").unwrap_err();
        assert_eq!(error.kind(), Kind::System);
        let error = read_text(&folder.path().join("file"), "task file").unwrap_err();
        assert!(error.to_string().contains("file:2"), "{error}");
        assert!(read_text(&folder.path().join("none"), "task file").is_err());
    }
}
