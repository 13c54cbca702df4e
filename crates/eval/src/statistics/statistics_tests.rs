//! Against scipy and statsmodels (`reference/statistics_goldens.py`), and the ends where there is little or nothing to count.

use super::non_inferiority::tango;
use super::power::Design;
use super::*;
use serde_json::Value;

fn reference(name: &str) -> Vec<Value> {
    let text = include_str!("../../tests/data/statistics.json");
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

#[test]
fn the_cluster_bootstrap_is_the_reference_up_to_the_noise_of_its_draws() {
    for case in reference("cluster_bootstrap") {
        let groups: Vec<Vec<f64>> = case["clusters"].as_array().unwrap().iter().map(numbers).collect();
        let labels: Vec<Option<usize>> =
            groups.iter().enumerate().flat_map(|(i, group)| vec![Some(i); group.len()]).collect();
        let (values, clusters) = (groups.concat(), Clusters::new(&labels));
        let column = Column { values: &values, clusters: Some(&clusters) };
        let found = bootstrap_means(&[column], &Draws { seed: 5, count: 200_000 }).remove(0).unwrap();
        assert_near(found.low, &case["low"], 0.003, "low");
        assert_near(found.high, &case["high"], 0.003, "high");
        let alone = bootstrap_mean(&values, 5).unwrap();
        assert!(alone.high - alone.low < 0.8 * (found.high - found.low), "{alone:?} {found:?}");
    }
}

#[test]
fn non_inferiority_is_scipy_and_tango() {
    for case in reference("t_test") {
        let found =
            non_inferiority(&numbers(&case["differences"]), false, None, case["margin"].as_f64().unwrap());
        assert_near(found.p.unwrap(), &case["p"], 1e-6, "t test");
    }
    for case in reference("tango") {
        let number = |name: &str| case[name].as_f64().unwrap();
        let counts = tango::Counts { gained: number("gained"), lost: number("lost"), n: number("n") };
        assert_near(tango::p(&counts, number("margin")), &case["p"], 1e-6, "score test");
    }
}

#[test]
fn equal_answers_are_not_inferior_only_where_there_are_enough_of_them() {
    for yes_or_no in [true, false] {
        let p = |n: usize| non_inferiority(&vec![0.0; n], yes_or_no, None, 0.02).p;
        assert_eq!((p(0), p(1)), (None, None));
        assert!(p(2).unwrap() > 0.4 && p(100).unwrap() > 0.05 && p(200).unwrap() < 0.025, "{yes_or_no}");
    }
    // In clusters it is their number that counts: twenty of ten are not two hundred.
    let clusters = Clusters::new(&(0..200).map(|i| Some(i / 10)).collect::<Vec<_>>());
    let found = non_inferiority(&[0.0; 200], true, Some(&clusters), 0.02);
    assert!(!found.holds() && found.p.unwrap() > 0.2, "{found:?}");
}

#[test]
fn tango_contains_what_its_test_does_not_reject() {
    let counts = tango::Counts { gained: 3.0, lost: 9.0, n: 150.0 };
    let interval = tango::interval(&counts);
    assert!(interval.low < -0.04 && interval.high > -0.04 && interval.high < 0.01, "{interval:?}");
    assert!((tango::p(&counts, -interval.low) - 0.025).abs() < 1e-6);
    assert!((tango::p(&counts, -interval.high) - 0.975).abs() < 1e-6);
}

#[test]
fn effects_are_statsmodels_and_scipy() {
    for case in reference("effects") {
        let count = |name: &str| case[name].as_u64().unwrap() as usize;
        let (lost, gained) = (count("lost"), count("gained"));
        let parts = [
            (lost, (1.0, 0.0)),
            (gained, (0.0, 1.0)),
            (count("both"), (1.0, 1.0)),
            (count("neither"), (0.0, 0.0)),
        ];
        let pairs: Vec<(f64, f64)> = parts.iter().flat_map(|&(n, pair)| vec![pair; n]).collect();
        let found = effects::of_rates(&pairs);
        let kinds: Vec<EffectKind> = found.iter().map(|effect| effect.kind).collect();
        assert_eq!(kinds, [EffectKind::RiskDifference, EffectKind::PairedOddsRatio, EffectKind::CohenH]);
        let difference = (gained as f64 - lost as f64) / pairs.len() as f64;
        assert!((found[0].value.unwrap() - difference).abs() < 1e-12);
        assert_eq!(found[1].value, Some(gained as f64 / lost as f64));
        assert_near(found[2].value.unwrap(), &case["cohen_h"], 1e-6, "Cohen's h");
    }
    for case in reference("standardised") {
        let found = effects::of_differences(&numbers(&case["differences"]));
        assert_near(found[0].value.unwrap(), &case["d"], 1e-6, "standardised difference");
    }
    let only_gained = effects::of_rates(&[(0.0, 1.0), (1.0, 1.0)]);
    assert!(only_gained[1].value.is_none() && only_gained[1].reason.is_some());
    assert!(effects::of_rates(&[]).is_empty());
    for few in [&[][..], &[0.5], &[0.5, 0.5]] {
        let found = effects::of_differences(few);
        assert!(found[0].value.is_none() && found[0].reason.is_some(), "{few:?}");
    }
}

#[test]
fn planned_rows_are_statsmodels() {
    for case in reference("unpaired_rows") {
        let number = |name: &str| case[name].as_f64().unwrap();
        let design = Design::Unpaired { accuracy: number("accuracy") };
        let plan = design.rows(number("difference"), number("power")).unwrap();
        assert_eq!(plan.rows as f64, number("n").ceil());
    }
    for case in reference("paired_rows") {
        let number = |name: &str| case[name].as_f64().unwrap();
        let design = Design::Discordance { discordance: number("discordance") };
        let about = design.normal_rows(number("difference"), number("power")).unwrap();
        assert_eq!(about as f64, number("n").ceil());
    }
}

#[test]
fn planned_rows_of_paired_answers_are_the_least_that_the_exact_test_needs() {
    for case in reference("exact_rows") {
        let number = |name: &str| case[name].as_f64().unwrap();
        let (d, rows) = (number("difference"), case["n"].as_u64().unwrap());
        let design = Design::Discordance { discordance: number("discordance") };
        assert_eq!(design.rows(d, number("power")).unwrap().rows, rows);
        for (rows, chance) in [(rows, number("chance")), (rows - 1, number("chance_of_one_less"))] {
            assert!((design.power(d, rows).unwrap() - chance).abs() < 1e-8, "{case:?}");
        }
        if number("discordance") > d {
            let back = design.smallest(rows, number("power")).unwrap();
            assert!((0.0..1e-3).contains(&(d - back.difference)), "{back:?}");
        }
    }
}

#[test]
fn where_a_great_many_rows_differ_the_normal_approximation_is_as_good() {
    for (discordance, d) in [(0.1, 0.002), (0.5, 0.01), (0.9, 0.01)] {
        let design = Design::Discordance { discordance };
        let most = (20_000.0 / discordance) as u64;
        let (exact, about) = (design.power(d, most).unwrap(), design.normal_power(d, most).unwrap());
        assert!((about - exact).abs() < 0.003, "{design:?} {most}: {exact} {about}");
    }
}

#[test]
fn few_rows_are_promised_no_more_than_the_exact_test_can_show() {
    let half = Design::Discordance { discordance: 0.5 };
    assert_eq!(half.power(0.5, 5).unwrap(), 0.0, "five rows that differ have a p of 0.0625 at least");
    // Six rows are told only where all of them differ in one direction.
    let sure = Design::Discordance { discordance: 0.2 };
    assert!((sure.power(0.2, 6).unwrap() - 0.2f64.powi(6)).abs() < 1e-12);
}

#[test]
fn plans_that_cannot_be_are_refused() {
    let correlated = |accuracy, correlation| Design::Correlation { accuracy, correlation };
    // Independent answers: 0.8 × 0.15 + 0.85 × 0.2 of them differ.
    let discordance = correlated(0.8, 0.0).discordance(0.05).unwrap().unwrap();
    assert!((discordance - 0.29).abs() < 1e-12);
    assert!(
        correlated(0.8, 0.5).rows(0.05, 0.8).unwrap().rows
            < correlated(0.8, 0.0).rows(0.05, 0.8).unwrap().rows
    );
    for refused in [
        correlated(0.8, -1.0).rows(0.05, 0.8),
        Design::Discordance { discordance: 1.5 }.rows(0.05, 0.8),
        correlated(0.8, 0.5).rows(0.0, 0.8),
        correlated(0.8, 0.5).rows(0.3, 0.8),
        correlated(0.8, 0.99).rows(0.1, 0.8),
        correlated(1.2, 0.0).rows(0.1, 0.8),
        correlated(0.8, 0.5).rows(0.05, 1.0),
        correlated(0.8, 0.5).rows(0.05, f64::NAN),
        correlated(0.8, 0.5).rows(f64::NAN, 0.8),
        Design::Discordance { discordance: 0.02 }.rows(0.05, 0.8),
        Design::Unpaired { accuracy: 0.99 }.rows(0.05, 0.8),
        Design::Graded { variance: -1.0, unit: Unit::Share }.rows(0.05, 0.8),
        Design::Discordance { discordance: f64::NAN }.rows(0.05, 0.8),
        correlated(0.8, 0.5).smallest(1, 0.8),
        Design::Unpaired { accuracy: 0.1 }.smallest(4, 0.8),
        Design::Graded { variance: 0.2, unit: Unit::Share }.smallest(2, 0.8),
    ] {
        assert_eq!(refused.unwrap_err().kind(), crate::Kind::Usage);
    }
}

#[test]
fn a_column_does_not_depend_on_the_others_or_on_threads() {
    let values: Vec<Vec<f64>> =
        (0..11).map(|c| (0..40).map(|i| f64::from((i * 7 + c) % 23) / 23.0).collect()).collect();
    let columns: Vec<Column<'_>> = values.iter().map(|values| Column { values, clusters: None }).collect();
    let all = bootstrap_means(&columns, &Draws::new(3));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(all, pool.install(|| bootstrap_means(&columns, &Draws::new(3))));
    for (column, together) in columns.iter().zip(all) {
        assert_eq!(together, bootstrap_mean(column.values, 3));
    }
}

#[test]
fn counts_give_the_same_interval_as_redrawing_each_sample() {
    let few: Vec<f64> = (0..300).map(|i| f64::from(i % 5) / 4.0).collect();
    // A hair on each number makes them distinct, so that samples are redrawn one by one.
    let many: Vec<f64> = few.iter().enumerate().map(|(i, value)| value + 1e-9 * i as f64).collect();
    let (a, b) = (bootstrap_mean(&few, 1).unwrap(), bootstrap_mean(&many, 2).unwrap());
    assert!((a.low - b.low).abs() < 0.003 && (a.high - b.high).abs() < 0.003, "{a:?} {b:?}");
    let differences: Vec<f64> = (0..90).map(|i| f64::from(i % 5 - 1) / 4.0 - 0.15).collect();
    let fine: Vec<f64> = differences.iter().enumerate().map(|(i, d)| d + 1e-12 * i as f64).collect();
    let (a, b) = (paired_permutation(&differences, 1).unwrap(), paired_permutation(&fine, 2).unwrap());
    assert!(a < 0.9 && a > 0.001 && (a - b).abs() < 0.015, "{a} {b}");
}

#[test]
fn a_clear_difference_survives_the_correction_for_thousands_of_tests() {
    let clear = paired_permutation(&[1.0; 200], 1).unwrap();
    // All signs equal: the exact p is 2 / 2^200.
    assert!(clear >= 2f64.powi(-199) && clear < 1e-20, "{clear}");
    let (mut p, mut fine) = (vec![0.5; 5000], vec![0.6; 300]);
    p.push(clear);
    assert!(holm(&p)[5000] < 0.05);
    fine.iter_mut().enumerate().for_each(|(i, d)| *d += 1e-6 * i as f64);
    assert!(paired_permutation(&fine, 1).unwrap() < 1e-20, "redrawn by tables, too");
    assert!(
        paired_permutation(&[vec![1.0; 24], vec![-1.0; 6]].concat(), 1).unwrap() > 1e-4,
        "what draws can show stays"
    );
}

#[test]
fn numbers_of_their_own_are_planned_for_beyond_1() {
    let marks = Design::Graded { variance: 9.0, unit: Unit::Number };
    let plan = marks.rows(2.5, 0.8).unwrap();
    assert!((marks.smallest(plan.rows, 0.8).unwrap().difference - 2.5).abs() < 0.1, "{plan:?}");
    assert!(marks.rows(0.0, 0.8).is_err());
}

#[test]
fn no_plan_promises_what_no_test_can_show() {
    // Six of ten lost: at 0.05/6, eight must differ, all in one direction.
    let mut differences = vec![0.0; 4];
    differences.extend([-1.0; 6]);
    assert!(rows_needed_at(&differences, ALPHA / 6.0).unwrap() >= 14);
    assert!(rows_needed_at(&[-1.0, -1.0, -1.0], ALPHA).unwrap() >= 6);
    let design = Design::Correlation { accuracy: 0.8, correlation: 0.5 };
    let error = design.smallest(20, 0.8).unwrap_err().to_string();
    let rows = error.split("at least ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let rows: u64 = rows.parse().unwrap();
    assert!(
        rows > 20 && design.smallest(rows, 0.8).is_ok() && design.smallest(rows - 1, 0.8).is_err(),
        "{error}"
    );
    let percent = Design::Correlation { accuracy: 80.0, correlation: 0.5 };
    assert!(percent.smallest(20, 0.8).unwrap_err().to_string().contains("a share of 0 to 1"));
}
