//! Numbers of the corpus in comparisons: told apart or not, on slices and in groups.

use super::super::{CompareSettings, Entry, ManyComparisons, cells, compare_many};
use super::*;
use crate::check::{Evidence, Verdict};
use crate::compare::ClaimKind;
use crate::harness::HarnessSpec;
use crate::runner::Evaluation;
use crate::test_support::{measure, mock, task};
use serde_json::json;

/// Labels, of which the first `wrong` are wrong; `half` says which half of the samples a sample is in, `group` which
/// dozen.
fn evaluation(wrong: usize) -> Evaluation {
    let folder = tempfile::tempdir().unwrap();
    let (task, set) = task(folder.path(), 60);
    let mut result = measure(&task, &set, &mut mock(&task, &set, |_| true), &folder.path().join("record"));
    let spec: HarnessSpec = serde_json::from_value(json!({
        "score": "f1",
        "check": [{"name": "label", "kind": "one_of", "labels": ["a", "b", "c"]}],
        "metric": [
            {"name": "f1", "checks": ["label"], "aggregate": "macro_f1"},
            {"name": "accuracy", "checks": ["label"]},
        ],
    }))
    .unwrap();
    result.header.harness = spec;
    for (i, sample) in result.samples.iter_mut().enumerate() {
        let label = |i: usize| ["a", "b", "c"][i % 3].to_owned();
        let (expected, found) = (label(i), label(if i < wrong { i + 1 } else { i }));
        let value = f64::from(u8::from(expected == found));
        let evidence = Evidence::Labels { found: vec![found], expected: vec![expected] };
        sample.verdicts = [("label".to_owned(), Verdict::Counted { value, evidence, reason: None })].into();
        sample.meta = json!({"half": i / 30, "dozen": i / 12}).as_object().unwrap().clone();
    }
    result
}

fn compared(before: usize, after: usize, settings: CompareSettings) -> ManyComparisons {
    let (a, b) = (evaluation(before), evaluation(after));
    let entry = |name, evaluation| Entry { name, evaluation };
    compare_many(entry("x", &a), &[entry("y", &b)], &settings).unwrap()
}

#[test]
fn a_difference_is_told_and_none_is_not() {
    let f1 = |before, after| {
        let all = compared(before, after, CompareSettings::new(1));
        all.candidates[0].overall("f1").unwrap().clone()
    };
    let risen = f1(30, 6);
    assert!(risen.is_significant(), "{risen:?}");
    assert_eq!((risen.test.as_str(), risen.n, risen.candidate_wins), ("paired randomisation test", 60, 24));
    assert_eq!(risen.verdict.as_ref().unwrap().kind(), ClaimKind::Better);
    assert!((risen.baseline_value.unwrap() - 0.5).abs() < 1e-9);
    assert!((risen.difference.unwrap() - 0.4).abs() < 1e-9);
    assert!(risen.low.unwrap() < 0.4 && risen.high.unwrap() > 0.4);
    let side = risen.candidate_interval.unwrap();
    assert!(side.low < 0.9 && side.high > 0.9 && risen.effects.is_empty());
    let alike = f1(6, 7);
    assert!(!alike.is_significant() && alike.p.unwrap() > 0.5);
    assert!(alike.more_rows_needed.unwrap() > 60, "{alike:?}");
    let same = f1(6, 6);
    assert_eq!((same.p, same.low, same.more_rows_needed), (Some(1.0), None, None));
    assert_eq!(f1(30, 6), risen, "seeded");
}

/// Numbers of which the answers agree with the rows, or have nothing to do with them.
fn ranked(agrees: bool) -> Evaluation {
    let mut result = evaluation(0);
    result.header.harness = serde_json::from_value(json!({
        "score": "rho",
        "check": [{"name": "n", "kind": "number"}],
        "metric": [{"name": "rho", "checks": ["n"], "aggregate": "spearman"}],
    }))
    .unwrap();
    for (i, sample) in result.samples.iter_mut().enumerate() {
        let expected = i as f64;
        let found = if agrees { expected } else { ((i * 37) % 60) as f64 };
        let evidence = Evidence::Numbers { found, expected };
        sample.verdicts = [("n".to_owned(), Verdict::Counted { value: 1.0, evidence, reason: None })].into();
        sample.meta = json!({"of": i % 2, "each": i % 3, "one": i % 5}).as_object().unwrap().clone();
    }
    result
}

#[test]
fn ranks_bear_a_correction_for_many_tests_and_no_more_samples_are_asked_for_in_vain() {
    let (a, b) = (ranked(false), ranked(true));
    let entry = |name, evaluation| Entry { name, evaluation };
    let all = compare_many(entry("x", &a), &[entry("y", &b)], &CompareSettings::new(1)).unwrap();
    let rho = all.candidates[0].overall("rho").unwrap();
    assert_eq!(rho.p, Some(1.0 / 10_001.0), "{rho:?}");
    // As it stands among so many tests that the smallest p is not small enough.
    let pairs = cells::pair(&a.samples, &b.samples);
    let metric = &crate::harness::resolve_metrics(&a.header.harness).unwrap()[0];
    let cell = cells::cell(metric, &pairs, crate::compare::GROUP);
    let mut late = rho.clone();
    late.p_holm = Some(0.061);
    cells::plan(&mut late, &cell, 610);
    assert_eq!(late.more_rows_needed, None);
    let claim = crate::compare::claim::verdict(&late, 610, 0);
    assert_eq!(claim.kind(), ClaimKind::Nothing);
    assert!(claim.sentence().contains("fewer tests"), "{}", claim.sentence());
}

#[test]
fn slices_groups_and_margins_hold_for_numbers_of_the_corpus() {
    let settings = CompareSettings {
        by: vec!["half".into()],
        group: Some("dozen".into()),
        margin: Some(0.3),
        ..CompareSettings::new(1)
    };
    let all = compared(30, 6, settings);
    let cells = &all.candidates[0].comparisons;
    assert_eq!((cells.len(), all.group.as_deref()), (6, Some("dozen")));
    let overall = all.candidates[0].overall("f1").unwrap();
    let alone = compared(30, 6, CompareSettings::new(1));
    let alone = alone.candidates[0].overall("f1").unwrap();
    assert_eq!((overall.clusters, overall.difference), (Some(5), alone.difference));
    let width = |c: &Comparison| c.high.unwrap() - c.low.unwrap();
    assert!(width(overall) > 1.5 * width(alone), "five groups say less than sixty samples");
    assert!(overall.p.unwrap() > 0.05, "signs of five groups cannot tell anything at 5 %: {:?}", overall.p);
    let test = overall.non_inferiority.as_ref().unwrap();
    assert!(test.holds() && test.test == "one-sided paired bootstrap", "{test:?}");
    let second =
        cells.iter().find(|c| c.metric == "f1" && c.slice.as_ref().is_some_and(|slice| slice.value == "1"));
    let second = second.unwrap();
    assert_eq!((second.n, second.difference, second.p), (30, Some(0.0), Some(1.0)));
    // Means of the same cells stay means.
    let accuracy = all.candidates[0].overall("accuracy").unwrap();
    assert_eq!(accuracy.test, "cluster sign-flip test");
}

#[test]
fn one_sample_and_none_are_not_enough() {
    let (mut a, mut b) = (evaluation(3), evaluation(0));
    let first = |a: &Evaluation, b: &Evaluation| {
        let (x, y) = (Entry { name: "x", evaluation: a }, Entry { name: "y", evaluation: b });
        let all = compare_many(x, &[y], &CompareSettings::new(1)).unwrap();
        all.candidates[0].overall("f1").unwrap().clone()
    };
    a.samples.truncate(1);
    b.samples.truncate(1);
    let one = first(&a, &b);
    assert_eq!((one.n, one.difference, one.low, one.p), (1, Some(1.0), None, None));
    assert!(one.reason.unwrap().contains("not enough") && !one.verdict.unwrap().supported());
    a.samples[0].verdicts.clear();
    let none = first(&a, &b);
    assert_eq!((none.n, none.difference, none.p), (0, None, None));
    assert!(none.reason.unwrap().contains("not enough samples: none"));
}
