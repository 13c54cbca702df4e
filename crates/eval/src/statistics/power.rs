//! How many rows it takes: to see a difference of a given size, or the smallest difference that given rows can show. Exact
//! for paired yes-or-no answers, as their test is, unless a great many rows differ; normal approximations for the rest. They plan a measurement and
//! conclude nothing. Two-sided at 5 %.

use super::{ALPHA, POWER, Unit, mean, paired, variance, z};
use crate::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, ContinuousCDF, Discrete, DiscreteCDF, Normal};

/// More rows than this are no plan.
const MOST: f64 = 1e12;
/// The least at which a sign test can reach 5 %: 2 / 2^6.
const LEAST: u64 = 6;
/// With more rows than this that are expected to differ, the normal approximation stands for the exact test: its chance is within
/// three tenths of a per cent there.
const MANY: f64 = 20_000.0;
/// Standard deviations from the mean beyond which a number of differing rows does not count: less than 1e-9 lies there.
const TAIL: f64 = 6.5;

/// About how many paired samples a two-sided test at 5 % needs to see a difference like this one with 80 % chance
/// (normal approximation). `None` when nothing differs, or below two samples.
pub fn rows_needed(differences: &[f64]) -> Option<u64> {
    rows_needed_at(differences, ALPHA)
}

/// [`rows_needed`] of a test at another level, as a correction for many tests asks for.
pub fn rows_needed_at(differences: &[f64], alpha: f64) -> Option<u64> {
    let (average, variance) = (mean(differences)?, variance(differences)?);
    if average == 0.0 || alpha <= 0.0 {
        return None;
    }
    let needed = (z(1.0 - alpha / 2.0) + z(POWER)).powi(2) * variance / average.powi(2);
    // Below so many rows that differ no test reaches the level, all of them in one direction: 2 / 2^k.
    let differing = differences.iter().filter(|d| **d != 0.0).count() as f64 / differences.len() as f64;
    let least = (2.0 / alpha).log2().ceil() / differing;
    let needed = needed.max(least);
    (needed < MOST).then(|| (needed.ceil() as u64).max(LEAST))
}

/// What two candidates have to do with each other, as far as a plan needs it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Design {
    /// Yes-or-no answers on the same rows that are right together with this correlation (φ, −1..=1).
    Correlation {
        /// Accuracy of the baseline, 0..=1.
        accuracy: f64,
        /// φ between the answers.
        correlation: f64,
    },
    /// Yes-or-no answers on the same rows of which this share is right for one of both only.
    Discordance {
        /// Share of rows, 0..=1; at least the difference.
        discordance: f64,
    },
    /// Graded answers on the same rows whose differences have this variance.
    Graded {
        /// Variance of the differences.
        variance: f64,
        /// What their numbers are.
        #[serde(default, skip_serializing_if = "Unit::is_share")]
        unit: Unit,
    },
    /// Yes-or-no answers on different rows, as many for each.
    Unpaired {
        /// Accuracy of the baseline, 0..=1.
        accuracy: f64,
    },
}

/// A plan: so many rows for so small a difference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What was assumed.
    pub design: Design,
    /// The difference, in units of the metric.
    pub difference: f64,
    /// Rows, for each of both where they are unpaired.
    pub rows: u64,
    /// The chance to see the difference with so many rows.
    pub power: f64,
    /// Level of the two-sided test.
    pub alpha: f64,
    /// Share of rows on which only one of both is right; `None` where answers are graded or unpaired.
    pub discordance: Option<f64>,
}

impl Design {
    /// The spread of one row's difference when there is none in truth, and when it is `d`; `Err` says what cannot be.
    fn spreads(&self, d: f64) -> Result<(f64, f64)> {
        let between = |what: &str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Error::new(Kind::Usage, format!("the {what} cannot be"))
                .expected(format!("{low} to {high}"))
                .found(format!("{value}")))
        };
        match *self {
            Design::Graded { variance, unit } => {
                // Differences of shares have one of 4 at most.
                let most = if unit.is_share() { 4.0 } else { f64::MAX };
                between("variance of the differences", variance, 0.0, most)?;
                Ok((variance.sqrt(), variance.sqrt()))
            }
            Design::Unpaired { accuracy } => {
                between("accuracy", accuracy, 0.0, 1.0)?;
                between("accuracy with the difference", accuracy + d, 0.0, 1.0)?;
                let (other, middle) = (accuracy + d, accuracy + d / 2.0);
                let own = accuracy * (1.0 - accuracy) + other * (1.0 - other);
                Ok(((2.0 * middle * (1.0 - middle)).sqrt(), own.sqrt()))
            }
            Design::Correlation { .. } | Design::Discordance { .. } => {
                let discordance = self.discordance(d)?.unwrap_or(0.0);
                Ok((discordance.sqrt(), (discordance - d * d).max(0.0).sqrt()))
            }
        }
    }

    /// Share of rows on which only one of both is right, if the difference is `d`.
    ///
    /// # Errors
    /// Where no two candidates can be like that.
    pub fn discordance(&self, d: f64) -> Result<Option<f64>> {
        let discordance = match *self {
            Design::Discordance { discordance } => discordance,
            Design::Correlation { accuracy, correlation } => {
                let other = accuracy + d;
                let shares = [accuracy, other, correlation.abs()];
                if shares.iter().any(|share| !(0.0..=1.0).contains(share)) {
                    return Err(Error::new(Kind::Usage, "no two candidates are like that")
                        .expected("accuracies of 0 to 1 and a correlation of -1 to 1")
                        .found(format!(
                            "accuracies {accuracy:.3} and {other:.3}, correlation {correlation}"
                        )));
                }
                let spread = (accuracy * (1.0 - accuracy) * other * (1.0 - other)).sqrt();
                accuracy * (1.0 - other) + other * (1.0 - accuracy) - 2.0 * correlation * spread
            }
            Design::Graded { .. } | Design::Unpaired { .. } => return Ok(None),
        };
        let most = match *self {
            // Neither can be right alone more often than it is right, nor wrong alone more often than it is wrong.
            Design::Correlation { accuracy, .. } => (2.0 * accuracy + d).min(2.0 - 2.0 * accuracy - d),
            _ => 1.0,
        };
        if discordance > most + 1e-12 {
            return Err(Error::new(Kind::Usage, "no two candidates are like that")
                .expected(format!("at most {:.1} % of the rows right for one of both only", 100.0 * most))
                .found(format!("{:.1} %", 100.0 * discordance))
                .hint("a higher --correlation or a lower --discordance is possible"));
        }
        // The rows that only the worse one gets right cannot be fewer than none.
        if !(d.abs() - 1e-12..=1.0).contains(&discordance) {
            return Err(Error::new(Kind::Usage, "no two candidates are like that")
                .expected(format!("at least {:.1} % of the rows right for one of both only", 100.0 * d.abs()))
                .found(format!("{:.1} %", 100.0 * discordance))
                .hint("a lower --correlation or a higher --discordance fits a difference of this size"));
        }
        Ok(Some(discordance))
    }

    /// Rows with which a difference `d` is seen with chance `power`. Paired yes-or-no answers: those that give the
    /// exact McNemar test that chance, looked for from where the normal approximation lies (R. Connor, "Sample size for
    /// testing differences in proportions for the paired-sample design", 1987).
    ///
    /// # Errors
    /// When `d` is 0, `power` is not between 0.05 and 1, or no two candidates are as the design says.
    pub fn rows(&self, d: f64, power: f64) -> Result<Plan> {
        check_power(power)?;
        let most = self.largest_difference();
        if d == 0.0 || !d.is_finite() || d.abs() > most {
            let within =
                if most.is_finite() { format!(" between -{most} and {most}") } else { String::new() };
            return Err(Error::new(Kind::Usage, "a difference to plan for")
                .expected(format!("one{within} that is not 0"))
                .found(d.to_string()));
        }
        let discordance = self.discordance(d)?;
        let about = self.normal_rows(d, power)?;
        let rows = match discordance {
            Some(discordance) if about as f64 * discordance <= MANY => {
                exact_rows(d, discordance, power, about)
            }
            _ => about,
        };
        Ok(Plan { design: *self, difference: d, rows, power, alpha: ALPHA, discordance })
    }

    pub(super) fn normal_rows(&self, d: f64, power: f64) -> Result<u64> {
        let (none, some) = self.spreads(d)?;
        let rows = ((z(1.0 - ALPHA / 2.0) * none + z(power) * some) / d).powi(2);
        if rows >= MOST {
            return Err(
                Error::new(Kind::Usage, "no number of rows shows so small a difference").found(d.to_string())
            );
        }
        Ok((rows.ceil() as u64).max(LEAST))
    }

    /// Shares differ by 1 at most; a number of its own, such as a mark from 1 to 5, by any amount.
    fn largest_difference(&self) -> f64 {
        match self {
            Design::Graded { unit, .. } if !unit.is_share() => f64::INFINITY,
            _ => 1.0,
        }
    }

    /// The smallest gain that `rows` show with chance `power`.
    ///
    /// # Errors
    /// When there are too few rows for any, `power` is not between 0.05 and 1, or no two candidates are as the design says.
    pub fn smallest(&self, rows: u64, power: f64) -> Result<Plan> {
        check_power(power)?;
        if let Design::Correlation { accuracy, .. } | Design::Unpaired { accuracy } = *self
            && !(0.0..=1.0).contains(&accuracy)
        {
            return Err(Error::new(Kind::Usage, "the accuracy of the baseline")
                .expected("a share of 0 to 1, such as 0.8")
                .found(accuracy.to_string()));
        }
        // A gain that is possible at all: bounded by the accuracy, and by the rows that differ.
        let most = match *self {
            Design::Correlation { accuracy, .. } | Design::Unpaired { accuracy } => 1.0 - accuracy,
            Design::Discordance { discordance } => discordance,
            // With the fewest rows that show anything, a little more than one standard deviation is seen, and with a chance
            // of nearly 1 some times that.
            Design::Graded { variance, .. } => {
                self.largest_difference().min(10.0 * variance.sqrt().max(f64::EPSILON))
            }
        };
        if most <= 0.0 {
            return Err(Error::new(Kind::Usage, "there is nothing to gain")
                .expected("a baseline that is not always right")
                .found(format!("a largest possible gain of {most}")));
        }
        let gain = |step: u32| most * f64::from(step) / 1000.0;
        let seen =
            |d: f64| rows >= LEAST && d > 0.0 && self.power(d, rows).is_ok_and(|chance| chance >= power);
        // With a correlation, large gains may be impossible: look for one that is seen from below. The normal approximation
        // says about where, so that few gains are looked at exactly.
        let about = |step: &u32| self.normal_power(gain(*step), rows).is_ok_and(|chance| chance >= power);
        let about = (1..=1000).find(about).unwrap_or(1000);
        let below = (1..=about).rev().take_while(|step| seen(gain(*step))).last();
        let found = below.or_else(|| (about..=1000).find(|step| seen(gain(*step))));
        let Some(high) = found.map(gain) else {
            // The largest gain that two candidates can have like that says how many rows it takes at least.
            let normal = |step: u32| Some((self.normal_rows(gain(step), power).ok()?, step));
            let (_, best) = (1..=1000).rev().filter_map(normal).min().unwrap_or((0, 1000));
            let near = best.saturating_sub(5).max(1)..=(best + 5).min(1000);
            let least = near.filter_map(|step| self.rows(gain(step), power).ok()).map(|plan| plan.rows).min();
            let least =
                least.map_or_else(|| "other assumptions".to_owned(), |rows| format!("at least {rows} rows"));
            return Err(Error::new(Kind::Usage, "so few rows show no gain that is possible")
                .expected(least)
                .found(format!("{rows} rows, and gains of {:.1} points at most", 100.0 * most)));
        };
        let (mut low, mut high) = (high - most / 1000.0, high);
        for _ in 0..30 {
            let middle = 0.5 * (low + high);
            if seen(middle) { high = middle } else { low = middle }
        }
        let discordance = self.discordance(high)?;
        Ok(Plan { design: *self, difference: high, rows, power, alpha: ALPHA, discordance })
    }

    /// The chance that `rows` show a difference `d`: exact for paired yes-or-no answers, unless a great many rows differ.
    ///
    /// # Errors
    /// Where no two candidates are as the design says.
    pub fn power(&self, d: f64, rows: u64) -> Result<f64> {
        if let Some(discordance) = self.discordance(d)?
            && rows as f64 * discordance <= MANY
        {
            return Ok(exact_power(d, discordance, rows));
        }
        self.normal_power(d, rows)
    }

    pub(super) fn normal_power(&self, d: f64, rows: u64) -> Result<f64> {
        let (none, some) = self.spreads(d)?;
        let distance = (rows as f64).sqrt() * d.abs() - z(1.0 - ALPHA / 2.0) * none;
        if some <= 0.0 {
            return Ok(if distance > 0.0 { 1.0 } else { 0.0 });
        }
        Ok(Normal::standard().cdf(distance / some))
    }
}

/// The chance that the exact McNemar test finds a difference `d`, in its direction, on so many rows: over how many rows
/// differ, and how many of these are lost.
fn exact_power(d: f64, discordance: f64, rows: u64) -> f64 {
    let Ok(differing) = Binomial::new(discordance.clamp(0.0, 1.0), rows) else { return 0.0 };
    if discordance <= 0.0 {
        return 0.0;
    }
    let losing = ((discordance - d.abs()) / (2.0 * discordance)).clamp(0.0, 1.0);
    let mean = rows as f64 * discordance;
    let reach = TAIL * (mean * (1.0 - discordance)).max(0.0).sqrt() + TAIL * TAIL;
    let first = ((mean - reach).max(0.0) as u64).max(LEAST);
    let last = rows.min((mean + reach).ceil() as u64);
    let told = |k: u64, lost: u64| paired::mcnemar_exact((k - lost) as usize, lost as usize) <= ALPHA;
    // The most losses among `first` differing rows with which these are told apart; each further row allows at most one more.
    let (mut most, mut untold) = (0, first / 2 + 1);
    while untold - most > 1 {
        let middle = most + (untold - most) / 2;
        if told(first, middle) { most = middle } else { untold = middle }
    }
    let mut chance = 0.0;
    for k in first..=last {
        if told(k, most + 1) {
            most += 1;
        }
        let lost = Binomial::new(losing, k).map_or(0.0, |lost| lost.cdf(most));
        chance += differing.pmf(k) * lost;
    }
    chance
}

/// Rows at which [`exact_power`] reaches `power` and with one fewer does not, from `about` so many. Where nearly all rows differ, power is
/// a saw, and a few rows fewer may do as well.
fn exact_rows(d: f64, discordance: f64, power: f64, about: u64) -> u64 {
    let enough = |rows: u64| exact_power(d, discordance, rows) >= power;
    let step = |rows: u64| (rows / 16).max(1);
    let mut high = about;
    while !enough(high) {
        // A chance that rounding keeps from being reached.
        if high as f64 * discordance > 2.0 * MANY {
            return about;
        }
        high += step(high);
    }
    let mut low = high;
    while low > LEAST && enough(low) {
        high = low;
        low -= step(low).min(low - LEAST);
    }
    if enough(low) {
        return low;
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if enough(middle) { high = middle } else { low = middle }
    }
    high
}

fn check_power(power: f64) -> Result<()> {
    if power > ALPHA && power < 1.0 {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, "the chance to see the difference")
        .expected("above 0.05 and below 1")
        .found(power.to_string()))
}
