//! The files of the repository as git sees them: tracked ones, and new ones that are not ignored.
//!
//! What is wrong with them is left to `tidy`; its checks see this value only, so their tests can make one up.

use std::path::{Path, PathBuf};
use std::process::Command;

/// One file.
#[derive(Debug)]
pub struct File {
    /// Relative to the root, with `/` between the parts.
    pub path: String,
    /// Size on disk.
    pub bytes: u64,
    /// The content where it is UTF-8.
    pub text: Option<String>,
}

/// All files, in the order of their paths.
#[derive(Debug, Default)]
pub struct Repository {
    /// The files.
    pub files: Vec<File>,
    /// The verbs that `underdog --help` lists; `None` where the binary is not built.
    pub verbs: Option<Vec<String>>,
}

impl Repository {
    /// Reads every file that git tracks or would add.
    pub fn read(root: &Path) -> Result<Self, String> {
        let output = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .map_err(|error| format!("git does not run: {error}"))?;
        if !output.status.success() {
            return Err(format!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        let names = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut paths: Vec<&str> = names.split('\0').filter(|name| !name.is_empty()).collect();
        paths.sort_unstable();
        paths.dedup();
        let mut files = Vec::new();
        for path in paths {
            // A file that was deleted but not yet committed is still listed.
            let Ok(content) = std::fs::read(root.join(path)) else { continue };
            let bytes = content.len() as u64;
            files.push(File { path: path.to_string(), bytes, text: String::from_utf8(content).ok() });
        }
        Ok(Repository { files, verbs: built_verbs() })
    }

    /// The file at `path`.
    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Whether `path` is a file, or a folder with files in it.
    pub fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        path.is_empty()
            || self.files.iter().any(|file| {
                file.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
    }

    /// Path and text of every file whose name ends in `suffix` and that is text.
    pub fn texts<'a>(&'a self, suffix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files
            .iter()
            .filter(move |file| file.path.ends_with(suffix))
            .filter_map(|file| Some((file.path.as_str(), file.text.as_deref()?)))
    }

    /// Made-up files for tests.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| File {
            path: path.to_string(),
            bytes: text.len() as u64,
            text: Some(text.to_string()),
        };
        Repository { files: files.iter().map(file).collect(), verbs: None }
    }
}

/// The root of the repository: the nearest folder upwards that holds this tool.
pub fn root() -> Result<PathBuf, String> {
    let start =
        std::env::current_dir().map_err(|error| format!("the current folder is not readable: {error}"))?;
    start
        .ancestors()
        .find(|folder| folder.join("xtask/Cargo.toml").is_file())
        .map(Path::to_path_buf)
        .ok_or_else(|| {
            "this is not inside the repository: no folder upwards holds xtask/Cargo.toml".to_string()
        })
}

/// Asks the binary that lies beside this tool, if it is built.
fn built_verbs() -> Option<Vec<String>> {
    let binary =
        std::env::current_exe().ok()?.with_file_name(format!("underdog{}", std::env::consts::EXE_SUFFIX));
    let help = Command::new(binary).arg("--help").output().ok()?;
    let verbs = verbs_of(&String::from_utf8_lossy(&help.stdout));
    (!verbs.is_empty()).then_some(verbs)
}

/// The first words of the lines under `Commands:`.
fn verbs_of(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| line.trim() != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        // A description that goes on in a further line is indented deeper than a verb.
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_string))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_exists_when_a_file_is_in_it() {
        let repository = Repository::of(&[("docs/one.md", "")]);
        assert!(repository.exists("docs") && repository.exists("docs/") && repository.exists("docs/one.md"));
        assert!(
            !repository.exists("doc") && !repository.exists("docs/one") && !repository.exists("docs/two.md")
        );
    }

    #[test]
    fn verbs_are_read_from_the_help() {
        let help = "Does things\n\nCommands:\n  eval   Measures\n         a lot\n  train  Trains\n\nOptions:\n  -h  Help\n";
        assert_eq!(verbs_of(help), ["eval", "train"]);
        assert!(verbs_of("no such heading\n  eval\n").is_empty());
    }
}
