//! Not worse by more than a margin: a one-sided test at 2.5 % of the hypothesis that the candidate is worse by the margin
//! or more. The margin must be stated before anything is measured; what is said because of it is `compare`'s.

use super::{ALPHA, Clusters, FEW, mean, variance};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// What the test of non-inferiority found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NonInferiority {
    /// The margin, in units of the metric, above 0 and below 1.
    pub margin: f64,
    /// One-sided p; compared with 0.025. `None` below two samples (or clusters).
    pub p: Option<f64>,
    /// p after the correction for everything that was tested; `None` where nothing is to be corrected.
    #[serde(default)]
    pub p_holm: Option<f64>,
    /// Name of the test.
    pub test: String,
}

impl NonInferiority {
    /// Whether the candidate is not worse by more than the margin, at 2.5 % one-sided.
    pub fn holds(&self) -> bool {
        self.p_holm.or(self.p).is_some_and(|p| p < ALPHA / 2.0)
    }
}

/// Tests `differences` (candidate minus baseline, in −1..=1) against a margin in 0..1. Yes-or-no answers get Tango's score
/// test (T. Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
/// design", 1998), graded ones Student's t of the differences, clusters Student's t of their sums. Where fewer than ten
/// graded differences (or clusters) are not 0, their spread cannot be known, and the larger p of both tests counts.
pub fn non_inferiority(
    differences: &[f64],
    yes_or_no: bool,
    clusters: Option<&Clusters>,
    margin: f64,
) -> NonInferiority {
    let clusters = clusters.filter(|clusters| clusters.matter());
    if yes_or_no && clusters.is_none() {
        let p = (differences.len() >= 2).then(|| tango::p(&tango::Counts::of(differences), margin));
        return NonInferiority { margin, p, p_holm: None, test: "Tango's score test".to_owned() };
    }
    let (shifted, units, test) = match clusters {
        None => (
            differences.iter().map(|d| d + margin).collect(),
            differences.to_vec(),
            "one-sided paired t test",
        ),
        Some(clusters) => {
            let (sums, sizes) = clusters.sums(differences);
            let shifted: Vec<f64> = sums.iter().zip(sizes).map(|(sum, size)| sum + margin * size).collect();
            (shifted, clusters.means(differences), "one-sided t test of clusters")
        }
    };
    let few = units.iter().filter(|unit| **unit != 0.0).count() < FEW;
    let score = (few && units.len() >= 2).then(|| tango::p(&tango::Counts::of(&units), margin));
    let p = match (t_test_above_zero(&shifted), score) {
        (Some(t), Some(score)) => Some(t.max(score)),
        (t, score) => t.or(score),
    };
    NonInferiority { margin, p, p_holm: None, test: test.to_owned() }
}

/// One-sided p of Student's t test that the mean of `values` is above 0; `None` below two values or where all are equal.
fn t_test_above_zero(values: &[f64]) -> Option<f64> {
    let (average, variance, n) = (mean(values)?, variance(values)?, values.len() as f64);
    if variance <= 0.0 {
        return None;
    }
    let t = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
    Some(t.sf(average / (variance / n).sqrt()))
}

/// Tango's score statistic of a paired difference of rates.
pub(crate) mod tango {
    use super::super::{Interval, z};
    use super::*;

    /// Samples gained and lost among n; fractions where answers are graded.
    pub(crate) struct Counts {
        pub gained: f64,
        pub lost: f64,
        pub n: f64,
    }

    impl Counts {
        pub(crate) fn of(differences: &[f64]) -> Counts {
            let sum = |sign: f64| differences.iter().map(|d| (sign * d).max(0.0)).sum();
            Counts { gained: sum(1.0), lost: sum(-1.0), n: differences.len() as f64 }
        }
    }

    /// One-sided p of the hypothesis that the candidate is worse by `margin` or more.
    pub(crate) fn p(counts: &Counts, margin: f64) -> f64 {
        Normal::standard().sf(statistic(counts, -margin))
    }

    /// The standardised distance of the difference seen from `difference`.
    fn statistic(counts: &Counts, difference: f64) -> f64 {
        let Counts { gained, lost, n } = *counts;
        let b = -gained - lost + (2.0 * n - gained + lost) * difference;
        let c = -lost * difference * (1.0 - difference);
        // The share lost that is likeliest if the true difference is this one.
        let share = ((b * b - 8.0 * n * c).max(0.0).sqrt() - b) / (4.0 * n);
        let variance = n * (2.0 * share + difference * (1.0 - difference));
        let distance = gained - lost - n * difference;
        if variance > 0.0 { distance / variance.sqrt() } else { distance.signum() * f64::INFINITY }
    }

    /// All differences that the score test does not reject at 5 %.
    pub(crate) fn interval(counts: &Counts) -> Interval {
        let seen = (counts.gained - counts.lost) / counts.n;
        let bound = z(1.0 - ALPHA / 2.0);
        let search = |end: f64| {
            let (mut inside, mut outside) = (seen, end);
            for _ in 0..60 {
                let middle = 0.5 * (inside + outside);
                let rejected = statistic(counts, middle).abs() > bound;
                if rejected { outside = middle } else { inside = middle }
            }
            inside
        };
        Interval { low: search(-1.0), high: search(1.0) }
    }
}
