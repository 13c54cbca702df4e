//! `given`: a number that stands in the row, such as what people gave a text (`meta.human`): any finite one, in the row's own
//! unit. It judges no answer; a metric of two checks (`checks = ["rouge", "human"]`, `aggregate = "spearman"`) sets a scorer beside it.

use super::sides::look_up;
use super::{Answer, Check, Verdict};
use crate::sample::Sample;
use serde::{Deserialize, Serialize};

/// What one writes in a task file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenSpec {
    /// Name of the check in records and metrics.
    pub name: String,
    /// Where in the row: `meta.NAME`, `expected.NAME`, `expected`.
    pub from: String,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Given(pub GivenSpec);

impl Check for Given {
    fn judge(&self, sample: &Sample, _: &Answer<'_>) -> Verdict {
        match look_up(sample, &self.0.from) {
            Err(reason) => Verdict::missing(reason),
            Ok(value) => match value.as_f64() {
                Some(value) => Verdict::Value { value, reason: None },
                None => Verdict::missing(format!("`{}` of the row is no number", self.0.from)),
            },
        }
    }

    fn judge_missing(&self, sample: &Sample, _: &str) -> Verdict {
        self.judge(sample, &Answer::new(""))
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use serde_json::json;

    #[test]
    fn the_number_is_the_rows_whatever_the_answer() {
        let check = Given(GivenSpec { name: "g".into(), from: "expected.f1".into() });
        let row = sample(json!({"f1": 0.25}));
        assert_eq!(check.judge(&row, &Answer::new("x")).number(), Some(0.25));
        assert_eq!(check.judge_missing(&row, "late").number(), Some(0.25));
        for row in [sample(json!({"f1": "high"})), sample(json!({}))] {
            assert!(check.judge(&row, &Answer::new("x")).reason().unwrap().contains("`expected.f1`"));
        }
    }
}
