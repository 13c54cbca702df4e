//! Tests of paired differences: exact McNemar for yes-or-no answers, sign flips for graded ones and for whole clusters,
//! and the interval of a difference. Whether a candidate may be called anything because of them is `compare`'s.

use super::binomial::binomial;
use super::non_inferiority::tango;
use super::{Clusters, Column, Draws, FEW, Interval, distinct};
use rayon::prelude::*;
use statrs::distribution::{Binomial, DiscreteCDF};

/// Up to this many differing samples, all sign flips (2^13 < [`super::DRAWS`]) are counted instead of drawn.
const EXACT_UP_TO: usize = 13;
/// Up to this many distinct sizes, signs are drawn by counts.
const FEW_VALUES: usize = 8;
/// Differences whose signs are flipped by one look-up.
const NIBBLE: usize = 4;

/// Two-sided p of the exact McNemar test: `first` samples only the first got right, `second` only the second. 1 when no
/// sample tells them apart.
pub fn mcnemar_exact(first: usize, second: usize) -> f64 {
    let discordant = (first + second) as u64;
    if discordant == 0 {
        return 1.0;
    }
    let coin = Binomial::new(0.5, discordant).expect("one half is a probability");
    (2.0 * coin.cdf(first.min(second) as u64)).min(1.0)
}

/// Two-sided p of the paired permutation test: how often random signs move the mean of `differences` as far from 0 as it
/// is. All sign patterns are counted where at most 13 differences are not 0; else [`super::DRAWS`] are drawn, and the
/// pattern seen counts as one of them, so that p is never 0; where no draw reaches the mean seen, Hoeffding's bound on p
/// counts if it is smaller. `None` below two samples.
pub fn paired_permutation(differences: &[f64], seed: u64) -> Option<f64> {
    permutation(differences, &Draws::new(seed))
}

/// [`paired_permutation`] with a number of draws of one's own.
pub fn permutation(differences: &[f64], draws: &Draws) -> Option<f64> {
    if differences.len() < 2 {
        return None;
    }
    // A difference of 0 stays 0 under any sign.
    let moving: Vec<f64> = differences.iter().copied().filter(|difference| *difference != 0.0).collect();
    let slack = 1e-12 * moving.iter().map(|difference| difference.abs()).sum::<f64>();
    let seen = moving.iter().sum::<f64>().abs() - slack;
    let reaches = |sum: f64| sum.abs() >= seen;
    if moving.len() <= EXACT_UP_TO {
        let patterns = 1usize << moving.len();
        let sum = |pattern: usize| -> f64 {
            moving.iter().enumerate().map(|(i, d)| if pattern >> i & 1 == 1 { -d } else { *d }).sum()
        };
        let hits = (0..patterns).filter(|&pattern| reaches(sum(pattern))).count();
        return Some(hits as f64 / patterns as f64);
    }
    let hits = match distinct(moving.iter().map(|d| d.abs()), FEW_VALUES) {
        Some(sizes) => (0..draws.count)
            .into_par_iter()
            .filter(|&draw| reaches(sum_of_sizes(&sizes, draws, draw)))
            .count(),
        None => {
            let tables = sign_tables(&moving);
            (0..draws.count)
                .into_par_iter()
                .filter(|&draw| reaches(sum_of_tables(&tables, draws, draw)))
                .count()
        }
    };
    let drawn = (1 + hits) as f64 / (1 + draws.count) as f64;
    // Where no draw reaches what was seen, p is below what draws can show, and a correction for many tests would find it
    // too large. Hoeffding's bound for random signs (1963) is never below the exact p.
    let squares: f64 = moving.iter().map(|difference| difference * difference).sum();
    let bound = 2.0 * (-seen * seen / (2.0 * squares)).exp();
    Some(if hits == 0 { drawn.min(bound.max(f64::MIN_POSITIVE)) } else { drawn })
}

/// Two-sided p of the permutation test that flips whole clusters: samples of a cluster stand or fall together, so that
/// only clusters can be exchanged. `None` below two clusters.
pub fn cluster_sign_flip(differences: &[f64], clusters: &Clusters, draws: &Draws) -> Option<f64> {
    permutation(&clusters.sums(differences).0, draws)
}

/// The interval of the mean of paired differences that the bootstrap has drawn. Where they lie in −1..=1 and fewer than ten
/// differ from 0, redrawing shows too little of the spread: it then reaches as far as Tango's for yes-or-no answers with as much
/// gained and lost, too. `clusters` as in the column; their means are what may differ then.
pub(crate) fn guarded_difference(
    column: &Column<'_>,
    drawn: Result<Interval, &'static str>,
) -> Result<Interval, &'static str> {
    let drawn = drawn?;
    if !column.values.iter().all(|value| (-1.0..=1.0).contains(value)) {
        return Ok(drawn);
    }
    let units = match column.clusters {
        Some(clusters) => clusters.means(column.values),
        None => column.values.to_vec(),
    };
    if units.iter().filter(|unit| **unit != 0.0).count() >= FEW {
        return Ok(drawn);
    }
    let wide = tango::interval(&tango::Counts::of(&units));
    Ok(Interval { low: wide.low.min(drawn.low), high: wide.high.max(drawn.high) })
}

/// The sum under random signs, drawn as the number of negative ones of each size.
fn sum_of_sizes(sizes: &[(f64, usize)], draws: &Draws, draw: usize) -> f64 {
    let mut random = draws.random(draw);
    let flipped =
        |random: &mut _, count: usize| count as f64 - 2.0 * binomial(random, count as u64, 0.5) as f64;
    sizes.iter().map(|&(size, count)| size * flipped(&mut random, count)).sum()
}

/// For each four differences the sixteen sums that their signs can give.
fn sign_tables(differences: &[f64]) -> Vec<[f64; 1 << NIBBLE]> {
    let signed = |pattern: usize, i: usize, d: f64| if pattern >> i & 1 == 1 { -d } else { d };
    differences
        .chunks(NIBBLE)
        .map(|part| {
            std::array::from_fn(|pattern| part.iter().enumerate().map(|(i, d)| signed(pattern, i, *d)).sum())
        })
        .collect()
}

fn sum_of_tables(tables: &[[f64; 1 << NIBBLE]], draws: &Draws, draw: usize) -> f64 {
    let mut random = draws.random(draw);
    let mut sum = 0.0;
    for part in tables.chunks(u64::BITS as usize / NIBBLE) {
        let mut bits = random.next_u64();
        for table in part {
            sum += table[(bits & 15) as usize];
            bits >>= NIBBLE;
        }
    }
    sum
}
