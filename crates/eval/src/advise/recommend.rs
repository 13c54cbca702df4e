//! From what was measured to one recommendation, by a table that can be read: which of fine-tuning, a prompt, a simple
//! learner or more data comes first. It reads the kinds of claims that `compare` made and words none itself.

use super::learning::Doubled;
use crate::baseline::Sort;
use crate::compare::ClaimKind;
use serde::{Deserialize, Serialize};

/// While a difference of so much in favour of the trained model is not excluded, "not told apart" says too little.
const UNDECIDED: f64 = 0.10;
/// A curve still rises where the whole interval of the gain by twice the rows is above this.
const RISES: f64 = 0.01;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recommendation {
    /// Train a model.
    FineTune,
    /// Take the untrained model with the strongest prompt.
    Prompt,
    /// Take a linear classifier on frozen vectors.
    Linear,
    /// Take the answer of the most similar training row.
    Nearest,
    /// Get more rows, then ask again.
    CollectMore,
    /// Nothing can be recommended from what was measured.
    Undecided,
}

impl Recommendation {
    /// As a sentence.
    pub fn headline(self) -> &'static str {
        match self {
            Recommendation::FineTune => "Fine-tune a model.",
            Recommendation::Prompt => "A prompt is enough.",
            Recommendation::Linear => "A linear classifier is enough.",
            Recommendation::Nearest => "The answer of the most similar row is enough.",
            Recommendation::CollectMore => "Collect more data first.",
            Recommendation::Undecided => "Not enough was measured to decide.",
        }
    }
}

/// What the recommendation is made from.
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    /// What the strongest candidate that was not trained needs; `None` where there is no other or no trained one.
    pub strongest: Option<Sort>,
    /// Its score.
    pub strongest_score: Option<f64>,
    /// What may be said of the trained model against it.
    pub verdict: Option<ClaimKind>,
    /// Upper end of the interval of the trained model's score minus its; the difference where it is the same on every
    /// sample; `None` where there is no test.
    pub at_most: Option<f64>,
    /// Measured inputs that stand in the training rows too.
    pub shared: usize,
    /// What twice the rows would bring the trained model.
    pub doubled: Option<&'a Doubled>,
}

/// What to do, and why in terms of the table (claims and numbers are listed beside it).
pub fn recommend(evidence: &Evidence<'_>) -> (Recommendation, String) {
    use Recommendation::{CollectMore, FineTune, Linear, Nearest, Prompt, Undecided};
    let (Some(strongest), Some(verdict)) = (evidence.strongest, evidence.verdict) else {
        let why = "Nothing was trained and measured beside a baseline, so there is nothing to weigh.";
        return (Undecided, why.into());
    };
    if evidence.shared > 0 {
        let why = "Measured inputs stand in the training rows too, so the scores say nothing about new rows.";
        return (Undecided, why.into());
    }
    let rises = evidence.doubled.is_some_and(|doubled| doubled.low.is_some_and(|low| low > RISES));
    let reaches =
        evidence.doubled.zip(evidence.strongest_score).is_some_and(|(doubled, score)| doubled.score > score);
    let enough = match strongest {
        Sort::Trained | Sort::Prompt => Prompt,
        Sort::Linear => Linear,
        Sort::Nearest => Nearest,
        Sort::Majority => CollectMore,
    };
    let because = |what, why: &str| (what, why.to_owned());
    match verdict {
        ClaimKind::Better if rises => because(
            FineTune,
            "The trained model is told apart from the strongest simpler way in its favour, and its curve still rises: more rows would pay, too.",
        ),
        ClaimKind::Better => {
            because(FineTune, "The trained model is told apart from the strongest simpler way in its favour.")
        }
        _ if strongest == Sort::Majority => because(
            CollectMore,
            "Nothing that was measured has a higher score than always giving the most frequent answer, or is told apart from it in its favour: the rows do not teach the task yet.",
        ),
        ClaimKind::Worse if rises && reaches => because(
            CollectMore,
            "The trained model is behind today, but its curve still rises and passes the strongest simpler way with twice the rows, if the law holds.",
        ),
        ClaimKind::Worse => because(enough, "A way that needs less gives the higher score."),
        ClaimKind::Nothing | ClaimKind::NonInferior => match evidence.at_most {
            Some(high) if high > UNDECIDED => because(
                CollectMore,
                "The measured rows are too few: that training is worth ten points or more (the bound of this advice) is not excluded, and neither is that it is worth nothing.",
            ),
            None => because(CollectMore, "The measured rows are too few for a test."),
            Some(_) if rises && strongest == Sort::Prompt => because(
                CollectMore,
                "Training is not told apart from a prompt, but its curve still rises with the rows, and a prompt's does not.",
            ),
            Some(_) => because(
                enough,
                "Training is not told apart from the strongest simpler way, by the interval it is worth less than ten points (the bound of this advice), and then the simpler one comes first.",
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubled(low: f64, score: f64) -> Doubled {
        Doubled { rows: 200, score, gain: low + 0.02, low: Some(low), high: Some(low + 0.04), reason: None }
    }

    fn asked(
        strongest: Sort,
        verdict: ClaimKind,
        at_most: Option<f64>,
        doubled: Option<&Doubled>,
    ) -> Recommendation {
        let strongest_score = Some(0.7);
        recommend(&Evidence {
            strongest: Some(strongest),
            strongest_score,
            verdict: Some(verdict),
            at_most,
            shared: 0,
            doubled,
        })
        .0
    }

    #[test]
    fn each_row_of_the_table() {
        use ClaimKind::{Better, NonInferior, Nothing, Worse};
        use Recommendation::*;
        let (flat, rising, far) = (doubled(-0.01, 0.9), doubled(0.02, 0.75), doubled(0.02, 0.6));
        let cases = [
            (Sort::Prompt, Better, Some(0.3), None, FineTune),
            (Sort::Linear, Better, Some(0.3), Some(&rising), FineTune),
            (Sort::Majority, Better, Some(0.3), Some(&flat), FineTune),
            (Sort::Prompt, Worse, Some(-0.1), Some(&flat), Prompt),
            (Sort::Linear, Worse, Some(-0.1), Some(&far), Linear),
            (Sort::Linear, Worse, Some(-0.1), Some(&rising), CollectMore),
            (Sort::Nearest, Worse, Some(-0.1), None, Nearest),
            (Sort::Majority, Worse, Some(-0.1), None, CollectMore),
            (Sort::Majority, Nothing, Some(0.01), None, CollectMore),
            (Sort::Prompt, Nothing, Some(0.2), Some(&flat), CollectMore),
            (Sort::Prompt, Nothing, None, None, CollectMore),
            (Sort::Prompt, Nothing, Some(0.05), Some(&flat), Prompt),
            (Sort::Prompt, Nothing, Some(0.05), Some(&rising), CollectMore),
            (Sort::Linear, Nothing, Some(0.05), Some(&rising), Linear),
            (Sort::Linear, NonInferior, Some(0.05), None, Linear),
            (Sort::Nearest, Nothing, Some(0.05), None, Nearest),
        ];
        for (strongest, verdict, at_most, doubled, expected) in cases {
            let found = asked(strongest, verdict, at_most, doubled);
            assert_eq!(found, expected, "{strongest:?} {verdict:?} {at_most:?} {doubled:?}");
        }
    }

    #[test]
    fn without_a_trained_model_nothing_is_decided() {
        let evidence = Evidence {
            strongest: Some(Sort::Linear),
            strongest_score: Some(0.9),
            verdict: None,
            at_most: None,
            shared: 0,
            doubled: None,
        };
        assert_eq!(recommend(&evidence).0, Recommendation::Undecided);
        let better = Evidence { verdict: Some(ClaimKind::Better), at_most: Some(0.3), ..evidence.clone() };
        assert_eq!(recommend(&better).0, Recommendation::FineTune);
        let leaked = recommend(&Evidence { shared: 1, ..better });
        assert!(leaked.0 == Recommendation::Undecided && leaked.1.contains("training rows"), "{leaked:?}");
        assert_eq!(
            (Sort::of("tuned"), Sort::of("few-shot"), Sort::of("linear")),
            (Sort::Trained, Sort::Prompt, Sort::Linear)
        );
    }
}
