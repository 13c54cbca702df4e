//! Several candidates, slices, groups and margins: what each comparison rests on and what may be said of it.

use super::*;
use crate::statistics::EffectKind;
use crate::test_support::{measure, mock, task};
use serde_json::json;

/// An evaluation of `n` samples that is right where `right` says, with `meta` on each.
fn evaluation(n: usize, right: impl Fn(usize) -> bool, meta: fn(usize) -> serde_json::Value) -> Evaluation {
    let folder = tempfile::tempdir().unwrap();
    let (task, set) = task(folder.path(), n);
    let mut result = measure(&task, &set, &mut mock(&task, &set, right), &folder.path().join("record"));
    for (i, sample) in result.samples.iter_mut().enumerate() {
        sample.meta = meta(i).as_object().unwrap().clone();
    }
    result
}

fn entry<'a>(name: &'a str, evaluation: &'a Evaluation) -> Entry<'a> {
    Entry { name, evaluation }
}

fn tiers(i: usize) -> serde_json::Value {
    json!({"difficulty": (["easy", "hard"][i % 2]), "page": i, "text": [i], "id": format!("x{i}")})
}

#[test]
fn slices_have_their_own_n_interval_test_and_sentence() {
    let base = evaluation(80, |i| i < 4, tiers);
    let tuned = evaluation(80, |i| i < 4 || i % 2 == 0, tiers);
    let settings = CompareSettings { by: vec!["difficulty".into()], ..CompareSettings::new(1) };
    let all = compare_many(entry("base", &base), &[entry("tuned", &tuned)], &settings).unwrap();
    let only = &all.candidates[0];
    assert_eq!((only.comparisons.len(), only.common, all.primary), (6, 80, Some(0)));
    let on = |value: &str| {
        let is = |c: &&Comparison| c.metric == "fields" && c.slice.as_ref().is_some_and(|s| s.value == value);
        only.comparisons.iter().find(is).unwrap()
    };
    let (easy, hard) = (on("easy"), on("hard"));
    assert_eq!((easy.n, easy.candidate_wins, hard.n, hard.candidate_wins), (40, 38, 40, 0));
    assert!(easy.candidate_interval.is_some() && easy.p_holm > easy.p);
    let sentence = easy.verdict.as_ref().unwrap().sentence();
    assert!(
        sentence.contains("is better than the base model at fields where difficulty is easy: "),
        "{sentence}"
    );
    assert!(
        sentence.contains("corrected for 5 tests"),
        "the score on all samples is not among them: {sentence}"
    );
    assert_eq!(hard.verdict.as_ref().unwrap().kind(), ClaimKind::Nothing);
    let score = only.overall("fields").unwrap();
    assert_eq!((score.p_holm, score.verdict.as_ref().unwrap().kind()), (None, ClaimKind::Better));
    assert_eq!(all.claims(), [score.verdict.clone().unwrap()]);
}

#[test]
fn a_slice_of_one_is_not_enough_and_says_so() {
    let meta = |i: usize| json!({"kind": if i == 0 { "rare" } else { "usual" }});
    let (a, b) = (evaluation(30, |_| false, meta), evaluation(30, |_| true, meta));
    let settings = CompareSettings { by: vec![ALL_FIELDS.into()], ..CompareSettings::new(1) };
    let all = compare_many(entry("a", &a), &[entry("b", &b)], &settings).unwrap();
    let rare =
        all.candidates[0].comparisons.iter().find(|c| c.slice.as_ref().is_some_and(|s| s.value == "rare"));
    let rare = rare.unwrap();
    assert_eq!((rare.n, rare.p, rare.low, rare.baseline_interval), (1, None, None, None));
    assert!(
        rare.reason.as_ref().unwrap().contains("not enough") && !rare.verdict.as_ref().unwrap().supported()
    );
    assert!(rare.verdict.as_ref().unwrap().sentence().contains("1 sample is not enough"));
    // No verdicts at all: a number of nothing.
    let mut none = b.clone();
    none.samples.iter_mut().for_each(|sample| sample.verdicts.clear());
    let nothing = compare(&a, &none, ("a", "b"), &CompareSettings::new(1)).unwrap().score;
    assert_eq!((nothing.n, nothing.difference, nothing.p), (0, None, None));
    assert!(nothing.reason.unwrap().contains("not enough samples: none"));
}

#[test]
fn fields_become_slices_where_they_have_few_values_and_numbers_become_thirds() {
    let a = evaluation(90, |_| true, tiers);
    assert_eq!(slice_fields(&a.samples, "group"), ["difficulty"], "lists, names and many numbers are none");
    assert!(slice_fields(&a.samples, "difficulty").is_empty());
    let pages = slices::slicing(&a.samples, "page").unwrap();
    let names: Vec<&str> = pages.slices.iter().map(|slice| slice.value.as_str()).collect();
    assert_eq!(names, ["1st third, up to 29", "2nd third, up to 59", "3rd third, above 59"]);
    assert_eq!([0, 30, 60].map(|i| pages.index(&format!("r{i}"))), [Some(0), Some(1), Some(2)]);
    let error = slices::slicing(&a.samples, "id").unwrap_err().to_string();
    assert!(error.contains("too many values") && error.contains("found 90"), "{error}");
    let error = slices::slicing(&a.samples, "level").unwrap_err().to_string();
    assert!(error.contains("one of `difficulty`, `id`"), "{error}");
}

#[test]
fn groups_are_what_intervals_and_tests_count() {
    // Four documents of ten samples: what looks like twenty gains is two.
    let grouped = |i: usize| json!({"group": i / 10, "page": i});
    let (a, b) = (evaluation(40, |_| false, grouped), evaluation(40, |i| i < 20, grouped));
    let score = compare(&a, &b, ("a", "b"), &CompareSettings::new(1)).unwrap().score;
    assert_eq!(
        (score.clusters, score.test.as_str(), score.p),
        (Some(4), "cluster sign-flip test", Some(0.5))
    );
    let verdict = score.verdict.unwrap();
    assert!(!verdict.supported() && verdict.sentence().contains("on 40 samples in 4 groups"), "{verdict:?}");
    assert!(score.high.unwrap() - score.low.unwrap() > 0.6, "{:?} to {:?}", score.low, score.high);
    let alone = CompareSettings { group: Some("page".into()), ..CompareSettings::new(1) };
    let score = compare(&a, &b, ("a", "b"), &alone).unwrap().score;
    assert!(score.clusters.is_none() && score.verdict.unwrap().supported(), "groups of one are none");
    let unknown = CompareSettings { group: Some("book".into()), ..CompareSettings::new(1) };
    assert!(compare(&a, &b, ("a", "b"), &unknown).unwrap_err().to_string().contains("`book`"));
    let single = |_: usize| json!({"group": 1});
    let (a, b) = (evaluation(10, |_| false, single), evaluation(10, |i| i < 5, single));
    let score = compare(&a, &b, ("a", "b"), &CompareSettings::new(1)).unwrap().score;
    assert_eq!((score.p, score.low), (None, None));
    assert!(score.verdict.unwrap().sentence().contains("1 group is not enough"));
}

#[test]
fn of_baselines_that_are_equally_strong_the_simplest_is_the_strongest() {
    let none = |_: usize| json!({});
    let (half, tuned) = (evaluation(40, |i| i < 20, none), evaluation(40, |i| i < 30, none));
    let other_half = evaluation(40, |i| i >= 20, none);
    let baselines = [entry("few-shot", &half), entry("linear", &other_half), entry("majority", &half)];
    let all = compare_with_all(entry("tuned", &tuned), &baselines, &CompareSettings::new(1)).unwrap();
    assert_eq!(all.with_strongest().unwrap().baseline, "majority");
}

#[test]
fn the_strongest_is_found_on_the_samples_in_common() {
    let none = |_: usize| json!({});
    let tuned = evaluation(40, |i| i < 20, none);
    let plain = evaluation(40, |i| i < 15, none);
    // Right on more of its own samples, but on fewer of those that the tuned model answered.
    let mut lucky = evaluation(60, |i| !(14..40).contains(&i), none);
    lucky.samples.retain(|sample| sample.id != "r14");
    let baselines = [entry("base", &plain), entry("few-shot", &lucky)];
    let all = compare_with_all(entry("tuned", &tuned), &baselines, &CompareSettings::new(1)).unwrap();
    assert!(lucky.score > plain.score);
    assert_eq!(all.with_strongest().unwrap().baseline, "base");
}

#[test]
fn a_stated_margin_allows_to_say_not_worse_by_more() {
    let none = |_: usize| json!({});
    let base = evaluation(400, |i| i < 300, none);
    let close = evaluation(400, |i| i < 298 || (300..302).contains(&i), none);
    let margin = |margin| CompareSettings { margin: Some(margin), ..CompareSettings::new(1) };
    let verdict =
        |settings: &CompareSettings| compare(&base, &close, ("base", "small"), settings).unwrap().score;
    let score = verdict(&margin(0.03));
    let claim = score.verdict.unwrap();
    assert_eq!((claim.kind(), claim.supported()), (ClaimKind::NonInferior, true));
    assert!(
        claim.sentence().starts_with("The small model is not worse than the base model at fields by more than 3.0 points (non-inferior): "),
        "{}",
        claim.sentence()
    );
    let tight = verdict(&margin(0.004)).verdict.unwrap();
    assert_eq!(tight.kind(), ClaimKind::Nothing, "{tight:?}");
    assert_eq!(
        verdict(&CompareSettings::new(1)).verdict.unwrap().kind(),
        ClaimKind::Nothing,
        "no margin, no claim"
    );
    let error = compare(&base, &close, ("a", "b"), &margin(1.5)).unwrap_err();
    assert!(error.kind() == Kind::Usage && error.to_string().contains("0.02"), "{error}");
}

#[test]
fn many_candidates_are_corrected_together() {
    let none = |_: usize| json!({});
    let base = evaluation(60, |i| i < 20, none);
    let others: Vec<Evaluation> =
        (0..6).map(|c| evaluation(60, move |i| (c..26 + c).contains(&i), none)).collect();
    let names = ["a", "b", "c", "d", "e", "f"];
    let entries: Vec<Entry<'_>> = names.iter().zip(&others).map(|(name, e)| entry(name, e)).collect();
    let all = compare_many(entry("base", &base), &entries, &CompareSettings::new(1)).unwrap();
    assert_eq!((all.primary, all.corrected_tests, all.claims().len()), (None, 12, 6));
    let first = all.candidates[0].overall("fields").unwrap();
    // Six samples gained and none lost: told alone, but not as one of twelve.
    assert!(first.p.unwrap() < 0.05 && first.p_holm.unwrap() > 0.05, "{:?} {:?}", first.p, first.p_holm);
    assert!(!first.verdict.as_ref().unwrap().supported() && first.more_rows_needed.is_some());
    let primary = CompareSettings { primary: Some(0), ..CompareSettings::new(1) };
    let stated = compare_many(entry("base", &base), &entries, &primary).unwrap();
    assert_eq!(stated.corrected_tests, 11);
    assert!(stated.claims()[0].supported() && !stated.claims()[1].supported());
    // The same pairs alone give the same numbers: no interval depends on what else is compared.
    let alone = compare(&base, &others[2], ("base", "c"), &CompareSettings::new(1)).unwrap().score;
    let third = all.candidates[2].overall("fields").unwrap();
    assert_eq!((alone.low, alone.high, alone.p), (third.low, third.high, third.p));
    let text = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<ManyComparisons>(&text).unwrap(), all);
    let none = compare_many(entry("base", &base), &[], &CompareSettings::new(1));
    assert_eq!(none.unwrap_err().kind(), Kind::Usage);
}

#[test]
fn effects_go_with_the_metric() {
    let none = |_: usize| json!({});
    let (a, b) = (evaluation(30, |i| i < 10, none), evaluation(30, |i| i < 20, none));
    let both = compare(&a, &b, ("a", "b"), &CompareSettings::new(1)).unwrap();
    let kinds = |c: &Comparison| c.effects.iter().map(|effect| effect.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&both.score), [EffectKind::StandardisedDifference]);
    assert_eq!(kinds(&both.others[0])[0], EffectKind::RiskDifference);
    assert!((both.others[0].effects[0].value.unwrap() - 1.0 / 3.0).abs() < 1e-12);
}

#[test]
fn an_evaluation_alone_respects_groups_too() {
    let folder = tempfile::tempdir().unwrap();
    let (task, mut set) = task(folder.path(), 60);
    let width = |set: &crate::split::EvalSet, name: &str| {
        let result =
            measure(&task, set, &mut mock(&task, set, |i| i / 10 % 2 == 0), &folder.path().join(name));
        let score = result.metrics["fields"].clone();
        assert_eq!(score.value, Some(0.5));
        score.high.unwrap() - score.low.unwrap()
    };
    let alone = width(&set, "alone");
    for (i, sample) in set.samples.iter_mut().enumerate() {
        sample.meta.insert(GROUP.into(), json!(i / 10));
    }
    let grouped = width(&set, "grouped");
    assert!(grouped > 2.0 * alone, "six documents are not sixty samples: {alone} {grouped}");
}
