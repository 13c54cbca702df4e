//! The page: an overview, then each task with a table for each model. Numbers are rounded as the program rounds them;
//! sentences about who is ahead are the report's.

use super::settings::Measurement;
use super::summary::{Estimate, Summary};
use crate::repository::Repository;
use toml::{Table, Value};

/// What a task file says about itself.
#[derive(Debug)]
pub struct TaskText {
    /// Its folder in `tasks`.
    folder: String,
    /// What it is.
    description: String,
    /// The name of the score.
    score: String,
    /// What the score means.
    meaning: String,
}

/// The tasks that are measured, in order, each once.
///
/// # Errors
/// In one line, which task file cannot be read.
pub fn tasks(
    repository: &Repository,
    rows: &[(Measurement, Option<Summary>)],
) -> Result<Vec<TaskText>, String> {
    let mut tasks: Vec<TaskText> = Vec::new();
    for (measurement, _) in rows {
        if tasks.iter().all(|task| task.folder != measurement.task) {
            let path = format!("tasks/{}/task.toml", measurement.task);
            let text = repository.get(&path).and_then(|file| file.text.as_deref());
            let table: Table = text
                .ok_or(format!("{path} is not there"))?
                .parse()
                .map_err(|error| format!("{path}: not TOML: {error}"))?;
            tasks.push(TaskText::of(&measurement.task, &table));
        }
    }
    Ok(tasks)
}

impl TaskText {
    fn of(folder: &str, table: &Table) -> Self {
        let text = |value: Option<&Value>| {
            let words = value.and_then(Value::as_str).unwrap_or_default().split_whitespace();
            words.collect::<Vec<_>>().join(" ")
        };
        // A score that is a weighted mean of metrics is called so.
        let score = match table.get("score") {
            Some(Value::String(name)) => name.clone(),
            _ => "score".to_string(),
        };
        let metrics = table.get("metric").and_then(Value::as_array).into_iter().flatten();
        let mut named = metrics.filter(|metric| metric.get("name").and_then(Value::as_str) == Some(&score));
        TaskText {
            folder: folder.to_string(),
            description: text(table.get("description")),
            meaning: text(named.next().and_then(|metric| metric.get("description"))),
            score,
        }
    }
}

/// The text of the page.
pub fn render(tasks: &[TaskText], rows: &[(Measurement, Option<Summary>)]) -> String {
    let mut page = String::from(HEAD);
    page.push_str(
        "\n| task | model | tuned | base | strongest of the others | rows |\n|---|---|---|---|---|---|\n",
    );
    rows.iter().for_each(|(measurement, summary)| page.push_str(&overview(measurement, summary.as_ref())));
    for task in tasks {
        page.push_str(&format!("\n## {}\n\n{}", task.folder, task.description));
        let meaning = match task.meaning.is_empty() {
            true => String::new(),
            false => format!(" ({})", task.meaning),
        };
        page.push_str(&format!(
            " The score is `{}`{meaning}. Data: [SOURCE.md](../tasks/{}/SOURCE.md).\n",
            task.score, task.folder
        ));
        for (measurement, summary) in rows.iter().filter(|(m, _)| m.task == task.folder) {
            page.push_str(&format!("\n### {} with {}\n\n", task.folder, measurement.model));
            match summary {
                Some(summary) => page.push_str(&section(measurement, summary)),
                None => page.push_str("not measured\n"),
            }
        }
    }
    page
}

const HEAD: &str = "\
# Results

What the built-in tasks give. This page is made by `cargo xtask results` from the summaries in `bench/results`, and `cargo xtask tidy` fails where
it differs from them. `cargo xtask results --run` measures what is missing, as `bench/results.toml` says: `underdog run` for each task and model.

Scores are shares in per cent with their 95 % intervals, on test rows that nothing was chosen on. Each sentence below a table is the program's own: it
comes from a paired test on the same rows, corrected for the tests of that report. Candidates: `base` is the untrained model with the task's prompt,
`tuned` the same with the adapter that was trained, `constrained` the untrained model held to the labels or the schema of the task, `few-shot` the untrained model
with the most similar training rows in its prompt, `majority` the most frequent answer, `nearest` the answer of the most similar training
row, `linear` a logistic regression on frozen sentence vectors (where the task has classes or labels). The strongest of those that are not `tuned` is
marked with ▲. Gemma's base model has no chat template of its own and is asked in plain text as long as it is untrained. Scores rest on the commit, the recipe and the number format that stand under each table; times are those of a machine that may have had
other work beside.
";

fn overview(measurement: &Measurement, summary: Option<&Summary>) -> String {
    let (task, model) = (&measurement.task, &measurement.model);
    let Some(summary) = summary else {
        return format!("| [{task}](#{task}) | {model} | not measured | | | |\n");
    };
    let score = |role: &str| summary.score_of(role);
    let share = |estimate: Option<Estimate>| percent(estimate.and_then(|estimate| estimate.value));
    let strongest = match summary.text("strongest") {
        "" => "–".to_string(),
        role => format!("`{role}` {}", share(score(role))),
    };
    let n = score("tuned").map_or_else(|| "–".to_string(), |estimate| estimate.n.to_string());
    let (tuned, base) = (share(score("tuned")), share(score("base")));
    format!("| [{task}](#{task}) | {model} | {tuned} | {base} | {strongest} | {n} |\n")
}

fn section(measurement: &Measurement, summary: &Summary) -> String {
    let mut text =
        format!("| candidate | {} | 95 % interval | rows |\n|---|---|---|---|\n", summary.text("score"));
    for role in summary.roles() {
        let Some(estimate) = summary.score_of(role) else { continue };
        let mark = if role == summary.text("strongest") { " ▲" } else { "" };
        let interval = match estimate.interval {
            Some((low, high)) => format!("{} to {}", tenths(low), tenths(high)),
            None => "not enough".to_string(),
        };
        let share = percent(estimate.value);
        text.push_str(&format!("| `{role}`{mark} | {share} | {interval} | {} |\n", estimate.n));
    }
    text.push('\n');
    summary.claims().for_each(|sentence| text.push_str(&format!("- {sentence}\n")));
    summary.notes().for_each(|note| text.push_str(&format!("- {note}\n")));
    text.push_str(&format!("\n{}\n\n```sh\nunderdog {}\n```\n", how(summary), measurement.words().join(" ")));
    if !summary.is_of(measurement) {
        text.push_str("\nMeasured with other settings than these; to be measured again.\n");
    }
    text
}

/// How it was measured, in a line.
fn how(summary: &Summary) -> String {
    let mut parts = vec![format!("{} rows", summary.split())];
    let train = |name: &str| summary.train(name);
    if let (Some(steps), Some(rows), Some(epochs)) = (train("steps"), train("rows"), train("epochs")) {
        parts.push(format!("{steps} steps on {rows} training rows, {epochs:.1} epochs"));
    }
    if let Some(seconds) = train("seconds") {
        parts.push(format!("{:.1} minutes of training", seconds / 60.0));
    }
    if let Some(seconds) = summary.seconds() {
        parts.push(format!("{:.1} minutes for everything", seconds / 60.0));
    }
    if let Some(memory) = train("peak_rss_mib") {
        parts.push(format!("{memory:.0} MiB at most in training"));
    }
    let machine = summary.text("machine");
    if !machine.is_empty() {
        parts.push(machine.to_string());
    }
    parts.push(format!("commit {}", summary.text("commit")));
    format!("{}.", parts.join("; "))
}

/// A share as the program prints it.
fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_string(), |share| format!("{} %", tenths(share)))
}

fn tenths(share: f64) -> String {
    format!("{:.1}", (share * 1000.0).round() / 10.0).replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::settings::tests::one;
    use crate::results::summary::tests::summary;

    fn page(settings: &str, summary: Option<Summary>) -> String {
        let table: Table = "description = \"\"\"\nTwo\nlines.\"\"\"\nscore = \"fields\"\n[[metric]]\nname = \"fields\"\ndescription = \"Fields right\"\n"
            .parse()
            .unwrap();
        render(&[TaskText::of("t", &table)], &[(one(settings).unwrap(), summary)])
    }

    #[test]
    fn a_measurement_is_a_table_with_its_sentences() {
        let page = page("task = \"t\"\nmodel = \"m\"", Some(summary()));
        for line in [
            "| [t](#t) | m | 66.7 % | 0.0 % | `base` 0.0 % | 3 |",
            "Two lines. The score is `fields` (Fields right). Data: [SOURCE.md](../tasks/t/SOURCE.md).",
            "| candidate | fields | 95 % interval | rows |",
            "| `base` ▲ | 0.0 % | 0.0 to 56.1 | 3 |",
            "| `tuned` | 66.7 % | 20.8 to 100.0 | 3 |",
            "underdog run tasks/t --model m",
        ] {
            assert!(page.lines().any(|found| found == line), "no line {line:?} in\n{page}");
        }
        assert!(page.contains("\n- Nothing may be claimed about which of tuned and base"));
        assert!(page.contains("1.5 minutes for everything") && page.contains("; commit abc."));
        assert!(!page.contains("other settings"));
    }

    #[test]
    fn what_was_not_measured_or_otherwise_says_so() {
        let without = page("task = \"t\"\nmodel = \"m\"", None);
        assert!(without.contains("| [t](#t) | m | not measured | | | |"));
        assert!(without.contains("### t with m\n\nnot measured\n"));
        let other = page("task = \"t\"\nmodel = \"m\"\nlimit = 9", Some(summary()));
        assert!(other.contains("Measured with other settings"));
    }
}
