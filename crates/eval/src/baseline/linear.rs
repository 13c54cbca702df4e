//! The linear baseline: frozen vectors of the inputs and a logistic regression on them. The penalty, and for sets of
//! labels the threshold, are chosen on the validation rows, else on a part of the training rows.

use super::answers::Answers;
use super::logistic::{Data, Logistic};
use super::minimise::Stop;
use crate::random::Random;

/// The inverse penalties that are tried, from the strongest penalty to the weakest; each fit starts from the one before.
const PENALTIES: [f64; 5] = [1.0, 4.0, 16.0, 64.0, 256.0];
/// The thresholds that are tried for sets of labels: steps of this width between 0 and 1.
const THRESHOLD_STEP: f64 = 0.02;
/// One row of so many is held out where there are no validation rows.
const HELD_OUT: usize = 5;
/// Where a fit ends.
const STOP: Stop = Stop { gradient: 1e-5, steps: 500 };

/// Vectors and what is right for them.
pub struct Examples {
    /// One vector a row.
    pub vectors: Vec<Vec<f32>>,
    /// The right classes or labels of each row; empty where the training rows know none of them.
    pub right: Vec<Vec<usize>>,
}

/// A fitted baseline and how it was chosen.
#[derive(Clone, Debug)]
pub struct Linear {
    regression: Logistic,
    /// The inverse penalty that was chosen.
    pub c: f64,
    /// The probability from which on a label is given; `None` for classes.
    pub threshold: Option<f64>,
    /// Whether no training row has an empty set, so that an answer never is one either.
    never_empty: bool,
}

/// How good a setting was on the held-out rows: first what counts, then the log-probability where that is equal.
type Quality = (f64, f64);

impl Linear {
    /// Fits on `vectors` with the `answers` of the same rows, which are not free; the settings are chosen on `validation`,
    /// or, without, on a fifth of the rows drawn with `seed`.
    pub fn fit(
        vectors: &[Vec<f32>],
        answers: &Answers,
        validation: Option<&Examples>,
        seed: u64,
    ) -> Option<Linear> {
        let targets = answers.targets()?;
        let held_out = match validation {
            Some(_) => None,
            None => Some(split(vectors, answers, seed)?),
        };
        let data = Data::new(vectors);
        let mut path: Option<Logistic> = None;
        let mut best: Option<(Quality, f64, Option<f64>)> = None;
        let mut fits = Vec::new();
        for c in PENALTIES {
            let (regression, on) = match (&held_out, validation) {
                (Some((part, part_answers, rest)), _) => {
                    (Logistic::fit(&Data::new(part), &part_answers.targets()?, c, path.as_ref(), STOP), rest)
                }
                (None, Some(validation)) => {
                    (Logistic::fit(&data, &targets, c, path.as_ref(), STOP), validation)
                }
                (None, None) => return None,
            };
            let (quality, threshold) = quality(&regression.probabilities(&on.vectors), &on.right, answers);
            if best.as_ref().is_none_or(|(best, ..)| quality > *best) {
                best = Some((quality, c, threshold));
            }
            fits.push(regression.clone());
            path = Some(regression);
        }
        let (_, c, threshold) = best?;
        let place = PENALTIES.iter().position(|penalty| *penalty == c)?;
        // Fitted on all training rows already where validation rows chose.
        let regression = match held_out {
            Some(_) => Logistic::fit(&data, &targets, c, fits.get(place), STOP),
            None => fits.swap_remove(place),
        };
        let never_empty = match answers {
            Answers::Sets { of_row, .. } => of_row.iter().all(|set| !set.is_empty()),
            _ => true,
        };
        Some(Linear { regression, c, threshold, never_empty })
    }

    /// The chosen class, or the chosen labels, of each vector.
    pub fn choose(&self, vectors: &[Vec<f32>]) -> Vec<Vec<usize>> {
        let probabilities = self.regression.probabilities(vectors);
        probabilities.iter().map(|row| chosen(row, self.threshold, self.never_empty)).collect()
    }
}

fn chosen(probabilities: &[f64], threshold: Option<f64>, never_empty: bool) -> Vec<usize> {
    let over = |bound: f64| (0..probabilities.len()).filter(|&label| probabilities[label] >= bound).collect();
    let labels: Vec<usize> = threshold.map(over).unwrap_or_default();
    if labels.is_empty() && (threshold.is_none() || never_empty) {
        return top(probabilities).into_iter().collect();
    }
    labels
}

/// The most probable one, the first of equals.
fn top(probabilities: &[f64]) -> Option<usize> {
    (0..probabilities.len()).reduce(|best, i| if probabilities[i] > probabilities[best] { i } else { best })
}

/// Holds out a fifth of the rows; `None` where nothing would be left on one side.
fn split(vectors: &[Vec<f32>], answers: &Answers, seed: u64) -> Option<(Vec<Vec<f32>>, Answers, Examples)> {
    let mut order: Vec<usize> = (0..vectors.len()).collect();
    Random::new(seed).shuffle(&mut order);
    let (out, kept) = order.split_at(vectors.len() / HELD_OUT);
    if out.is_empty() || kept.is_empty() {
        return None;
    }
    let pick = |rows: &[usize]| rows.iter().map(|&row| vectors[row].clone()).collect();
    let right = match answers.part(out) {
        Answers::Classes { of_row, .. } => of_row.into_iter().map(|class| vec![class]).collect(),
        Answers::Sets { of_row, .. } => of_row,
        Answers::Free => return None,
    };
    Some((pick(kept), answers.part(kept), Examples { vectors: pick(out), right }))
}

/// Classes: accuracy. Sets: the micro-averaged F1 at the best threshold, and that threshold.
fn quality(probabilities: &[Vec<f64>], right: &[Vec<usize>], answers: &Answers) -> (Quality, Option<f64>) {
    let rows = || probabilities.iter().zip(right);
    let log = |p: f64| p.max(f64::MIN_POSITIVE).ln();
    if let Answers::Classes { .. } = answers {
        let hits = rows().filter(|(row, right)| top(row).is_some_and(|top| right.contains(&top))).count();
        let logs: f64 = rows().map(|(row, right)| right.first().map_or(0.0, |&class| log(row[class]))).sum();
        return ((hits as f64, logs), None);
    }
    let logs = rows().map(|(row, right)| {
        let each = row.iter().enumerate();
        each.map(|(label, p)| log(if right.contains(&label) { *p } else { 1.0 - p })).sum::<f64>()
    });
    let logs = logs.sum();
    let steps = (1.0 / THRESHOLD_STEP).round() as usize;
    let tried: Vec<(f64, f64)> = (1..steps)
        .map(|step| step as f64 * THRESHOLD_STEP)
        .map(|threshold| (micro_f1(rows(), threshold), threshold))
        .collect();
    let f1 = tried.iter().map(|(f1, _)| *f1).fold(0.0, f64::max);
    // In the middle of equally good ones, which is where new rows are the least likely to fall on the wrong side.
    let good: Vec<f64> = tried.iter().filter(|(other, _)| *other == f1).map(|(_, at)| *at).collect();
    ((f1, logs), Some(good[good.len() / 2]))
}

fn micro_f1<'a>(rows: impl Iterator<Item = (&'a Vec<f64>, &'a Vec<usize>)>, threshold: f64) -> f64 {
    let (mut hits, mut given, mut wanted) = (0, 0, 0);
    for (row, right) in rows {
        let labels = chosen(row, Some(threshold), false);
        hits += labels.iter().filter(|label| right.contains(label)).count();
        given += labels.len();
        wanted += right.len();
    }
    if given + wanted == 0 { 0.0 } else { 2.0 * hits as f64 / (given + wanted) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points around three corners; the last class is rare.
    fn corners(n: usize, seed: u64) -> (Vec<Vec<f32>>, Vec<usize>) {
        let mut random = Random::new(seed);
        let mut noise = move || (random.below(1000) as f32 / 1000.0 - 0.5) * 0.9;
        let row = |i: usize| {
            let class = i % 3;
            let corner = [[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]][class];
            (vec![corner[0] + noise(), corner[1] + noise()], class)
        };
        (0..n).map(row).unzip()
    }

    fn classes(of_row: &[usize]) -> Answers {
        Answers::Classes { texts: vec!["a".into(), "b".into(), "c".into()], of_row: of_row.to_vec() }
    }

    #[test]
    fn classes_are_learnt_with_and_without_validation_rows() {
        let (vectors, right) = corners(90, 1);
        let (others, others_right) = corners(60, 2);
        let validation = Examples {
            vectors: others.clone(),
            right: others_right.iter().map(|&class| vec![class]).collect(),
        };
        for validation in [None, Some(&validation)] {
            let linear = Linear::fit(&vectors, &classes(&right), validation, 3).unwrap();
            let found = linear.choose(&others);
            let hits =
                found.iter().zip(&others_right).filter(|(found, right)| found[..] == [**right]).count();
            assert!(hits >= 57, "{hits} of 60");
            assert_eq!(linear.threshold, None);
        }
        assert!(Linear::fit(&vectors, &Answers::Free, None, 3).is_none());
        assert!(Linear::fit(&vectors[..3], &classes(&right[..3]), None, 3).is_none(), "nothing to hold out");
    }

    #[test]
    fn sets_get_a_threshold_and_may_be_empty_where_the_data_has_empty_ones() {
        let (vectors, right) = corners(120, 4);
        // The first corner has both labels, the second one, the third none.
        let set = |class: &usize| match class {
            0 => vec![0, 1],
            1 => vec![1],
            _ => vec![],
        };
        let of_row: Vec<Vec<usize>> = right.iter().map(set).collect();
        let answers = Answers::Sets { labels: vec!["x".into(), "y".into()], of_row: of_row.clone() };
        let linear = Linear::fit(&vectors, &answers, None, 3).unwrap();
        let threshold = linear.threshold.unwrap();
        assert!((0.1..0.9).contains(&threshold), "{threshold}");
        let hits = linear.choose(&vectors).iter().zip(&of_row).filter(|(a, b)| a == b).count();
        assert!(hits >= 112, "{hits} of 120");
        assert_eq!(chosen(&[0.1, 0.2], Some(0.5), false), [0usize; 0]);
        assert_eq!(chosen(&[0.1, 0.2], Some(0.5), true), [1], "the best one, where no set is empty");
    }

    #[test]
    fn micro_f1_counts_over_all_rows() {
        let (rows, right) = ([vec![0.9, 0.9], vec![0.1, 0.6]], [vec![0], vec![0, 1]]);
        assert_eq!(micro_f1(rows.iter().zip(&right), 0.5), 2.0 * 2.0 / 6.0);
    }
}
