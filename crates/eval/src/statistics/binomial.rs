//! Binomial random numbers: how often one of several values comes up among n redrawn samples, without redrawing them
//! one by one. The draws are exact up to rounding: inversion for small means, else transformed rejection.

use crate::random::Random;
use statrs::function::gamma::ln_gamma;

/// Below this mean, walking up from 0 is quicker than rejection, and rejection is not valid.
const SMALL_MEAN: f64 = 10.0;

/// Successes among `n` tries with chance `p`, which lies in 0..=1.
pub fn binomial(random: &mut Random, n: u64, p: f64) -> u64 {
    if p > 0.5 {
        return n - binomial(random, n, 1.0 - p);
    }
    if n == 0 || p <= 0.0 {
        return 0;
    }
    if n as f64 * p < SMALL_MEAN { inversion(random, n, p) } else { rejection(random, n, p) }
}

/// Walks up the distribution until a uniform number is used up.
fn inversion(random: &mut Random, n: u64, p: f64) -> u64 {
    let odds = p / (1.0 - p);
    loop {
        let mut left = uniform(random);
        let mut chance = (n as f64 * (-p).ln_1p()).exp();
        for k in 0..=n {
            if left < chance {
                return k;
            }
            left -= chance;
            chance *= odds * (n - k) as f64 / (k + 1) as f64;
        }
        // Rounding left a crumb beyond the last value: draw again.
    }
}

/// Algorithm BTRS of W. Hörmann, "The generation of binomial random variates", 1993.
fn rejection(random: &mut Random, n: u64, p: f64) -> u64 {
    let count = n as f64;
    let spread = (count * p * (1.0 - p)).sqrt();
    let b = 1.15 + 2.53 * spread;
    let a = -0.0873 + 0.0248 * b + 0.01 * p;
    let centre = count * p + 0.5;
    let inside = 0.92 - 4.2 / b;
    loop {
        let v = uniform(random);
        let u = uniform(random) - 0.5;
        let edge = 0.5 - u.abs();
        let k = ((2.0 * a / edge + b) * u + centre).floor();
        if edge >= 0.07 && v <= inside {
            return k as u64;
        }
        if k < 0.0 || k > count {
            continue;
        }
        let alpha = (2.83 + 5.1 / b) * spread;
        let mode = ((count + 1.0) * p).floor();
        let log = |x: f64| ln_gamma(x + 1.0);
        let bound =
            log(mode) + log(count - mode) - log(k) - log(count - k) + (k - mode) * (p / (1.0 - p)).ln();
        if (v * alpha / (a / (edge * edge) + b)).ln() <= bound {
            return k as u64;
        }
    }
}

/// A number in 0..1 with 53 random bits.
fn uniform(random: &mut Random) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use statrs::distribution::{Binomial, Discrete};

    /// Chi-squared of drawn counts against the distribution's, over the values that are expected ten times or more.
    fn misfit(n: u64, p: f64) -> (f64, usize) {
        let mut random = Random::new(11);
        let draws = 200_000;
        let mut counts = vec![0usize; n as usize + 1];
        (0..draws).for_each(|_| counts[binomial(&mut random, n, p) as usize] += 1);
        let truth = Binomial::new(p, n).unwrap();
        let terms: Vec<f64> = counts
            .iter()
            .enumerate()
            .map(|(k, count)| (*count as f64, truth.pmf(k as u64) * draws as f64))
            .filter(|(_, expected)| *expected >= 10.0)
            .map(|(count, expected)| (count - expected).powi(2) / expected)
            .collect();
        (terms.iter().sum(), terms.len())
    }

    #[test]
    fn draws_follow_the_distribution() {
        for (n, p) in [(1, 0.5), (12, 0.3), (40, 0.5), (200, 0.03), (1000, 0.07), (1000, 0.93), (10_000, 0.4)]
        {
            let (misfit, values) = misfit(n, p);
            let allowed = values as f64 + 5.0 * (2.0 * values as f64).sqrt();
            assert!(misfit < allowed, "n {n}, p {p}: {misfit} over {values} values");
        }
    }

    #[test]
    fn the_ends_are_certain() {
        let mut random = Random::new(1);
        assert_eq!(
            (binomial(&mut random, 9, 0.0), binomial(&mut random, 9, 1.0), binomial(&mut random, 0, 0.5)),
            (0, 9, 0)
        );
    }
}
