//! A learning curve: the score of one kind of candidate after learning from more and more of the training rows, the law
//! fitted to it, and what twice the rows would bring. The uncertainty comes from redrawing the measured samples, the same
//! draws for all points; which rows were in each part, and the seed of the training, are not redrawn, so the true
//! uncertainty is larger. The law itself is `curve`'s.

use super::curve::PowerLaw;
use crate::compare::{GROUP, clusters_of};
use crate::harness::resolve_metrics;
use crate::runner::Evaluation;
use crate::statistics::redrawn::Redrawn;
use crate::statistics::{Draws, Estimate, Unit};
use crate::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

/// Redraws of the samples, each of which is fitted anew.
const DRAWS: usize = 1_000;
/// Places at which the fitted law is kept for drawing.
const PLACES: usize = 24;

/// One kind of candidate on more and more rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearningCurve {
    /// What it is called: `tuned`, `linear`.
    pub role: String,
    /// What was measured, the fewest rows first.
    pub points: Vec<CurvePoint>,
    /// The law; `None` where there are too few points.
    pub law: Option<PowerLaw>,
    /// The law at places from the fewest rows to twice the most.
    pub fitted: Vec<Fitted>,
    /// What twice the rows would bring.
    pub doubled: Option<Doubled>,
    /// Why there is no law.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One point of a curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Training rows.
    pub rows: usize,
    /// The score after learning from them.
    pub score: Estimate,
}

/// The law at one place.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fitted {
    /// Training rows.
    pub rows: f64,
    /// The score by the law.
    pub score: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What twice the rows would bring by the law.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Doubled {
    /// Twice the rows of the last point.
    pub rows: usize,
    /// The score by the law with so many rows.
    pub score: f64,
    /// The score by the law with twice the rows, minus that with the rows there are.
    pub gain: f64,
    /// Lower end of the 95 % interval of the gain.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// Why there is no interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl LearningCurve {
    /// The curve of evaluations of the same samples after learning from so many rows each.
    ///
    /// # Errors
    /// When there is no point, or points were measured on different samples or with other checks.
    pub fn of(role: &str, measured: &[(usize, &Evaluation)], seed: u64) -> Result<LearningCurve> {
        let mut measured = measured.to_vec();
        measured.sort_by_key(|(rows, _)| *rows);
        check(&measured)?;
        let first = measured[0].1;
        let name = first.header.harness.score.name();
        let points: Vec<CurvePoint> = measured
            .iter()
            .filter_map(|(rows, evaluation)| {
                Some(CurvePoint { rows: *rows, score: evaluation.metrics.get(name)?.clone() })
            })
            .collect();
        let empty = LearningCurve {
            role: role.to_owned(),
            points,
            law: None,
            fitted: vec![],
            doubled: None,
            reason: None,
        };
        let without = |reason: &str| Ok(LearningCurve { reason: Some(reason.to_owned()), ..empty.clone() });
        let metrics = resolve_metrics(&first.header.harness)?;
        let Some(metric) = metrics.iter().find(|metric| metric.name == name) else {
            return without("the score names no metric");
        };
        let known: Option<Vec<(f64, f64)>> =
            empty.points.iter().map(|p| Some((p.rows as f64, 1.0 - p.score.value?))).collect();
        let Some(known) = known.filter(|known| known.len() == measured.len()) else {
            return without("a point has no score");
        };
        if known.iter().any(|(_, error)| !(0.0..=2.0).contains(error)) {
            return without("the law is for scores of at most 1 and at least −1");
        }
        let Some(law) = PowerLaw::fit(&known) else {
            return without("not enough points: a law takes three different numbers of rows");
        };
        let statistics: Vec<_> = measured
            .iter()
            .map(|(_, evaluation)| {
                metric.statistic(&evaluation.samples.iter().map(|s| &s.verdicts).collect::<Vec<_>>())
            })
            .collect();
        let redrawn = Redrawn::new(first.samples.len(), clusters_of(first.samples.iter(), GROUP).as_ref());
        let laws = redrawn.numbers(&Draws { seed, count: DRAWS }, |chosen| {
            let point = |(statistic, (rows, _)): (&crate::corpus::Statistic, &(f64, f64))| {
                Some((*rows, 1.0 - statistic.value(chosen).ok()?))
            };
            PowerLaw::fit(&statistics.iter().zip(&known).map(point).collect::<Option<Vec<_>>>()?)
        });
        let most = measured[measured.len() - 1].0;
        Ok(LearningCurve {
            fitted: fitted(&law, &laws, &redrawn, (measured[0].0 as f64, 2.0 * most as f64)),
            doubled: Some(doubled(&law, &laws, &redrawn, most)),
            law: Some(law),
            ..empty
        })
    }

    /// What twice the rows would bring, as a sentence; a claim it is not, because nothing with so many rows was measured.
    pub fn sentence(&self, unit: Unit) -> String {
        let Some(doubled) = &self.doubled else {
            let reason = self.reason.as_deref().unwrap_or("not enough points");
            return format!("What more rows would bring {} is not known: {reason}.", self.role);
        };
        let interval = match (doubled.low, doubled.high) {
            (Some(low), Some(high)) => {
                format!("95 % interval {} to {}", unit.difference(low), unit.difference(high))
            }
            _ => doubled.reason.clone().unwrap_or_else(|| "no interval".to_owned()),
        };
        format!(
            "By its learning curve, twice the rows ({}) would bring {} {}{} ({interval}), from {} on the curve to {}.",
            doubled.rows,
            self.role,
            unit.difference(doubled.gain),
            unit.points(),
            // The last point itself lies beside the curve.
            unit.value(doubled.score - doubled.gain),
            unit.value(doubled.score),
        )
    }
}

fn check(measured: &[(usize, &Evaluation)]) -> Result<()> {
    let Some((_, first)) = measured.first() else {
        return Err(Error::new(Kind::Usage, "a learning curve without a point"));
    };
    for (rows, evaluation) in measured {
        let (a, b) = (&first.header, &evaluation.header);
        if a.harness_fingerprint != b.harness_fingerprint || a.data_fingerprint != b.data_fingerprint {
            return Err(Error::new(
                Kind::Usage,
                "points of a learning curve were measured on different samples",
            )
            .expected(format!("samples {}", a.data_fingerprint))
            .found(format!("samples {} after {rows} rows", b.data_fingerprint))
            .hint("measure all of them with the same task file, --limit and --seed"));
        }
    }
    Ok(())
}

fn fitted(
    law: &PowerLaw,
    laws: &[Option<PowerLaw>],
    redrawn: &Redrawn,
    (from, to): (f64, f64),
) -> Vec<Fitted> {
    let place = |i: usize| from * (to / from).powf(i as f64 / (PLACES - 1) as f64);
    let at = |rows: f64| {
        let score = |law: &PowerLaw| 1.0 - law.error(rows);
        let scores: Vec<Option<f64>> = laws.iter().map(|law| law.as_ref().map(score)).collect();
        let interval = redrawn.interval(&scores).ok();
        let (low, high) = interval.map_or((score(law), score(law)), |i| (i.low, i.high));
        Fitted { rows, score: score(law), low, high }
    };
    (0..PLACES).map(place).map(at).collect()
}

fn doubled(law: &PowerLaw, laws: &[Option<PowerLaw>], redrawn: &Redrawn, most: usize) -> Doubled {
    let gain = |law: &PowerLaw| law.error(most as f64) - law.error(2.0 * most as f64);
    let gains: Vec<Option<f64>> = laws.iter().map(|law| law.as_ref().map(gain)).collect();
    let interval = redrawn.interval(&gains);
    Doubled {
        rows: 2 * most,
        score: 1.0 - law.error(2.0 * most as f64),
        gain: gain(law),
        low: interval.ok().map(|interval| interval.low),
        high: interval.ok().map(|interval| interval.high),
        reason: interval.err().map(str::to_owned),
    }
}
