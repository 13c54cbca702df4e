//! Metrics: from the verdicts on samples to one number with its interval. Most are means over samples; some are numbers
//! of the whole corpus (`corpus`), and a weighted score is a mean of metrics. All of it works from verdicts alone, so a
//! record is enough. Which metrics a harness has is `harness`'s.

use crate::check::{Evidence, Kept, Verdict};
use crate::corpus::{CorpusNumber, Statistic, bootstrap};
use crate::harness::Verdicts;
use crate::statistics::{self, Clusters, Draws, Estimate, Unit};
use crate::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

/// A metric as it stands in a task file under `[[metric]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricSpec {
    /// Name in records and reports.
    pub name: String,
    /// What it means, in a few words, for reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Names of checks; `field.*` stands for all that begin with `field.`.
    pub checks: Vec<String>,
    /// How the verdicts become one number.
    #[serde(default)]
    pub aggregate: Aggregate,
}

/// How verdicts become one number. `mean` and `all` give each sample a number, and the metric is their mean; the others
/// are numbers of the corpus, of one check that keeps what they need (see [`CorpusNumber`] for what each means).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// The mean of the checks' numbers: the share that passed.
    #[default]
    Mean,
    /// 1 when every check that was asked passed, else 0.
    All,
    /// Of labels (`one_of`, `labels`, `choice`), fields or objects.
    MicroF1,
    /// Of labels.
    MacroF1,
    /// Of the check `bleu`.
    Bleu,
    /// Of the check `chrf`.
    Chrf,
    /// Of the check `ordinal`.
    QuadraticKappa,
    /// Of one check that keeps two numbers (`number`, `ordinal`), or of the numbers of two checks.
    Pearson,
    /// As `pearson`.
    Spearman,
    /// As `pearson`.
    Kendall,
}

impl Aggregate {
    /// Which number of the corpus it is, if it is one.
    fn of_corpus(self) -> Option<CorpusNumber> {
        match self {
            Aggregate::Mean | Aggregate::All => None,
            Aggregate::MicroF1 => Some(CorpusNumber::MicroF1),
            Aggregate::MacroF1 => Some(CorpusNumber::MacroF1),
            Aggregate::Bleu => Some(CorpusNumber::Bleu),
            Aggregate::Chrf => Some(CorpusNumber::Chrf),
            Aggregate::QuadraticKappa => Some(CorpusNumber::QuadraticKappa),
            Aggregate::Pearson => Some(CorpusNumber::Pearson),
            Aggregate::Spearman => Some(CorpusNumber::Spearman),
            Aggregate::Kendall => Some(CorpusNumber::Kendall),
        }
    }

    /// Whether it is no share of 1, whatever its checks are.
    fn is_own_number(self) -> bool {
        use Aggregate::{Kendall, Pearson, QuadraticKappa, Spearman};
        matches!(self, QuadraticKappa | Pearson | Spearman | Kendall)
    }

    /// What kinds of checks will do, in words, unless these do.
    fn refuses(self, kept: &[Kept]) -> Option<&'static str> {
        let (fits, words) = match self {
            Aggregate::Mean | Aggregate::All => return None,
            Aggregate::MicroF1 => (
                matches!(kept, [Kept::Labels | Kept::Hits]),
                "one check of the kinds one_of, labels, choice, field_f1, objects_f1",
            ),
            Aggregate::MacroF1 => {
                (matches!(kept, [Kept::Labels]), "one check of the kinds one_of, labels, choice")
            }
            Aggregate::Bleu => (matches!(kept, [Kept::Bleu]), "one check of the kind bleu"),
            Aggregate::Chrf => (matches!(kept, [Kept::Chrf]), "one check of the kind chrf"),
            Aggregate::QuadraticKappa => (matches!(kept, [Kept::Numbers]), "one check of the kind ordinal"),
            Aggregate::Pearson | Aggregate::Spearman | Aggregate::Kendall => (
                matches!(kept, [Kept::Numbers] | [_, _]),
                "one check of the kinds number, ordinal, or two checks",
            ),
        };
        (!fits).then_some(words)
    }
}

/// A metric with its checks found.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Name in records and reports.
    pub name: String,
    /// What it means, for reports.
    pub description: Option<String>,
    form: Form,
}

/// A check as a metric needs to know it.
#[derive(Clone, Debug)]
pub(crate) struct KnownCheck {
    /// Its name in verdicts.
    pub name: String,
    /// What it keeps for numbers of the corpus.
    pub kept: Kept,
    /// What its number is.
    pub unit: Unit,
}

#[derive(Clone, Debug, PartialEq)]
enum Form {
    Checks { checks: Vec<String>, aggregate: Aggregate, unit: Unit },
    Weighted(Vec<(Metric, f64)>),
}

impl Metric {
    /// The metric `spec` over the `checks` that were found for it.
    ///
    /// # Errors
    /// When the checks do not keep what the aggregate needs.
    pub(crate) fn new(spec: &MetricSpec, checks: Vec<KnownCheck>) -> Result<Self> {
        let kept: Vec<Kept> = checks.iter().map(|check| check.kept).collect();
        if let Some(expected) = spec.aggregate.refuses(&kept) {
            let found: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
            return Err(Error::new(
                Kind::Data,
                format!("the aggregate of the metric `{}` cannot be made of its checks", spec.name),
            )
            .expected(expected)
            .found(found.join(", ")));
        }
        let number = checks.iter().any(|check| check.unit == Unit::Number);
        let unit = if spec.aggregate.is_own_number() || (spec.aggregate == Aggregate::Mean && number) {
            Unit::Number
        } else {
            Unit::Share
        };
        let checks = checks.into_iter().map(|check| check.name).collect();
        Ok(Metric {
            name: spec.name.clone(),
            description: spec.description.clone(),
            form: Form::Checks { checks, aggregate: spec.aggregate, unit },
        })
    }

    /// The weighted mean of `parts`, called `name`.
    pub(crate) fn weighted(name: &str, parts: Vec<(Metric, f64)>) -> Self {
        Metric { name: name.to_owned(), description: None, form: Form::Weighted(parts) }
    }

    /// This metric's number for one sample; `None` where there is none. For a number of the corpus it is the number of
    /// its (first) check, which only describes the sample.
    pub fn value(&self, verdicts: &Verdicts) -> Option<f64> {
        let (checks, aggregate) = match &self.form {
            Form::Checks { checks, aggregate, .. } => (checks, aggregate),
            Form::Weighted(parts) => {
                let known = parts.iter().filter_map(|(part, weight)| Some((part.value(verdicts)?, weight)));
                let (sum, weights) = known.fold((0.0, 0.0), |(sum, weights), (value, weight)| {
                    (sum + value * weight, weights + weight)
                });
                return (weights > 0.0).then(|| sum / weights);
            }
        };
        let number = |name: &String| verdicts.get(name).and_then(Verdict::number);
        match aggregate {
            Aggregate::Mean => statistics::mean(&checks.iter().filter_map(number).collect::<Vec<_>>()),
            Aggregate::All => {
                let not_asked =
                    |name: &&String| matches!(verdicts.get(*name), Some(Verdict::NotAsked { .. }));
                let asked: Vec<&String> = checks.iter().filter(|name| !not_asked(name)).collect();
                let numbers: Vec<f64> = asked.iter().filter_map(|name| number(name)).collect();
                if asked.is_empty() || numbers.len() < asked.len() {
                    return None;
                }
                Some(f64::from(u8::from(numbers.iter().all(|number| *number == 1.0))))
            }
            _ => checks.first().and_then(number),
        }
    }

    /// What its number is: κ, correlations, cosines and numbers that stand in rows are numbers of their own, and so is a
    /// mean that contains one.
    pub fn unit(&self) -> Unit {
        match &self.form {
            Form::Checks { unit, .. } => *unit,
            Form::Weighted(parts) if parts.iter().any(|(part, _)| part.unit() == Unit::Number) => {
                Unit::Number
            }
            Form::Weighted(_) => Unit::Share,
        }
    }

    /// Whether the number of a sample answers one yes-or-no question, so that the metric is a rate.
    pub fn is_rate(&self) -> bool {
        match &self.form {
            Form::Checks { checks, aggregate: Aggregate::Mean, .. } => checks.len() == 1,
            Form::Checks { aggregate, .. } => *aggregate == Aggregate::All,
            Form::Weighted(_) => false,
        }
    }

    /// The metric over the numbers of samples, with its interval: Wilson's for a rate, a seeded bootstrap for a mean. Not
    /// for numbers of the corpus: see [`Metric::measure`].
    pub fn estimate(&self, values: &[f64], seed: u64) -> Estimate {
        if self.is_rate() && values.iter().all(|value| *value == 0.0 || *value == 1.0) {
            return statistics::rate(values.iter().filter(|value| **value == 1.0).count(), values.len());
        }
        if values.iter().all(|value| (0.0..=1.0).contains(value)) {
            return statistics::mean_in_unit(values, seed);
        }
        // What a row gives (`given`) may have any range.
        Estimate::new(statistics::mean(values), statistics::bootstrap_mean(values, seed), values.len())
    }

    /// The metric over samples, given their verdicts, with its interval, and how many samples have no number. Where
    /// samples stand or fall together in `clusters`, whole clusters are redrawn.
    pub fn measure(&self, samples: &[&Verdicts], clusters: Option<&Clusters>, seed: u64) -> Estimate {
        let mut estimate = if self.is_mean_over(samples) {
            let (known, values): (Vec<usize>, Vec<f64>) = samples
                .iter()
                .enumerate()
                .filter_map(|(index, verdicts)| Some((index, self.value(verdicts)?)))
                .unzip();
            match clusters.map(|clusters| clusters.among(&known)).filter(Clusters::matter) {
                Some(clusters) => statistics::mean_in_clusters(&values, &clusters, seed),
                None => self.estimate(&values, seed),
            }
        } else {
            let statistic = self.statistic(samples);
            let all: Vec<usize> = (0..samples.len()).collect();
            let value = statistic.value(&all);
            let n = samples.iter().filter(|verdicts| self.counts(verdicts)).count();
            let interval = match value {
                Ok(_) if n < 2 => Err(if n == 0 {
                    "not enough samples: none"
                } else {
                    "not enough samples: one says nothing about the spread"
                }),
                Ok(_) => {
                    let draws = Draws { seed, count: statistic.draws() };
                    bootstrap(samples.len(), clusters, &draws, &statistic)
                }
                Err(reason) => Err(reason),
            };
            Estimate::new(value.ok(), interval, n)
        };
        estimate.unit = self.unit();
        for verdicts in samples {
            let missing = self.checks().iter().any(|name| match verdicts.get(*name) {
                Some(Verdict::NotAsked { .. }) => false,
                verdict => verdict.and_then(Verdict::number).is_none(),
            });
            estimate.missing += usize::from(missing || (!self.counts(verdicts) && self.asked(verdicts)));
            estimate.not_asked += usize::from(!missing && !self.asked(verdicts));
        }
        estimate
    }

    /// Whether the metric of these samples is the mean of their numbers. Else it is a number of the corpus.
    pub fn is_mean_over(&self, samples: &[&Verdicts]) -> bool {
        match &self.form {
            Form::Checks { aggregate, .. } => aggregate.of_corpus().is_none(),
            // A mean of means is the mean over samples where every sample has every number.
            Form::Weighted(parts) => parts.iter().all(|(part, _)| {
                part.is_mean_over(samples) && samples.iter().all(|verdicts| part.value(verdicts).is_some())
            }),
        }
    }

    /// The metric as a number of any choice of `samples`.
    pub(crate) fn statistic(&self, samples: &[&Verdicts]) -> Statistic {
        match &self.form {
            Form::Weighted(parts) => Statistic::Weighted(
                parts.iter().map(|(part, weight)| (part.statistic(samples), *weight)).collect(),
            ),
            Form::Checks { aggregate, .. } => match aggregate.of_corpus() {
                None => Statistic::Mean(samples.iter().map(|verdicts| self.value(verdicts)).collect()),
                Some(number) => {
                    let evidence: Vec<_> = samples.iter().map(|verdicts| self.evidence(verdicts)).collect();
                    Statistic::new(number, &evidence)
                }
            },
        }
    }

    /// What a sample adds to this number of the corpus.
    fn evidence(&self, verdicts: &Verdicts) -> Option<Evidence> {
        let Form::Checks { checks, .. } = &self.form else { return None };
        match checks.as_slice() {
            [one] => verdicts.get(one)?.evidence().cloned(),
            [first, second] => {
                let number = |name: &String| verdicts.get(name).and_then(Verdict::number);
                Some(Evidence::Numbers { found: number(first)?, expected: number(second)? })
            }
            _ => None,
        }
    }

    /// Whether the sample has what the metric is made from.
    pub(crate) fn counts(&self, verdicts: &Verdicts) -> bool {
        match &self.form {
            Form::Weighted(parts) => parts.iter().any(|(part, _)| part.counts(verdicts)),
            Form::Checks { aggregate, .. } if aggregate.of_corpus().is_some() => {
                self.evidence(verdicts).is_some()
            }
            Form::Checks { .. } => self.value(verdicts).is_some(),
        }
    }

    /// Whether a check of the metric was asked of the sample.
    fn asked(&self, verdicts: &Verdicts) -> bool {
        self.checks().iter().any(|name| !matches!(verdicts.get(*name), Some(Verdict::NotAsked { .. })))
    }

    /// Names of the checks that it is made of.
    pub fn checks(&self) -> Vec<&String> {
        match &self.form {
            Form::Checks { checks, .. } => checks.iter().collect(),
            Form::Weighted(parts) => parts.iter().flat_map(|(part, _)| part.checks()).collect(),
        }
    }
}

#[cfg(test)]
#[path = "metric_tests.rs"]
mod tests;
