//! The learning curve as a law: error = a + b · n^−c, an inverse power of the training rows n with a floor. It describes
//! the middle of most learning curves (Hestness et al. 2017, arXiv 1712.00409; Viering and Loog 2022, arXiv 2103.10948), and
//! says nothing of jumps. Which points there are, and how uncertain the law is, is `learning`'s.

use serde::{Deserialize, Serialize};

/// The slowest and the fastest fall that is tried; published curves lie between 0.07 and 1.
const RATES: (f64, f64) = (0.05, 2.0);
/// Rates that are tried, evenly spaced on a logarithmic scale, before the best is refined.
const TRIED: usize = 48;
/// Steps of the refinement; each leaves 62 % of the bracket.
const REFINED: usize = 16;

/// error(n) = floor + scale · n^−rate. Errors are 1 − score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PowerLaw {
    /// The error that more rows do not take away, 0 or more.
    pub floor: f64,
    /// What is above the floor with one row, 0 or more.
    pub scale: f64,
    /// How fast that falls, 0.05 to 2.
    pub rate: f64,
}

impl PowerLaw {
    /// The error with this many training rows.
    pub fn error(&self, rows: f64) -> f64 {
        self.floor + self.scale * rows.powf(-self.rate)
    }

    /// The law with the least squared distance from the points (rows, error), with floor and scale of 0 or more. `None`
    /// for fewer than three different numbers of rows, or where a number is not finite or no row was used.
    pub fn fit(points: &[(f64, f64)]) -> Option<PowerLaw> {
        let usable = |(rows, error): &(f64, f64)| rows.is_finite() && error.is_finite() && *rows >= 1.0;
        let mut sizes: Vec<f64> = points.iter().map(|(rows, _)| *rows).collect();
        sizes.sort_by(f64::total_cmp);
        sizes.dedup();
        if sizes.len() < 3 || !points.iter().all(usable) {
            return None;
        }
        let step = (RATES.1 / RATES.0).powf(1.0 / (TRIED - 1) as f64);
        let tried: Vec<f64> = (0..TRIED).map(|i| RATES.0 * step.powi(i as i32)).collect();
        let losses: Vec<f64> = tried.iter().map(|rate| at_rate(points, *rate).1).collect();
        let best = (0..TRIED).reduce(|best, i| if losses[i] < losses[best] { i } else { best })?;
        let (mut low, mut high) = (tried[best.saturating_sub(1)], tried[(best + 1).min(TRIED - 1)]);
        let golden = (5f64.sqrt() - 1.0) / 2.0;
        for _ in 0..REFINED {
            let (left, right) = (high - golden * (high - low), low + golden * (high - low));
            if at_rate(points, left).1 < at_rate(points, right).1 { high = right } else { low = left }
        }
        let refined = at_rate(points, (low + high) / 2.0);
        Some(if refined.1 < losses[best] { refined.0 } else { at_rate(points, tried[best]).0 })
    }
}

/// The best law with this rate and its sum of squares: a straight line in n^−rate without negative coefficients.
fn at_rate(points: &[(f64, f64)], rate: f64) -> (PowerLaw, f64) {
    // In units of the most rows, so that the two columns are of one size.
    let most = points.iter().map(|(rows, _)| *rows).fold(1.0, f64::max);
    let pairs: Vec<(f64, f64)> =
        points.iter().map(|(rows, error)| ((rows / most).powf(-rate), *error)).collect();
    let n = pairs.len() as f64;
    let (sx, sy) = pairs.iter().fold((0.0, 0.0), |(x, y), pair| (x + pair.0, y + pair.1));
    let (mx, my) = (sx / n, sy / n);
    let (mut above, mut below, mut xy, mut xx) = (0.0, 0.0, 0.0, 0.0);
    for (x, y) in &pairs {
        above += (x - mx) * (y - my);
        below += (x - mx) * (x - mx);
        xy += x * y;
        xx += x * x;
    }
    let slope = if below > 0.0 { above / below } else { 0.0 };
    let (floor, slope) = match (my - slope * mx, slope) {
        (_, slope) if slope < 0.0 => (my.max(0.0), 0.0),
        (floor, _) if floor < 0.0 => (0.0, (xy / xx).max(0.0)),
        both => both,
    };
    let loss = pairs.iter().map(|(x, y)| (y - floor - slope * x).powi(2)).sum();
    (PowerLaw { floor, scale: slope * most.powf(rate), rate }, loss)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: [f64; 5] = [100.0, 200.0, 500.0, 1000.0, 2000.0];

    fn points(law: &PowerLaw) -> Vec<(f64, f64)> {
        ROWS.iter().map(|rows| (*rows, law.error(*rows))).collect()
    }

    #[test]
    fn a_law_without_noise_is_found_again() {
        for (floor, scale, rate) in [(0.1, 2.0, 0.5), (0.0, 1.5, 0.2), (0.05, 30.0, 1.1), (0.3, 0.9, 0.35)] {
            let law = PowerLaw { floor, scale, rate };
            let found = PowerLaw::fit(&points(&law)).unwrap();
            assert!((found.rate - rate).abs() < 0.01, "{law:?} {found:?}");
            assert!((found.floor - floor).abs() < 0.005, "{law:?} {found:?}");
            assert!((found.error(4000.0) - law.error(4000.0)).abs() < 1e-3, "{law:?} {found:?}");
        }
    }

    #[test]
    fn nothing_negative_is_fitted() {
        let rising: Vec<(f64, f64)> = ROWS.iter().map(|rows| (*rows, 0.2 + rows / 10_000.0)).collect();
        let law = PowerLaw::fit(&rising).unwrap();
        assert_eq!((law.scale, (law.floor * 1000.0).round()), (0.0, 276.0), "the mean, where nothing falls");
        let steep: Vec<(f64, f64)> = ROWS.iter().map(|rows| (*rows, 1.0 - 0.13 * rows.ln())).collect();
        let law = PowerLaw::fit(&steep).unwrap();
        assert!(law.floor >= 0.0 && law.error(4000.0) >= 0.0, "{law:?}");
    }

    #[test]
    fn three_sizes_are_needed() {
        assert_eq!(PowerLaw::fit(&[(10.0, 0.5), (20.0, 0.4), (20.0, 0.41)]), None);
        assert_eq!(PowerLaw::fit(&[(10.0, 0.5), (20.0, f64::NAN), (40.0, 0.3)]), None);
        assert_eq!(PowerLaw::fit(&[(0.0, 0.9), (20.0, 0.4), (40.0, 0.3)]), None);
        assert!(PowerLaw::fit(&[(10.0, 0.5), (20.0, 0.4), (40.0, 0.35)]).is_some());
    }
}
