//! The comparison of two candidates on a number of the corpus (`corpus`), where the difference is no mean over samples:
//! the paired approximate randomisation test (Noreen 1989), which swaps the two outputs on random samples, and a paired
//! bootstrap interval. `compare` asks here first and says what the numbers mean.

use crate::compare::{Comparison, Pair};
use crate::corpus::{Statistic, bootstrap};
use crate::harness::{Metric, Verdicts};
use crate::random::Random;

/// The comparison, or `None` where the metric is a mean over samples.
pub(crate) fn compare(
    metric: &Metric,
    pairs: &[Pair<'_>],
    names: (&str, &str),
    seed: u64,
) -> Option<Comparison> {
    // The baseline's samples, then the candidate's, so that one choice can mix them.
    let verdicts: Vec<&Verdicts> =
        pairs.iter().map(|pair| &pair.0.verdicts).chain(pairs.iter().map(|pair| &pair.1.verdicts)).collect();
    if metric.is_mean_over(&verdicts) {
        return None;
    }
    let n = pairs.len();
    let statistic = metric.statistic(&verdicts);
    let first: Vec<usize> = (0..n).collect();
    let second: Vec<usize> = (n..2 * n).collect();
    let values = statistic.value(&first).and_then(|a| Ok((a, statistic.value(&second)?)));
    let difference_of = |chosen: &[usize]| {
        let shifted: Vec<usize> = chosen.iter().map(|index| index + n).collect();
        Ok(statistic.value(&shifted)? - statistic.value(chosen)?)
    };
    let interval = match values {
        Ok(_) => bootstrap(n, statistic.draws(), seed, difference_of),
        Err(reason) => Err(reason),
    };
    let p = values.ok().filter(|_| n >= 2).map(|(a, b)| randomisation(&statistic, n, b - a, seed));
    let wins = |higher: fn(f64, f64) -> bool| {
        let numbers =
            |pair: &Pair<'_>| Some((metric.value(&pair.0.verdicts)?, metric.value(&pair.1.verdicts)?));
        pairs.iter().filter_map(numbers).filter(|(a, b)| higher(*a, *b)).count()
    };
    let (baseline_wins, candidate_wins) = (wins(|a, b| a > b), wins(|a, b| b > a));
    let mut comparison = Comparison {
        metric: metric.name.clone(),
        baseline: names.0.to_owned(),
        candidate: names.1.to_owned(),
        n,
        baseline_value: values.ok().map(|(a, _)| a),
        candidate_value: values.ok().map(|(_, b)| b),
        difference: values.ok().map(|(a, b)| b - a),
        low: interval.ok().map(|interval| interval.low),
        high: interval.ok().map(|interval| interval.high),
        p,
        p_holm: None,
        test: "paired randomisation test".to_owned(),
        baseline_wins,
        candidate_wins,
        ties: n - baseline_wins - candidate_wins,
        more_rows_needed: None,
        reason: interval.err().map(str::to_owned),
    };
    if !comparison.is_significant() {
        comparison.more_rows_needed = more_rows(&comparison);
    }
    Some(comparison)
}

/// About how many more samples it takes to tell a difference of this size with 80 % chance, where the spread shrinks with
/// the root of n and the interval is 2 · 1.96 standard errors wide (normal approximation). `None` where nothing differs.
fn more_rows(comparison: &Comparison) -> Option<u64> {
    let (low, high, difference) = (comparison.low?, comparison.high?, comparison.difference?);
    if difference == 0.0 {
        return None;
    }
    let (two_sided, power) = (1.959_964, 0.841_621);
    let error = (high - low) / (2.0 * two_sided);
    let needed = comparison.n as f64 * ((two_sided + power) * error / difference).powi(2);
    (needed < 1e12).then(|| (needed.ceil() as u64).saturating_sub(comparison.n as u64).max(1))
}

/// Two-sided p: how often swapping the outputs on random samples gives a difference as large as the one seen. What was
/// seen counts as one of the draws, so that p is never 0; so does a draw without a number.
fn randomisation(statistic: &Statistic, n: usize, seen: f64, seed: u64) -> f64 {
    let mut random = Random::new(seed);
    let (mut a, mut b) = (vec![0; n], vec![0; n]);
    let draws = statistic.draws();
    let least = seen.abs() * (1.0 - 1e-12);
    let mut hits = 0;
    for _ in 0..draws {
        for i in 0..n {
            let swap = random.next_u64() >> 63 == 1;
            (a[i], b[i]) = if swap { (i + n, i) } else { (i, i + n) };
        }
        let difference = statistic.value(&a).and_then(|a| Ok(statistic.value(&b)? - a));
        hits += usize::from(!difference.is_ok_and(|difference| difference.abs() < least));
    }
    (1 + hits) as f64 / (1 + draws) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Evidence, Verdict};
    use crate::harness::{HarnessSpec, resolve_metrics};
    use crate::record::SampleRecord;
    use serde_json::json;

    fn record(id: usize, expected: &str, found: &str) -> SampleRecord {
        let evidence = Evidence::Labels { found: vec![found.into()], expected: vec![expected.into()] };
        let value = f64::from(u8::from(expected == found));
        let verdict = Verdict::Counted { value, evidence, reason: None };
        serde_json::from_value(json!({
            "id": id.to_string(), "input": "i", "expected": expected, "output": found, "finish": null,
            "verdicts": {"label": verdict}, "prompt_tokens": 0, "computed_tokens": 0, "new_tokens": 0,
            "seconds": 0.0, "elapsed": 0.0,
        }))
        .unwrap()
    }

    fn metrics() -> Vec<Metric> {
        let spec: HarnessSpec = serde_json::from_value(json!({
            "score": "f1",
            "check": [{"name": "label", "kind": "one_of", "labels": ["a", "b", "c"]}],
            "metric": [
                {"name": "f1", "checks": ["label"], "aggregate": "macro_f1"},
                {"name": "accuracy", "checks": ["label"]},
            ],
        }))
        .unwrap();
        resolve_metrics(&spec).unwrap()
    }

    fn compared(wrong_before: usize, wrong_after: usize) -> Comparison {
        let label = |i: usize| ["a", "b", "c"][i % 3];
        let answers = |wrong: usize| -> Vec<SampleRecord> {
            (0..60).map(|i| record(i, label(i), label(if i < wrong { i + 1 } else { i }))).collect()
        };
        let (before, after) = (answers(wrong_before), answers(wrong_after));
        let pairs: Vec<Pair<'_>> = before.iter().zip(&after).collect();
        assert!(compare(&metrics()[1], &pairs, ("x", "y"), 1).is_none(), "a mean is compared elsewhere");
        compare(&metrics()[0], &pairs, ("x", "y"), 1).unwrap()
    }

    #[test]
    fn a_difference_is_told_and_none_is_not() {
        let risen = compared(30, 6);
        assert!(risen.is_significant(), "{risen:?}");
        assert!((risen.baseline_value.unwrap() - 0.5).abs() < 1e-9);
        assert!((risen.difference.unwrap() - 0.4).abs() < 1e-9);
        assert!(risen.low.unwrap() < 0.4 && risen.high.unwrap() > 0.4);
        let alike = compared(6, 7);
        assert!(!alike.is_significant() && alike.p.unwrap() > 0.5);
        assert!(alike.more_rows_needed.unwrap() > 60, "{alike:?}");
        let same = compared(6, 6);
        assert_eq!((same.p, same.low, same.more_rows_needed), (Some(1.0), None, None));
        assert_eq!(compared(30, 6), risen, "seeded");
    }
}
