//! Effect sizes: how large a difference is, in the numbers that other studies use, each with its name. They carry no
//! test; whether a difference is there at all is `paired`'s question.

use super::{mean, variance};
use serde::{Deserialize, Serialize};

/// Which effect size a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectKind {
    /// Rate of the candidate minus rate of the baseline, −1..=1.
    RiskDifference,
    /// Samples that only the candidate got right, over those that only the baseline got right; 1 is no difference, 0..
    PairedOddsRatio,
    /// 2 asin √rate of the candidate minus the same of the baseline, −π..=π (J. Cohen, 1988): about 0.2 is small, 0.5
    /// medium, 0.8 large.
    CohenH,
    /// Mean of the differences over their standard deviation ("Cohen's d_z"), without bounds.
    StandardisedDifference,
}

impl EffectKind {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            EffectKind::RiskDifference => "risk difference",
            EffectKind::PairedOddsRatio => "paired odds ratio",
            EffectKind::CohenH => "Cohen's h",
            EffectKind::StandardisedDifference => "standardised paired difference",
        }
    }
}

/// One effect size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Which one.
    pub kind: EffectKind,
    /// The number; `None` where it cannot be computed.
    pub value: Option<f64>,
    /// Why the number is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Effect {
    fn known(kind: EffectKind, value: f64) -> Effect {
        Effect { kind, value: Some(value), reason: None }
    }

    fn missing(kind: EffectKind, reason: &str) -> Effect {
        Effect { kind, value: None, reason: Some(reason.to_owned()) }
    }
}

/// Cohen's h of two rates.
pub fn cohen_h(candidate: f64, baseline: f64) -> f64 {
    2.0 * candidate.sqrt().asin() - 2.0 * baseline.sqrt().asin()
}

/// The effect sizes of yes-or-no answers, as pairs (baseline, candidate) of 0 and 1. Empty of nothing.
pub fn of_rates(pairs: &[(f64, f64)]) -> Vec<Effect> {
    if pairs.is_empty() {
        return Vec::new();
    }
    let n = pairs.len() as f64;
    let baseline = pairs.iter().map(|pair| pair.0).sum::<f64>() / n;
    let candidate = pairs.iter().map(|pair| pair.1).sum::<f64>() / n;
    let lost = pairs.iter().filter(|(a, b)| a > b).count() as f64;
    let gained = pairs.iter().filter(|(a, b)| a < b).count() as f64;
    let odds = match lost {
        0.0 => Effect::missing(EffectKind::PairedOddsRatio, "no sample that only the baseline got right"),
        _ => Effect::known(EffectKind::PairedOddsRatio, gained / lost),
    };
    vec![
        Effect::known(EffectKind::RiskDifference, candidate - baseline),
        odds,
        Effect::known(EffectKind::CohenH, cohen_h(candidate, baseline)),
    ]
}

/// The effect size of graded answers, from the differences candidate minus baseline.
pub fn of_differences(differences: &[f64]) -> Vec<Effect> {
    let kind = EffectKind::StandardisedDifference;
    vec![match (mean(differences), variance(differences)) {
        (Some(mean), Some(variance)) if variance > 0.0 => Effect::known(kind, mean / variance.sqrt()),
        (_, Some(_)) => Effect::missing(kind, "all differences are equal"),
        _ => Effect::missing(kind, super::not_enough(differences.len())),
    }]
}
