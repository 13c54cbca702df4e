//! Claim sentences from counted answers, and what is refused.

use super::words::rounded;
use super::*;
use crate::test_support::{measure, mock, task};

/// Evaluations of `n` samples, right where the two closures say.
fn two(n: usize, a: fn(usize) -> bool, b: fn(usize) -> bool) -> (Evaluation, Evaluation) {
    let folder = tempfile::tempdir().unwrap();
    let (task, set) = task(folder.path(), n);
    let run =
        |name: &str, right| measure(&task, &set, &mut mock(&task, &set, right), &folder.path().join(name));
    (run("a", a), run("b", b))
}

fn headline_of(n: usize, a: fn(usize) -> bool, b: fn(usize) -> bool) -> (Claim, Comparison) {
    let (a, b) = two(n, a, b);
    let comparisons = compare(&a, &b, ("base", "tuned"), &CompareSettings::new(1)).unwrap();
    (comparisons.claims().remove(0), comparisons.score)
}

#[test]
fn nothing_is_claimed_from_rows_that_were_trained_on() {
    let (a, b) = two(100, |i| i < 2, |i| i < 80);
    let claim = |shared| {
        let settings = CompareSettings { shared, ..CompareSettings::new(1) };
        compare(&a, &b, ("base", "tuned"), &settings).unwrap().claims().remove(0)
    };
    assert!(claim(0).supported());
    let (claim, more) = (claim(1), claim(7));
    assert_eq!(
        claim.sentence(),
        "Nothing may be claimed about which of tuned and base has the higher fields: \
         1 of the 100 measured inputs stands in the training rows too, so the scores measure memory as well."
    );
    assert!(!claim.supported() && more.sentence().contains("7 of the 100 measured inputs stand "));
}

#[test]
fn a_clear_gain_is_claimed_with_its_test() {
    let (claim, score) = headline_of(100, |i| i < 2, |i| i < 80);
    assert!(claim.supported());
    let start = "The tuned model is better than the base model at fields: 80.0 % against 2.0 %, +78.0 points (95 % interval ";
    assert!(claim.sentence().starts_with(start), "{}", claim.sentence());
    assert!(
        claim.sentence().ends_with("; paired permutation test, p < 0.001) on 100 samples."),
        "{}",
        claim.sentence()
    );
    assert_eq!((score.baseline_wins, score.candidate_wins, score.ties), (0, 78, 22));
    assert_eq!(score.more_rows_needed, None);
}

#[test]
fn a_clear_loss_is_claimed_as_one() {
    let (claim, _) = headline_of(100, |i| i < 80, |i| i < 20);
    assert!(claim.supported() && claim.sentence().contains("is worse than"), "{}", claim.sentence());
    assert!(claim.sentence().contains("−60.0 points"), "{}", claim.sentence());
}

#[test]
fn a_gain_on_every_sample_needs_no_interval() {
    let (claim, score) = headline_of(40, |_| false, |_| true);
    assert!(
        claim.supported() && claim.sentence().contains("+100.0 points (the same on every sample;"),
        "{claim:?}"
    );
    assert_eq!((score.low, score.reason.is_some()), (None, true));
}

#[test]
fn a_small_difference_is_not_claimed_and_says_what_it_would_take() {
    let (claim, score) = headline_of(100, |i| i % 10 < 5, |i| i % 10 < 5 && i != 1 || i % 33 == 9);
    assert!(!claim.supported());
    assert!(
        claim.sentence().starts_with("Nothing may be claimed about which of tuned and base"),
        "{}",
        claim.sentence()
    );
    assert!(
        claim.sentence().contains("more samples to tell a difference of this size"),
        "{}",
        claim.sentence()
    );
    assert!(!claim.sentence().contains("better"), "{}", claim.sentence());
    assert!(score.more_rows_needed.unwrap() > 50, "{score:?}");
}

#[test]
fn equal_answers_one_sample_and_few_samples_claim_nothing() {
    let (claim, score) = headline_of(50, |i| i < 20, |i| i < 20);
    assert!(!claim.supported() && claim.sentence().contains("do not differ"), "{}", claim.sentence());
    assert_eq!((score.p, score.difference, score.more_rows_needed), (Some(1.0), Some(0.0), None));
    let (claim, score) = headline_of(1, |_| false, |_| true);
    assert!(
        !claim.supported() && claim.sentence().contains("1 sample is not enough"),
        "{}",
        claim.sentence()
    );
    assert_eq!((score.p, score.low), (None, None));
    let (claim, _) = headline_of(4, |_| false, |_| true);
    assert!(!claim.supported() && claim.sentence().contains("about 2 more samples"), "{}", claim.sentence());
}

#[test]
fn rates_use_mcnemar_and_are_corrected_together() {
    let (a, b) = two(30, |i| i < 3, |i| i < 20);
    let comparisons = compare(&a, &b, ("base", "tuned"), &CompareSettings::new(1)).unwrap();
    let valid = &comparisons.others[0];
    assert_eq!((valid.metric.as_str(), valid.test.as_str()), ("valid", "exact McNemar test"));
    assert_eq!(valid.p, Some(statistics::mcnemar_exact(0, 17)));
    assert_eq!(valid.p_holm, valid.p, "one test has nothing to be corrected with");
    assert_eq!(comparisons.score.p_holm, None);
}

#[test]
fn runs_on_other_samples_are_compared_on_the_common_ones_or_refused() {
    let (a, mut b) = two(10, |i| i < 5, |_| true);
    b.samples.drain(..5);
    let comparisons = compare(&a, &b, ("base", "tuned"), &CompareSettings::new(1)).unwrap();
    assert_eq!((comparisons.score.n, comparisons.only_baseline, comparisons.only_candidate), (5, 5, 0));
    assert_eq!(comparisons.score.baseline_value, Some(0.0));
    b.samples[0].input = "changed".into();
    let error = compare(&a, &b, ("base", "tuned"), &CompareSettings::new(1)).unwrap_err().to_string();
    assert!(error.contains("at least half of 10, found 4"), "{error}");
}

#[test]
fn other_checks_are_refused() {
    let (a, mut b) = two(4, |_| true, |_| true);
    b.header.harness_fingerprint = "other".into();
    assert_eq!(compare(&a, &b, ("base", "tuned"), &CompareSettings::new(1)).unwrap_err().kind(), Kind::Usage);
}

#[test]
fn answers_that_met_other_encoders_are_refused_where_both_are_known() {
    let (mut a, mut b) = two(4, |_| true, |_| true);
    let compared = |a: &Evaluation, b: &Evaluation| {
        compare(a, b, ("base", "tuned"), &CompareSettings::new(1)).map(|_| ())
    };
    a.header.encoders = [("minilm".to_owned(), "1".to_owned())].into();
    compared(&a, &b).unwrap();
    b.header.encoders = a.header.encoders.clone();
    compared(&a, &b).unwrap();
    b.header.encoders.insert("minilm".into(), "2".into());
    assert!(compared(&a, &b).unwrap_err().to_string().contains("different encoders"));
}

#[test]
fn a_field_of_lists_is_no_slice_and_no_group() {
    let (mut a, b) = two(10, |_| true, |i| i < 5);
    a.samples[3].meta.insert("tags".into(), serde_json::json!(["x", "y"]));
    let plain = CompareSettings::new(1);
    let by = CompareSettings { by: vec!["tags".into()], ..plain.clone() };
    let grouped = CompareSettings { group: Some("tags".into()), ..plain };
    for settings in [by, grouped] {
        let (base, tuned) = (Entry { name: "base", evaluation: &a }, Entry { name: "tuned", evaluation: &b });
        let error = compare_many(base, &[tuned], &settings).unwrap_err().to_string();
        assert!(error.contains("`tags`") && error.contains("an array"), "{error}");
    }
}

#[test]
fn numbers_in_sentences_are_never_zero_with_a_sign_or_too_precise() {
    use crate::statistics::Unit::{Number, Share};
    assert_eq!((Share.difference(-0.0001), Share.difference(0.01234)), ("0.0".to_owned(), "+1.2".to_owned()));
    assert_eq!((Share.value(0.785), Share.bare(0.785)), ("78.5 %".to_owned(), "78.5".to_owned()));
    assert_eq!((Number.value(-0.004), Number.difference(-0.114)), ("0.00".to_owned(), "−0.11".to_owned()));
    assert_eq!(
        (words::p_words(0.0), words::p_words(0.0312), words::p_words(0.5149)),
        ("p < 0.001".into(), "p = 0.031".into(), "p = 0.51".into())
    );
    assert_eq!(
        (rounded(7), rounded(99), rounded(1234), rounded(1_234_567)),
        ("7".into(), "99".into(), "1,300".into(), "1,300,000".into())
    );
}
