//! Runs one measurement with the program and keeps its summary. What is kept already is not measured again; what was cut
//! off goes on where it stood.

use super::replace;
use super::settings::Measurement;
use super::summary::Summary;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The program: the one named, else the one beside this tool.
///
/// # Errors
/// When it is not there.
pub fn program(named: Option<&Path>) -> Result<PathBuf, String> {
    let program = match named {
        Some(path) => path.to_path_buf(),
        None => std::env::current_exe()
            .map_err(|error| format!("cannot tell where this tool lies: {error}"))?
            .with_file_name(format!("underdog{}", std::env::consts::EXE_SUFFIX)),
    };
    // Commands run in the root of the repository, where a relative path may mean something else.
    program.canonicalize().map_err(|error| {
        format!("{}: {error}; build it with `cargo build --release`, or --underdog PATH", program.display())
    })
}

/// Measures unless there is a summary already; gives whether it did.
///
/// # Errors
/// When the program fails or its report lacks something.
pub fn measure(root: &Path, underdog: &Path, measurement: &Measurement) -> Result<bool, String> {
    let kept = root.join(measurement.path());
    if kept.exists() {
        println!("{}: kept already, remove {} to measure again", measurement.name(), measurement.path());
        return Ok(false);
    }
    let out = format!("underdog-runs/results/{}", measurement.name());
    let mut words = measurement.words();
    words.extend(["--out".into(), out.clone()]);
    let begun = root.join(&out).exists();
    if begun {
        words.push("--resume".into());
    }
    println!("underdog {}", words.join(" "));
    let commit = commit(root)?;
    let started = Instant::now();
    let status = Command::new(underdog)
        .args(&words)
        .current_dir(root)
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("{} does not start: {error}", underdog.display()))?;
    if !status.success() {
        return Err(format!("underdog failed: {status}; the same command goes on where it stood"));
    }
    // The wall time of a run in several parts is not known.
    let seconds = (!begun).then(|| started.elapsed().as_secs_f64());
    let report = root.join(&out).join("report.json");
    let text = std::fs::read_to_string(&report).map_err(|error| format!("{}: {error}", report.display()))?;
    let summary = Summary::of_report(&text, measurement, &commit, seconds)
        .map_err(|fault| format!("{}: {fault}", report.display()))?;
    if let Some(folder) = kept.parent() {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    replace(&kept, &summary.to_text())?;
    Ok(true)
}

/// The commit of the work tree, with a mark when files differ from it.
fn commit(root: &Path) -> Result<String, String> {
    let git = |words: &[&str]| {
        let output = Command::new("git")
            .args(words)
            .current_dir(root)
            .output()
            .map_err(|error| format!("git does not run: {error}"))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_string()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_string()),
        }
    };
    let head = git(&["rev-parse", "--short=12", "HEAD"])?;
    // What the page and the summaries hold does not change what is measured.
    let changes = git(&["status", "--porcelain", "--", ":!bench/results", ":!docs"])?;
    Ok(if changes.is_empty() { head } else { format!("{head} with changes") })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::results::settings::tests::one;
    use std::os::unix::fs::PermissionsExt;

    /// A repository with a program that says what it was called with and copies a report, or fails the first time.
    fn repository(name: &str, script: &str) -> (PathBuf, PathBuf) {
        let root = std::env::temp_dir().join(format!("xtask-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&root).expect("a temporary folder can be written");
        let git = |words: &[&str]| {
            let identity = ["-c", "user.name=t", "-c", "user.email=t@t"];
            let status = Command::new("git")
                .args(identity)
                .args(words)
                .current_dir(&root)
                .status()
                .expect("a temporary folder can be written");
            assert!(status.success());
        };
        git(&["init", "-q"]);
        git(&["commit", "-q", "--allow-empty", "-m", "first"]);
        let program = root.join("underdog");
        std::fs::write(&program, format!("#!/bin/sh\necho \"$@\" >> calls\n{script}"))
            .expect("a temporary folder can be written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))
            .expect("a temporary folder can be written");
        (root, program)
    }

    #[test]
    fn a_measurement_is_made_once_and_goes_on_where_it_was_cut_off() {
        let report = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/eval/tests/data/report.v3.json");
        let script = format!(
            "o=underdog-runs/results/t+m\ntest -d $o || {{ mkdir -p $o; exit 130; }}\ncp {report} $o/report.json\n"
        );
        let (root, program) = repository("measure", &script);
        let measurement = one("task = \"t\"\nmodel = \"m\"\nlimit = 9").unwrap();
        let first = measure(&root, &program, &measurement).unwrap_err();
        assert!(first.contains("underdog failed"), "{first}");
        assert_eq!(measure(&root, &program, &measurement), Ok(true));
        assert_eq!(measure(&root, &program, &measurement), Ok(false), "it is kept");
        let call = "run tasks/t --model m --limit 9 --out underdog-runs/results/t+m";
        let calls = std::fs::read_to_string(root.join("calls")).unwrap();
        assert_eq!(calls, format!("{call}\n{call} --resume\n"));
        let kept = std::fs::read_to_string(root.join("bench/results/t+m.json")).unwrap();
        let summary = Summary::parse(&kept).unwrap();
        assert!(summary.is_of(&measurement) && summary.text("commit").ends_with("with changes"));
        assert_eq!(summary.seconds(), None, "the time of the part that was cut off is not known");
        std::fs::remove_dir_all(&root).unwrap();
    }
}
