//! Which folder a run writes to: `underdog-runs/TASK/VERB-NNN` under the current folder, or the one in `--out`.

use crate::arguments::FolderArguments;
use std::path::{Path, PathBuf};
use underdog_eval::{Error, Kind, Result};

const ROOT: &str = "underdog-runs";

/// The folder of a new or a resumed run, made if need be.
///
/// # Errors
/// `--resume` with nothing to resume, a folder that holds a run already, or what the file system says.
pub fn resolve(arguments: &FolderArguments, task: &str, verb: &str) -> Result<PathBuf> {
    let folder = match &arguments.out {
        Some(folder) => folder.clone(),
        None if arguments.resume => newest(&Path::new(ROOT).join(plain(task)), verb)?,
        None => return next(&Path::new(ROOT).join(plain(task)), verb),
    };
    if !arguments.resume && std::fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::new(Kind::Usage, "the output folder is not empty")
            .at(folder.display().to_string())
            .hint("go on with the run in it with --resume, or name another folder with --out"));
    }
    std::fs::create_dir_all(&folder).map_err(|e| Error::io("cannot make the output folder", &folder, &e))?;
    Ok(folder)
}

/// The name of a task as the name of one folder: a task called `../x` must not write elsewhere.
fn plain(task: &str) -> String {
    let keep = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let name: String = task.chars().map(keep).collect();
    if name.trim_matches('.').is_empty() { "task".into() } else { name }
}

/// The highest number of a folder `VERB-NNN` in `root`.
fn highest(root: &Path, verb: &str) -> Option<u32> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let number = |e: std::fs::DirEntry| {
        e.file_name().to_str()?.strip_prefix(verb)?.strip_prefix('-')?.parse::<u32>().ok()
    };
    entries.filter_map(number).max()
}

fn name(verb: &str, number: u32) -> String {
    format!("{verb}-{number:03}")
}

/// The folder of the newest run.
fn newest(root: &Path, verb: &str) -> Result<PathBuf> {
    let number = highest(root, verb).ok_or_else(|| {
        Error::new(Kind::Usage, format!("there is no earlier `{verb}` of this task to resume"))
            .at(root.display().to_string())
            .hint("leave --resume out to start one, or name its folder with --out")
    })?;
    Ok(root.join(name(verb, number)))
}

/// A folder of the next number, made here: of two runs that start at once, each gets its own.
fn next(root: &Path, verb: &str) -> Result<PathBuf> {
    let failed = |folder: &Path, e: &std::io::Error| Error::io("cannot make the output folder", folder, e);
    std::fs::create_dir_all(root).map_err(|e| failed(root, &e))?;
    loop {
        let folder = root.join(name(verb, highest(root, verb).unwrap_or(0) + 1));
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && folder.is_dir() => {}
            Err(e) => return Err(failed(&folder, &e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_runs_get_the_next_number_and_resumed_ones_the_newest() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(newest(root.path(), "train").unwrap_err().kind(), Kind::Usage);
        assert_eq!(next(root.path(), "train").unwrap(), root.path().join("train-001"));
        for name in ["train-009", "eval-044", "train-x"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        assert_eq!(newest(root.path(), "train").unwrap(), root.path().join("train-009"));
        let started: Vec<PathBuf> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| next(root.path(), "train").unwrap())).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let apart: std::collections::BTreeSet<_> = started.iter().collect();
        assert_eq!(apart.len(), 8, "{started:?}");
        assert!(
            apart.contains(&root.path().join("train-010")) && apart.contains(&root.path().join("train-017"))
        );
    }

    #[test]
    fn a_task_name_is_one_folder() {
        assert_eq!(plain("invoices-2.b"), "invoices-2.b");
        assert_eq!(plain("../up/Ärzte brief"), "..-up-Ärzte-brief");
        assert_eq!(plain(".."), "task");
    }

    #[test]
    fn a_folder_with_something_in_it_is_not_written_over() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("x"), "").unwrap();
        let arguments = |resume| FolderArguments { out: Some(root.path().to_path_buf()), resume };
        assert_eq!(resolve(&arguments(false), "t", "train").unwrap_err().kind(), Kind::Usage);
        assert!(resolve(&arguments(true), "t", "train").is_ok());
    }
}
