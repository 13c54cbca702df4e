//! Data with a known truth, many times over: intervals cover it as often as they promise, tests cry wolf no more often
//! than they promise, and planned rows show the difference that they were planned for.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use underdog_eval::random::Random;
use underdog_eval::statistics::power::Design;
use underdog_eval::statistics::{
    Clusters, Column, Draws, Interval, bootstrap_means, cluster_sign_flip, holm, mcnemar_exact,
    non_inferiority, paired, rate,
};

/// Simulated data sets; the standard error of a share near 5 % is then half a point.
const SETS: usize = 2000;

fn uniform(random: &mut Random) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// The share of data sets for which `hit` holds.
fn share(seed: u64, hit: impl Fn(&mut Random, u64) -> bool) -> f64 {
    let hits = (0..SETS).filter(|&set| {
        let own = Random::new(seed ^ (set as u64) << 20).next_u64();
        hit(&mut Random::new(own), set as u64)
    });
    hits.count() as f64 / SETS as f64
}

fn draws(seed: u64) -> Draws {
    Draws { seed, count: 1000 }
}

fn covers(interval: Interval, truth: f64) -> bool {
    interval.low <= truth && truth <= interval.high
}

/// Graded answers: a third is 1, the rest spread over 0..1; mean 1/3 + 2/3 × 1/2.
fn graded(random: &mut Random) -> f64 {
    if uniform(random) < 1.0 / 3.0 { 1.0 } else { uniform(random) }
}
const GRADED_MEAN: f64 = 2.0 / 3.0;

/// `count` groups of four to eight differences around an effect that the group shares; mean `shift`.
fn grouped(random: &mut Random, count: usize, shift: f64) -> (Vec<f64>, Clusters) {
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for group in 0..count {
        let effect = uniform(random) - 0.5;
        for _ in 0..4 + random.below(5) {
            values.push(shift + effect + 0.6 * (uniform(random) - 0.5));
            labels.push(Some(group));
        }
    }
    (values, Clusters::new(&labels))
}

#[test]
fn wilson_covers() {
    for (n, p) in [(50, 0.3), (200, 0.9), (400, 0.03)] {
        let covered = share(1, |random, _| {
            let estimate = rate((0..n).filter(|_| uniform(random) < p).count(), n);
            covers(Interval { low: estimate.low.unwrap(), high: estimate.high.unwrap() }, p)
        });
        assert!((0.93..=0.97).contains(&covered), "n {n}, p {p}: {covered}");
    }
}

#[test]
fn the_bootstrap_covers() {
    let covered = share(2, |random, set| {
        let values: Vec<f64> = (0..100).map(|_| graded(random)).collect();
        let column = Column { values: &values, clusters: None };
        covers(bootstrap_means(&[column], &draws(set)).remove(0).unwrap(), GRADED_MEAN)
    });
    assert!((0.93..=0.97).contains(&covered), "redrawn one by one: {covered}");
    let covered = share(3, |random, set| {
        // Paired yes-or-no answers: 12 % gained, 8 % lost.
        let step = |u: f64| {
            if u < 0.12 {
                1.0
            } else if u < 0.2 {
                -1.0
            } else {
                0.0
            }
        };
        let values: Vec<f64> = (0..300).map(|_| step(uniform(random))).collect();
        let column = Column { values: &values, clusters: None };
        covers(bootstrap_means(&[column], &draws(set)).remove(0).unwrap(), 0.04)
    });
    assert!((0.93..=0.97).contains(&covered), "redrawn from counts: {covered}");
}

#[test]
fn the_cluster_bootstrap_covers_where_samples_alone_do_not() {
    for count in [12, 50] {
        let covered = |clustered: bool| {
            share(4, |random, set| {
                let (values, clusters) = grouped(random, count, 0.1);
                let column = Column { values: &values, clusters: clustered.then_some(&clusters) };
                covers(bootstrap_means(&[column], &draws(set)).remove(0).unwrap(), 0.1)
            })
        };
        let (with, without) = (covered(true), covered(false));
        assert!((0.93..=0.97).contains(&with), "{count} groups: {with}");
        assert!(without < 0.8, "{count} groups as if they were none: {without}");
    }
}

#[test]
fn tests_keep_their_size() {
    let mcnemar = share(5, |random, _| {
        let gained = (0..100).filter(|_| uniform(random) < 0.5).count();
        mcnemar_exact(gained, 100 - gained) < 0.05
    });
    let permutation = share(6, |random, set| {
        let values: Vec<f64> = (0..60).map(|_| graded(random) - graded(random)).collect();
        paired::permutation(&values, &draws(set)).unwrap() < 0.05
    });
    let clusters = share(7, |random, set| {
        let (values, clusters) = grouped(random, 20, 0.0);
        cluster_sign_flip(&values, &clusters, &draws(set)).unwrap() < 0.05
    });
    for (name, size) in [("McNemar", mcnemar), ("permutation", permutation), ("cluster", clusters)] {
        assert!((0.02..=0.06).contains(&size), "{name}: {size}");
    }
    let ignoring = share(7, |random, set| {
        let (values, _) = grouped(random, 20, 0.0);
        paired::permutation(&values, &draws(set)).unwrap() < 0.05
    });
    assert!(ignoring > 0.2, "groups that are taken for single samples cry wolf: {ignoring}");
}

#[test]
fn non_inferiority_keeps_its_size_at_the_margin() {
    let rates = |n: usize, lost: f64, gained: f64| {
        share(8, move |random, _| {
            let step = |u: f64| {
                if u < lost {
                    -1.0
                } else if u < lost + gained {
                    1.0
                } else {
                    0.0
                }
            };
            let values: Vec<f64> = (0..n).map(|_| step(uniform(random))).collect();
            non_inferiority(&values, true, None, 0.05).holds()
        })
    };
    // Worse by exactly the margin, with many and with few answers gained.
    for (n, lost, gained) in [(300, 0.10, 0.05), (200, 0.055, 0.005)] {
        let size = rates(n, lost, gained);
        assert!((0.005..=0.035).contains(&size), "n {n}: {size}");
    }
    let clustered = share(9, |random, _| {
        let (values, clusters) = grouped(random, 30, -0.05);
        non_inferiority(&values, false, Some(&clusters), 0.05).holds()
    });
    assert!((0.01..=0.035).contains(&clustered), "{clustered}");
}

#[test]
fn holm_keeps_the_chance_of_any_wrong_claim() {
    let any = |corrected: bool| {
        share(10, |random, set| {
            // Ten metrics of the same samples, none of which differs in truth.
            let p: Vec<f64> = (0..10)
                .map(|_| {
                    let values: Vec<f64> = (0..40).map(|_| graded(random) - graded(random)).collect();
                    paired::permutation(&values, &draws(set)).unwrap()
                })
                .collect();
            let p = if corrected { holm(&p) } else { p };
            p.iter().any(|p| *p < 0.05)
        })
    };
    let (with, without) = (any(true), any(false));
    assert!(with <= 0.06, "{with}");
    assert!(without > 0.3, "without the correction one of ten cries wolf: {without}");
}

#[test]
fn planned_rows_show_the_difference() {
    for (accuracy, correlation, d) in [(0.8, 0.4, 0.05), (0.6, 0.0, 0.1)] {
        let design = Design::Correlation { accuracy, correlation };
        let plan = design.rows(d, 0.8).unwrap();
        let discordance = plan.discordance.unwrap();
        let (gained, lost) = (0.5 * (discordance + d), 0.5 * (discordance - d));
        let seen = share(11, |random, _| {
            let (mut plus, mut minus) = (0, 0);
            for _ in 0..plan.rows {
                let u = uniform(random);
                plus += usize::from(u < gained);
                minus += usize::from((gained..gained + lost).contains(&u));
            }
            mcnemar_exact(minus, plus) < 0.05
        });
        // Within three standard errors of 2,000 sets.
        assert!((0.773..=0.827).contains(&seen), "{plan:?}: {seen}");
    }
}
