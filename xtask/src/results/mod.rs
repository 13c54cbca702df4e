//! `docs/results.md`: what every built-in task gives, measured and written by a program. `bench/results.toml` says what to
//! measure, `bench/results` keeps a summary of each measurement, and the page is made from those two and nothing else.
//!
//! The measuring is the program's own (`underdog run`), and so are all numbers and sentences: here nothing is computed
//! and nothing concluded.

mod measure;
mod page;
mod settings;
mod summary;

use crate::repository::Repository;
use crate::tidy::{Finding, finding};
use settings::{Measurement, Settings};
use std::path::{Path, PathBuf};
use summary::Summary;

/// What to measure.
const SETTINGS: &str = "bench/results.toml";
/// The page.
const PAGE: &str = "docs/results.md";

/// What was asked for on the command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    check: bool,
    run: bool,
    underdog: Option<PathBuf>,
    only: Vec<String>,
    model: Option<String>,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Self, String> {
        let mut options = Options::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value =
                || words.next().map(|value| value.to_string()).ok_or(format!("`{word}` needs a value"));
            match *word {
                "--check" => options.check = true,
                "--run" => options.run = true,
                "--underdog" => options.underdog = Some(value()?.into()),
                "--only" => options.only.push(value()?),
                "--model" => options.model = Some(value()?),
                other => {
                    return Err(format!(
                        "`{other}`: expected --check, --run, --underdog PATH, --only TASK or --model NAME"
                    ));
                }
            }
        }
        Ok(options)
    }

    fn wants(&self, measurement: &Measurement) -> bool {
        (self.only.is_empty() || self.only.contains(&measurement.task))
            && self.model.as_ref().is_none_or(|model| *model == measurement.model)
    }
}

/// Measures what is missing if `--run` says so, then writes the page; with `--check` it only compares.
pub fn run(root: &Path, words: &[&str]) -> Result<bool, String> {
    let options = Options::parse(words)?;
    let repository = Repository::read(root)?;
    if options.check {
        let findings = drift(&repository);
        findings.iter().for_each(|finding| eprintln!("{finding}"));
        return Ok(findings.is_empty());
    }
    let settings = settings_of(&repository)?.ok_or(format!("{SETTINGS} is not there"))?;
    let unknown = options.only.iter().find(|task| !settings.measure.iter().any(|m| m.task == **task));
    if let Some(task) = unknown {
        return Err(format!("`--only {task}`: {SETTINGS} has no such task"));
    }
    let mut all_done = true;
    if options.run {
        let underdog = measure::program(options.underdog.as_deref())?;
        for measurement in settings.measure.iter().filter(|measurement| options.wants(measurement)) {
            match measure::measure(root, &underdog, measurement) {
                // The page is written after each, so that a run that is cut off leaves it right.
                Ok(true) => write_page(root)?,
                Ok(false) => {}
                Err(fault) => {
                    eprintln!("{}: {fault}", measurement.name());
                    all_done = false;
                }
            }
        }
    }
    write_page(root)?;
    Ok(all_done)
}

fn write_page(root: &Path) -> Result<(), String> {
    let repository = Repository::read(root)?;
    let Some(text) = text(&repository)? else { return Err(format!("{SETTINGS} is not there")) };
    replace(&root.join(PAGE), &text)
}

/// Writes a file so that it is whole at any moment.
fn replace(path: &Path, text: &str) -> Result<(), String> {
    let temporary = path.with_extension("new");
    let written = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|error| format!("{}: {error}", path.display()))
}

fn settings_of(repository: &Repository) -> Result<Option<Settings>, String> {
    let Some(text) = repository.get(SETTINGS).and_then(|file| file.text.as_deref()) else { return Ok(None) };
    Settings::parse(text).map(Some).map_err(|fault| format!("{SETTINGS}: {fault}"))
}

/// The page as it should be; `None` without settings.
fn text(repository: &Repository) -> Result<Option<String>, String> {
    let Some(settings) = settings_of(repository)? else { return Ok(None) };
    let mut rows = Vec::new();
    for measurement in settings.measure {
        let path = measurement.path();
        let summary = match repository.get(&path).and_then(|file| file.text.as_deref()) {
            Some(text) => Some(Summary::parse(text).map_err(|fault| format!("{path}: {fault}"))?),
            None => None,
        };
        rows.push((measurement, summary));
    }
    let tasks = page::tasks(repository, &rows)?;
    Ok(Some(page::render(&tasks, &rows)))
}

/// Whether the page is what the settings and summaries give, for `tidy`.
pub fn drift(repository: &Repository) -> Vec<Finding> {
    match text(repository) {
        Ok(None) => Vec::new(),
        Ok(Some(text)) if repository.get(PAGE).is_some_and(|file| file.text.as_ref() == Some(&text)) => {
            Vec::new()
        }
        Ok(Some(_)) => {
            vec![finding(PAGE, None, "not what bench/results gives", "the output of `cargo xtask results`")]
        }
        Err(fault) => vec![finding(SETTINGS, None, fault, "settings and summaries that can be read")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = "name = \"t\"\ndescription = \"A task\"\nscore = \"s\"\n[[metric]]\nname = \"s\"\ndescription = \"Right\"\nchecks = [\"a\"]\n";

    #[test]
    fn options_are_read_and_others_refused() {
        let options = Options::parse(&["--run", "--only", "a", "--only", "b", "--underdog", "u"]).unwrap();
        assert!(options.run && !options.check && options.only == ["a", "b"]);
        assert_eq!(options.underdog, Some("u".into()));
        assert!(Options::parse(&["--only"]).unwrap_err().contains("needs a value"));
        assert!(Options::parse(&["--fast"]).unwrap_err().contains("--fast"));
    }

    #[test]
    fn a_page_that_is_not_what_the_summaries_give_is_found() {
        let settings = "version = 1\n[[measure]]\ntask = \"t\"\nmodel = \"m\"\n";
        let mut files = vec![(SETTINGS, settings), ("tasks/t/task.toml", TASK)];
        assert_eq!(drift(&Repository::of(&files)).len(), 1, "there is no page");
        let page = text(&Repository::of(&files)).unwrap().unwrap();
        assert!(page.contains("not measured"));
        files.push((PAGE, &page));
        assert_eq!(drift(&Repository::of(&files)), []);
        let summary = summary::tests::summary().to_text();
        files.push(("bench/results/t+m.json", &summary));
        assert_eq!(drift(&Repository::of(&files))[0].path, PAGE);
        files[0].1 = "version = 2\n";
        assert!(drift(&Repository::of(&files))[0].what.contains("version"));
        assert_eq!(drift(&Repository::of(&files[1..])), [], "without settings there is nothing to say");
    }
}
