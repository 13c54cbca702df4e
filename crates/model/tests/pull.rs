//! Pulling from sources that serve local bytes: right ones, wrong ones, torn ones, and two pulls at once.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests may panic, and say what was left out"
)]

use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use underdog_eval::{Error, Kind};
use underdog_model::catalogue::{Cache, Entry, File};
use underdog_model::pull::{Fetched, Progress, Pulled, Silent, Sink, Source, Trouble, pull_from};

/// A source that serves these bytes for every file and counts how often it was asked.
struct Fake {
    name: &'static str,
    bytes: Vec<u8>,
    /// Breaks off after the bytes.
    breaks: bool,
    pause: std::time::Duration,
    asked: AtomicUsize,
}

fn fake(name: &'static str, bytes: &[u8]) -> Fake {
    Fake {
        name,
        bytes: bytes.to_vec(),
        breaks: false,
        pause: std::time::Duration::ZERO,
        asked: AtomicUsize::new(0),
    }
}

impl Fake {
    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Source for Fake {
    fn name(&self) -> String {
        self.name.to_string()
    }

    fn fetch(&self, _file: &File, folder: &Path, sink: &mut Sink<'_>, progress: &dyn Progress) -> Fetched {
        self.asked.fetch_add(1, Ordering::SeqCst);
        std::fs::write(folder.join("kept"), "x").unwrap();
        std::thread::sleep(self.pause);
        sink.copy(&mut self.bytes.as_slice(), progress)?;
        if self.breaks { sink.copy(&mut Broken, progress) } else { Ok(()) }
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "connection lost"))
    }
}

#[derive(Default)]
struct Notes(RefCell<Vec<String>>);

impl Progress for Notes {
    fn note(&self, line: &str) {
        self.0.borrow_mut().push(line.to_string());
    }
}

const RIGHT: &[u8] = b"the right bytes";

/// An entry of one file per name, all with [`RIGHT`] as their bytes.
fn entry(names: &[&'static str]) -> Entry {
    let sha256: String = Sha256::digest(RIGHT).iter().map(|byte| format!("{byte:02x}")).collect();
    let sha256: &'static str = sha256.leak();
    let files: Vec<File> = names
        .iter()
        .map(|name| File { name, sha256, bytes: RIGHT.len() as u64, hub: &[], parts: &[] })
        .collect();
    Entry { name: "fake", summary: "", files: files.leak(), licence: "", notes: "" }
}

fn pulled(cache: &Cache, sources: &[&dyn Source]) -> Result<Pulled, Error> {
    pull_from(&entry(&["model.gguf"]), cache, sources, &Silent)
}

/// The files below the cache, the lock file left out.
fn files(cache: &Cache) -> Vec<String> {
    let Ok(items) = std::fs::read_dir(cache.root().join("fake")) else { return Vec::new() };
    let mut names: Vec<String> = items.map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != ".lock");
    names.sort();
    names
}

#[test]
fn the_first_source_with_the_right_bytes_is_taken_and_then_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path());
    let (first, second) = (fake("first", RIGHT), fake("second", RIGHT));
    let done = pulled(&cache, &[&first, &second]).unwrap();
    assert_eq!((done.source.as_str(), done.fetched_bytes), ("first", RIGHT.len() as u64));
    assert_eq!(std::fs::read(&done.path).unwrap(), RIGHT);
    assert_eq!(files(&cache), ["model.gguf"]);
    assert_eq!(cache.path_of(&entry(&["model.gguf"])), Some(done.path.clone()));
    let again = pulled(&cache, &[&first, &second]).unwrap();
    assert_eq!(again, Pulled { path: done.path, source: "cache".to_string(), fetched_bytes: 0 });
    assert_eq!((first.asked(), second.asked()), (1, 0));
}

#[test]
fn other_bytes_too_few_and_too_many_are_passed_over_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path());
    let wrong = fake("wrong", b"the wrong bytes");
    let short = fake("short", &RIGHT[..4]);
    let long = fake("long", b"the right bytes and more");
    let mut torn = fake("torn", &RIGHT[..5]);
    torn.breaks = true;
    let right = fake("right", RIGHT);
    let notes = Notes::default();
    let sources: [&dyn Source; 5] = [&wrong, &short, &long, &torn, &right];
    let done = pull_from(&entry(&["model.gguf"]), &cache, &sources, &notes).unwrap();
    assert_eq!(done.source, "right");
    let notes = notes.0.into_inner();
    for (note, reason) in notes.iter().zip([
        "wrong has other bytes (sha256 ",
        "short has 4 of 15",
        "long has more than",
        "torn broke off after 5",
    ]) {
        assert!(note.contains(reason), "{note:?} should say {reason:?}");
    }
    assert_eq!(notes.len(), 4);
}

#[test]
fn when_every_source_fails_each_is_named_and_nothing_is_left_under_the_final_name() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path());
    let wrong = fake("wrong", b"the wrong bytes");
    let mut torn = fake("torn", &RIGHT[..5]);
    torn.breaks = true;
    let error = pulled(&cache, &[&wrong, &torn]).err().unwrap();
    assert_eq!(error.kind(), Kind::System);
    let found = error.facts().found.clone().unwrap();
    assert!(
        found.contains("wrong: has other bytes")
            && found.contains("torn: broke off after 5 bytes: connection lost"),
        "{found}"
    );
    assert!(error.facts().hint.is_some());
    // What sources keep for the next try stays; of the file itself there is no trace.
    assert_eq!(files(&cache), [".downloads"]);
    pulled(&cache, &[&fake("right", RIGHT)]).unwrap();
    assert_eq!(files(&cache), ["model.gguf"]);
}

#[test]
fn a_failing_disk_ends_the_pull_at_once() {
    struct Full;
    impl Source for Full {
        fn name(&self) -> String {
            "full".to_string()
        }
        fn fetch(&self, _: &File, folder: &Path, _: &mut Sink<'_>, _: &dyn Progress) -> Fetched {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            Err(Trouble::Stop(Error::io("a wheel cannot be written", folder, &full)))
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let right = fake("right", RIGHT);
    let error = pulled(&Cache::at(folder.path()), &[&Full, &right]).err().unwrap();
    assert!(error.facts().hint.as_deref().unwrap().contains("make room"));
    assert_eq!(right.asked(), 0);
}

#[test]
fn damaged_bytes_in_the_cache_are_pulled_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path());
    let right = fake("right", RIGHT);
    let path = pulled(&cache, &[&right]).unwrap().path;
    std::fs::write(&path, b"the wrong bytes").unwrap();
    assert_eq!(pulled(&cache, &[&right]).unwrap().source, "right");
    assert_eq!(std::fs::read(&path).unwrap(), RIGHT);
}

#[test]
fn an_entry_of_several_files_is_a_directory_and_goes_on_where_it_broke_off() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path());
    let several = entry(&["a.bin", "sub/b.bin"]);
    std::fs::create_dir_all(cache.folder(&several)).unwrap();
    std::fs::write(cache.place(&several, &several.files[0]), RIGHT).unwrap();
    assert_eq!(cache.path_of(&several), None);
    let right = fake("right", RIGHT);
    let done = pull_from(&several, &cache, &[&right], &Silent).unwrap();
    assert_eq!((done.path, right.asked()), (cache.folder(&several), 1));
    assert_eq!(std::fs::read(folder.path().join("fake").join("sub").join("b.bin")).unwrap(), RIGHT);
    assert!(cache.path_of(&several).is_some());
}

#[test]
fn a_pull_that_is_to_end_asks_no_other_source_and_leaves_nothing_torn() {
    struct Stopped;
    impl Progress for Stopped {
        fn stopped(&self) -> bool {
            true
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path());
    let (first, second) = (fake("first", RIGHT), fake("second", RIGHT));
    let stopped = pull_from(&entry(&["model.gguf"]), &cache, &[&first, &second], &Stopped).unwrap_err();
    assert_eq!(stopped.kind(), Kind::Stopped, "{stopped}");
    assert_eq!((first.asked(), second.asked()), (1, 0));
    assert_eq!(files(&cache), [".downloads"], "what a source keeps stays for the next pull");
    assert_eq!(pulled(&cache, &[&second]).unwrap().source, "second");
}

#[test]
fn of_two_pulls_at_once_one_works_and_the_other_waits() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path());
    let mut slow = fake("slow", RIGHT);
    slow.pause = std::time::Duration::from_millis(300);
    std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..3).map(|_| scope.spawn(|| pulled(&cache, &[&slow]).unwrap())).collect();
        let mut sources: Vec<String> = pulls.into_iter().map(|pull| pull.join().unwrap().source).collect();
        sources.sort();
        assert_eq!(sources, ["cache", "cache", "slow"]);
    });
    assert_eq!(slow.asked(), 1);
}
