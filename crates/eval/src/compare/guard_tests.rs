//! What must not be claimed: from too few samples that differ, from silence, from rows that were trained on, from a missing
//! interval; and what the numbers must not depend on.

use super::*;
use crate::check::{Evidence, Verdict};
use crate::test_support::{measure, mock, task};
use serde_json::json;

/// An evaluation of `n` samples whose only check `label` found what `verdict` says, summed up by `aggregate`.
fn evaluation(n: usize, aggregate: &str, verdict: impl Fn(usize) -> Verdict) -> Evaluation {
    let folder = tempfile::tempdir().unwrap();
    let (task, set) = task(folder.path(), n);
    let mut result = measure(&task, &set, &mut mock(&task, &set, |_| true), &folder.path().join("record"));
    let kind = if aggregate.ends_with("f1") {
        json!({"name": "label", "kind": "one_of", "labels": ["a", "b"]})
    } else {
        json!({"name": "label", "kind": "number"})
    };
    result.header.harness = serde_json::from_value(json!({
        "score": "s",
        "check": [kind],
        "metric": [{"name": "s", "checks": ["label"], "aggregate": aggregate}],
    }))
    .unwrap();
    for (i, sample) in result.samples.iter_mut().enumerate() {
        sample.verdicts = [("label".to_owned(), verdict(i))].into();
    }
    result
}

fn number(found: f64, expected: f64) -> Verdict {
    let value = f64::from(u8::from(found == expected));
    Verdict::Counted { value, evidence: Evidence::Numbers { found, expected }, reason: None }
}

fn label(i: usize, right: bool) -> Verdict {
    let name = |i: usize| ["a", "b"][i % 2].to_owned();
    let evidence = Evidence::Labels { found: vec![name(i + usize::from(!right))], expected: vec![name(i)] };
    Verdict::Counted { value: f64::from(u8::from(right)), evidence, reason: None }
}

fn compared(a: &Evaluation, b: &Evaluation, settings: &CompareSettings) -> Comparison {
    let entry = |name, evaluation| Entry { name, evaluation };
    let mut all = compare_many(entry("x", a), &[entry("y", b)], settings).unwrap();
    all.candidates.remove(0).comparisons.remove(0)
}

fn kind(comparison: &Comparison) -> ClaimKind {
    comparison.verdict.as_ref().unwrap().kind()
}

#[test]
fn few_samples_that_agree_are_not_yet_non_inferior() {
    let settings = CompareSettings { margin: Some(0.02), ..CompareSettings::new(1) };
    let with = |n: usize, lost: usize| {
        let a = evaluation(n, "micro_f1", |i| label(i, i % 10 > 0));
        let b = evaluation(n, "micro_f1", |i| label(i, i % 10 > 0 && !(1..=lost).contains(&i)));
        compared(&a, &b, &settings)
    };
    assert_eq!(kind(&with(2, 0)), ClaimKind::Nothing, "two samples that agree");
    assert_eq!(kind(&with(30, 0)), ClaimKind::Nothing);
    assert_eq!(kind(&with(600, 0)), ClaimKind::NonInferior, "many that agree");
    assert_eq!(kind(&with(200, 3)), ClaimKind::Nothing, "three lost");
}

#[test]
fn silence_wins_no_correlation() {
    let noisy = |i: usize| number(i as f64 + if i.is_multiple_of(3) { 25.0 } else { 0.0 }, i as f64);
    let talks = evaluation(60, "pearson", noisy);
    let silent = evaluation(60, "pearson", |i| {
        if i < 12 { number(i as f64, i as f64) } else { Verdict::fail("no number") }
    });
    for (a, b) in [(&talks, &silent), (&silent, &talks)] {
        let comparison = compared(a, b, &CompareSettings::new(1));
        assert_eq!((kind(&comparison), comparison.p), (ClaimKind::Nothing, None));
        let sentence = comparison.verdict.unwrap().sentence().to_owned();
        assert!(sentence.contains("48 samples have nothing to make it of on one side only"), "{sentence}");
    }
    // Where both are silent on the same rows, nobody gains by it.
    let both = compared(&silent, &silent, &CompareSettings::new(1));
    assert_eq!((both.n, both.p), (12, Some(1.0)));
}

#[test]
fn verdicts_that_are_missing_on_one_side_win_nothing() {
    let graded = |right: bool| Verdict::Value { value: f64::from(u8::from(right)), reason: None };
    let whole = evaluation(60, "mean", |i| graded(i % 2 == 0));
    // Right wherever it has a verdict at all.
    let holes = evaluation(60, "mean", |i| if i % 3 == 0 { Verdict::missing("none") } else { graded(true) });
    for (a, b) in [(&whole, &holes), (&holes, &whole)] {
        let comparison = compared(a, b, &CompareSettings::new(1));
        assert_eq!((kind(&comparison), comparison.n), (ClaimKind::Nothing, 40));
        let sentence = comparison.verdict.unwrap().sentence().to_owned();
        assert!(sentence.contains("20 samples have nothing to make it of on one side only"), "{sentence}");
    }
}

#[test]
fn a_number_that_most_redraws_lack_is_not_tested() {
    let flat = evaluation(60, "pearson", |i| number(if i < 2 { i as f64 } else { 7.0 }, i as f64));
    let good = evaluation(60, "pearson", |i| number(i as f64, i as f64));
    let comparison = compared(&flat, &good, &CompareSettings::new(1));
    assert!(comparison.difference.is_some() && comparison.low.is_none(), "{comparison:?}");
    assert_eq!(kind(&comparison), ClaimKind::Nothing);
    let sentence = comparison.verdict.unwrap().sentence().to_owned();
    assert!(sentence.ends_with("too many redraws of the samples give no number."), "{sentence}");
}

#[test]
fn what_a_record_says_of_leakage_holds_in_every_comparison() {
    let with = |shared: usize, right: usize| {
        let mut result = evaluation(60, "mean", |i| label(i, i < right));
        result.header.shared = shared;
        result
    };
    let settings = CompareSettings::new(1);
    assert_eq!(kind(&compared(&with(0, 5), &with(0, 50), &settings)), ClaimKind::Better);
    for (a, b) in [(3, 0), (0, 3)] {
        let comparison = compared(&with(a, 5), &with(b, 50), &settings);
        assert_eq!(kind(&comparison), ClaimKind::Nothing);
        assert!(comparison.verdict.unwrap().sentence().contains("3 of the 60 measured inputs"));
    }
}

#[test]
fn rows_without_a_group_stand_alone_and_either_side_may_know_it() {
    let grouped = |right: usize, group: fn(usize) -> serde_json::Value| {
        let mut result = evaluation(60, "mean", |i| label(i, i < right));
        for (i, sample) in result.samples.iter_mut().enumerate() {
            sample.meta = json!({ "group": group(i) }).as_object().unwrap().clone();
        }
        result
    };
    let settings = CompareSettings::new(1);
    let none = compared(&grouped(5, |_| json!(null)), &grouped(50, |_| json!(null)), &settings);
    assert_eq!((none.clusters, kind(&none)), (None, ClaimKind::Better));
    let dozens = grouped(50, |i| json!(i / 12));
    let mut old = grouped(5, |i| json!(i / 12));
    let known = compared(&old, &dozens, &settings);
    old.samples.iter_mut().for_each(|sample| sample.meta.clear());
    let found = compared(&old, &dozens, &settings);
    assert_eq!((found.clusters, found.p), (Some(5), known.p), "the candidate's record has the groups");
}

#[test]
fn plans_from_records_count_groups() {
    let folders = |spread: usize| {
        let with = |right: fn(usize) -> bool| {
            let mut result = evaluation(240, "mean", |i| label(i, right(i)));
            for (i, sample) in result.samples.iter_mut().enumerate() {
                sample.meta = json!({ "group": i / spread }).as_object().unwrap().clone();
            }
            result
        };
        let (a, b) = (with(|i| i % 80 < 20), with(|i| i % 80 < 28));
        let entry = |evaluation| Entry { name: "", evaluation };
        let seen = design(entry(&a), entry(&b)).unwrap();
        (seen.design.rows(seen.difference, 0.8).unwrap().rows, seen.group_size)
    };
    let ((alone, no_size), (together, size)) = (folders(1), folders(8));
    assert_eq!((no_size, size), (None, Some(8.0)));
    assert!(
        together > 3 * alone,
        "{alone} rows one by one, {together} in groups of eight that change together"
    );
}

#[test]
fn slices_of_numbers_and_words_have_one_order() {
    let mut a = evaluation(60, "mean", |i| label(i, i < 30));
    let values = ["10", "1a", "9", "x", "-3", "2.5", "38b", "108", "11", "b"];
    for (i, sample) in a.samples.iter_mut().enumerate() {
        let value = if i < 30 { values[i % 10].to_owned() } else { format!("{}c{}", i % 7, i) };
        sample.meta = json!({ "field": value }).as_object().unwrap().clone();
    }
    let order: Vec<String> =
        slices::slicing(&a.samples, "field").unwrap().slices.into_iter().map(|slice| slice.value).collect();
    assert_eq!(order[..6], ["-3", "2.5", "9", "10", "11", "108"]);
    assert!(order[6..].is_sorted(), "{order:?}");
}

#[test]
fn the_order_of_a_record_does_not_matter() {
    let a = evaluation(61, "mean", |i| label(i, i % 5 < 2));
    let mut b = evaluation(61, "mean", |i| label(i, i % 4 < 2));
    let before = compared(&a, &b, &CompareSettings::new(3));
    b.samples.reverse();
    b.samples.swap(3, 40);
    assert_eq!(compared(&a, &b, &CompareSettings::new(3)), before);
}

#[test]
fn more_rows_are_planned_at_the_level_that_is_left() {
    let base = evaluation(200, "mean", |i| label(i, i % 20 < 10));
    // Three lost, five gained.
    let others: Vec<Evaluation> = (0..6)
        .map(|_| evaluation(200, "mean", |i| label(i, (i % 20 < 10 && i > 2) || (10..15).contains(&i))))
        .collect();
    let entry = |evaluation| Entry { name: "y", evaluation };
    let many: Vec<Entry<'_>> = others.iter().map(entry).collect();
    let settings = CompareSettings::new(1);
    let all = compare_many(entry(&base), &many, &settings).unwrap();
    let capped = all.candidates.iter().map(|c| &c.comparisons[0]).find(|c| c.p_holm == Some(1.0)).unwrap();
    let alone = compared(&base, &others[0], &settings);
    assert!(
        capped.more_rows_needed.unwrap() as f64 > 1.3 * alone.more_rows_needed.unwrap() as f64,
        "{capped:?} {alone:?}"
    );
}
