//! Against scipy and statsmodels (`reference/statistics_goldens.py`), and the ends where there is little or nothing to count.

use super::*;
use serde_json::Value;

fn reference(name: &str) -> Vec<Value> {
    let text = include_str!("../tests/data/statistics.json");
    let cases = serde_json::from_str::<Value>(text).unwrap()[name].as_array().unwrap().clone();
    assert!(cases.len() >= 2, "{name}");
    cases
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn assert_near(found: f64, expected: &Value, tolerance: f64, what: &str) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() <= tolerance, "{what}: expected {expected}, found {found}");
}

#[test]
fn wilson_is_statsmodels() {
    for case in reference("wilson") {
        let count = |name: &str| case[name].as_u64().unwrap() as usize;
        let found = rate(count("passed"), count("n"));
        assert_near(found.low.unwrap(), &case["interval"][0], 1e-9, "low");
        assert_near(found.high.unwrap(), &case["interval"][1], 1e-9, "high");
    }
}

#[test]
fn mcnemar_is_statsmodels() {
    for case in reference("mcnemar") {
        let count = |name: &str| case[name].as_u64().unwrap() as usize;
        assert_near(mcnemar_exact(count("first"), count("second")), &case["p"], 1e-9, "p");
    }
    assert_eq!(mcnemar_exact(0, 0), 1.0);
}

#[test]
fn the_permutation_test_is_scipy_exactly_where_all_patterns_are_counted() {
    for case in reference("permutation") {
        let found = paired_permutation(&numbers(&case["differences"]), 1).unwrap();
        // Two drawn values differ by chance: four standard errors of 10,000 draws at p near 0.05.
        let tolerance = if case["exact"].as_bool().unwrap() { 1e-9 } else { 0.01 };
        assert_near(found, &case["p"], tolerance, "p");
    }
}

#[test]
fn the_bootstrap_is_scipy_up_to_the_noise_of_its_draws() {
    for case in reference("bootstrap") {
        let found = bootstrap_mean(&numbers(&case["values"]), 5).unwrap();
        assert_near(found.low, &case["low"], 0.005, "low");
        assert_near(found.high, &case["high"], 0.005, "high");
    }
}

#[test]
fn holm_and_the_rows_needed_are_statsmodels() {
    for case in reference("holm") {
        let found = holm(&numbers(&case["p"]));
        for (found, expected) in found.iter().zip(case["adjusted"].as_array().unwrap()) {
            assert_near(*found, expected, 1e-9, "adjusted p");
        }
    }
    assert!(holm(&[]).is_empty());
    for case in reference("rows_needed") {
        let found = rows_needed(&numbers(&case["differences"])).unwrap();
        assert_near(found as f64, &case["n"], 1.5, "rows");
    }
}

#[test]
fn draws_repeat_with_the_seed_and_change_with_it() {
    let values: Vec<f64> = (0..50).map(|i| f64::from(i % 7) / 7.0).collect();
    assert_eq!(mean_in_unit(&values, 1), mean_in_unit(&values, 1));
    assert_ne!(mean_in_unit(&values, 1), mean_in_unit(&values, 2));
    let differences: Vec<f64> = values.iter().map(|value| value - 0.38).collect();
    assert_eq!(paired_permutation(&differences, 1), paired_permutation(&differences, 1));
}

#[test]
fn none_and_one_are_not_enough() {
    for estimate in [rate(0, 0), mean_in_unit(&[], 1)] {
        assert_eq!((estimate.value, estimate.low, estimate.high, estimate.n), (None, None, None, 0));
        assert!(estimate.reason.unwrap().contains("not enough"));
    }
    for estimate in [rate(1, 1), mean_in_unit(&[1.0], 1), mean_in_unit(&[0.4], 1)] {
        assert!(estimate.value.is_some() && estimate.low.is_none() && estimate.reason.is_some());
    }
    assert_eq!(paired_permutation(&[], 1), None);
    assert_eq!(paired_permutation(&[0.5], 1), None);
    assert_eq!(rows_needed(&[]), None);
    assert_eq!(rows_needed(&[0.5]), None);
}

#[test]
fn equal_answers_never_give_an_interval_of_width_zero() {
    let zeros = mean_in_unit(&[0.0; 100], 1);
    assert_eq!((zeros.value, zeros.low), (Some(0.0), Some(0.0)));
    assert!((0.03..0.04).contains(&zeros.high.unwrap()), "{zeros:?}");
    assert!(mean_in_unit(&[1.0; 100], 1).low.unwrap() < 0.97);
    let constant = mean_in_unit(&[0.25; 100], 1);
    assert_eq!((constant.value, constant.low), (Some(0.25), None));
    assert_eq!(paired_permutation(&[0.0; 40], 1), Some(1.0));
    assert_eq!(rows_needed(&[0.0; 40]), None);
    assert_eq!(rows_needed(&[1.0; 40]), Some(6));
}

#[test]
fn a_hit_among_zeros_never_narrows_the_interval() {
    for hit in [0.25, 0.5, 1.0] {
        let interval = |hits: usize| {
            let values: Vec<f64> = (0..100).map(|i| if i < hits { hit } else { 0.0 }).collect();
            let mirrored: Vec<f64> = values.iter().map(|value| 1.0 - value).collect();
            (mean_in_unit(&values, 1), mean_in_unit(&mirrored, 1))
        };
        for hits in 1..FEW {
            let (less, more) = (interval(hits - 1), interval(hits));
            assert!(more.0.high >= less.0.high, "{hits} of {hit}: {more:?}, one less: {less:?}");
            assert!(more.1.low <= less.1.low, "{hits} of {hit} below 1: {more:?}, one less: {less:?}");
            assert!(more.0.low <= more.0.value && more.0.value <= more.0.high);
        }
        let drawn = bootstrap_mean(&[vec![hit; 10], vec![0.0; 90]].concat(), 1).unwrap();
        assert_eq!(interval(10).0.high, Some(drawn.high), "ten are enough to be redrawn");
    }
}

#[test]
fn a_p_value_is_never_zero() {
    let p = paired_permutation(&[1.0; 500], 1).unwrap();
    assert!(p > 0.0 && p < 0.001, "{p}");
}
