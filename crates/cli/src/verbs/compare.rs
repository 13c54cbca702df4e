//! `underdog compare BASE CANDIDATE…`: records → comparisons → a table and what may be claimed. What is said is
//! `eval`'s; this file finds the records and lays the numbers out.

use crate::arguments::CompareArguments;
use crate::environment::Environment;
use crate::output::Output;
use std::path::{Path, PathBuf};
use underdog_eval::compare::{
    CandidateComparisons, CompareSettings, Comparison, Entry, ManyComparisons, compare_many,
};
use underdog_eval::statistics::EffectKind;
use underdog_eval::task::Task;
use underdog_eval::{Error, Evaluation, Kind, Result};

/// Narrower than this, a comparison takes several lines.
const TABLE_COLUMNS: usize = 76;

/// Runs the verb.
pub fn run(arguments: &CompareArguments, environment: &Environment, output: &Output) -> Result<()> {
    let files = record_files(&arguments.records)?;
    if files.len() < 2 {
        return Err(Error::new(Kind::Usage, "a comparison takes two records or more")
            .expected("BASE CANDIDATE…, or one folder of `underdog run`")
            .found(files.len().to_string()));
    }
    let evaluations = files.iter().map(|file| Evaluation::from_record(file)).collect::<Result<Vec<_>>>()?;
    let names = names(&evaluations, &files);
    let entries: Vec<Entry<'_>> =
        names.iter().zip(&evaluations).map(|(name, evaluation)| Entry { name, evaluation }).collect();
    let settings = CompareSettings {
        shared: shared(arguments.task.as_deref(), &evaluations)?,
        margin: arguments.margin,
        by: arguments.by.clone(),
        group: arguments.group.clone(),
        ..CompareSettings::new(arguments.seed)
    };
    let all = compare_many(entries[0], &entries[1..], &settings)?;
    output.result(&all, || text(&all, environment.columns))
}

/// The record that each argument stands for; a single folder of `underdog run` stands for both of its records.
pub fn record_files(arguments: &[PathBuf]) -> Result<Vec<PathBuf>> {
    if let [only] = arguments
        && only.join("base.jsonl").is_file()
        && only.join("tuned.jsonl").is_file()
    {
        return Ok(vec![only.join("base.jsonl"), only.join("tuned.jsonl")]);
    }
    arguments.iter().map(|path| record_file(path)).collect()
}

fn record_file(path: &Path) -> Result<PathBuf> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    if !path.is_dir() {
        return Err(Error::new(Kind::Usage, "there is no record here")
            .expected("a record file or the folder of a run")
            .at(path.display().to_string()));
    }
    let found =
        ["record.jsonl", "tuned.jsonl"].into_iter().map(|name| path.join(name)).find(|file| file.is_file());
    found.ok_or_else(|| {
        Error::new(Kind::Usage, "there is no record in this folder")
            .expected("record.jsonl or tuned.jsonl")
            .at(path.display().to_string())
            .hint("name the record file itself")
    })
}

/// What the candidates are called: their model reference, or the path of the record where several have the same one.
fn names(evaluations: &[Evaluation], files: &[PathBuf]) -> Vec<String> {
    let same = |name: &str| evaluations.iter().filter(|e| e.candidate == name).count();
    let name = |(e, file): (&Evaluation, &PathBuf)| match same(&e.candidate) {
        1 => e.candidate.clone(),
        _ => file.display().to_string(),
    };
    evaluations.iter().zip(files).map(name).collect()
}

/// Measured inputs that stand among the training rows of the task, where one is named.
fn shared(task: Option<&Path>, evaluations: &[Evaluation]) -> Result<usize> {
    let Some(task) = task else { return Ok(0) };
    let task = Task::load(task)?;
    let mut most = 0;
    for evaluation in evaluations {
        let inputs = evaluation.samples.iter().map(|sample| &sample.input);
        most = most.max(task.shared_with_training(inputs)?);
    }
    Ok(most)
}

fn text(all: &ManyComparisons, columns: usize) -> String {
    let mut text = format!("{} ({}), every candidate against {}\n", all.task, all.split, all.baseline);
    for candidate in &all.candidates {
        text.push_str(&format!("\n{}: {} samples in common", candidate.candidate, candidate.common));
        let alone = candidate.only_baseline + candidate.only_candidate;
        if alone > 0 {
            text.push_str(&format!(", {alone} measured on one side only"));
        }
        text.push('\n');
        text.push_str(&table(candidate, &all.score, columns));
    }
    text.push_str("* the score; differences in points with their 95 % interval");
    if all.corrected_tests > 1 {
        let but = if all.primary.is_some() { ", but for the score on all samples" } else { "" };
        text.push_str(&format!("; p corrected for {} tests (Holm){but}", all.corrected_tests));
    }
    if let Some(group) = &all.group {
        text.push_str(&format!("; samples of the same {group} count together"));
    }
    text.push('\n');
    for claim in all.claims() {
        text.push_str(&format!("\n{}\n", claim.sentence()));
    }
    text.trim_end().to_owned()
}

fn table(candidate: &CandidateComparisons, score: &str, columns: usize) -> String {
    let width = candidate.comparisons.iter().map(|c| c.metric.chars().count()).max().unwrap_or(0).max(6);
    let wide = columns >= TABLE_COLUMNS.max(width + 58);
    let mut text = String::new();
    if wide {
        text.push_str(&format!(
            "  {:<width$}  {:>6}  {:>8}  {:>9}  {:<26}  p\n",
            "", "n", "baseline", "candidate", "difference"
        ));
    }
    let mut slice = None;
    for comparison in &candidate.comparisons {
        if comparison.slice != slice {
            slice = comparison.slice.clone();
            if let Some(slice) = &slice {
                text.push_str(&format!("  {} = {}\n", slice.field, slice.value));
            }
        }
        let mark = if comparison.metric == score { "*" } else { " " };
        text.push_str(&if wide { row(comparison, mark, width) } else { stacked(comparison, mark) });
    }
    text
}

/// A value in the unit of its metric.
fn value(comparison: &Comparison, value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| comparison.unit.value(value))
}

fn row(comparison: &Comparison, mark: &str, width: usize) -> String {
    let Comparison { metric, n, .. } = comparison;
    let line = format!(
        "{mark} {metric:<width$}  {n:>6}  {:>8}  {:>9}  {:<26}  {}",
        value(comparison, comparison.baseline_value),
        value(comparison, comparison.candidate_value),
        comparison.difference_text(),
        comparison.p_text()
    );
    let effects = effects(comparison).join(", ");
    let below = if effects.is_empty() { effects } else { format!("    {effects}\n") };
    format!("{}\n{below}", line.trim_end())
}

/// How large the difference is, each number with its name. The difference of two rates is an effect size too, and stands in
/// its column.
fn effects(comparison: &Comparison) -> Vec<String> {
    let others = comparison.effects.iter().filter(|effect| effect.kind != EffectKind::RiskDifference);
    // Plus 0 makes 0 of −0; the minus is that of the differences.
    let text = |value: f64| format!("{:.2}", (value * 100.0).round() / 100.0 + 0.0).replace('-', "−");
    others.filter_map(|effect| Some(format!("{} {}", effect.kind.name(), text(effect.value?)))).collect()
}

fn stacked(comparison: &Comparison, mark: &str) -> String {
    let effects: String = effects(comparison).iter().map(|effect| format!("    {effect}\n")).collect();
    format!(
        "{mark} {} (n {})\n    {} -> {}\n    {}, p {}\n{effects}",
        comparison.metric,
        comparison.n,
        value(comparison, comparison.baseline_value),
        value(comparison, comparison.candidate_value),
        comparison.difference_text(),
        comparison.p_text()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn comparison(effects: serde_json::Value) -> Comparison {
        let text = json!({"metric": "right", "baseline": "a", "candidate": "b", "n": 9, "baseline_value": 0.1,
            "candidate_value": 0.2, "difference": 0.1, "low": 0.05, "high": 0.15, "p": 0.01, "p_holm": null,
            "test": "t", "baseline_wins": 0, "candidate_wins": 1, "ties": 8, "effects": effects,
            "more_rows_needed": null});
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn effect_sizes_stand_below_their_row_and_what_cannot_be_computed_stands_nowhere() {
        let two = comparison(json!([
            {"kind": "risk_difference", "value": 0.1},
            {"kind": "paired_odds_ratio", "value": 2.5},
            {"kind": "cohen_h", "value": -0.004},
        ]));
        let lines: Vec<String> = row(&two, "*", 6).lines().map(str::to_owned).collect();
        assert_eq!(lines[1..], ["    paired odds ratio 2.50, Cohen's h 0.00"]);
        assert!(stacked(&two, "*").ends_with("\n    paired odds ratio 2.50\n    Cohen's h 0.00\n"));
        let one = comparison(json!([{"kind": "standardised_difference", "value": -0.5}]));
        assert!(row(&one, "*", 6).ends_with("\n    standardised paired difference −0.50\n"));
        let none = comparison(json!([{"kind": "paired_odds_ratio", "value": null, "reason": "r"}]));
        assert_eq!(row(&none, "*", 6).lines().count(), 1);
        assert_eq!(stacked(&none, "*").lines().count(), 3);
    }
}
