//! What a candidate needs before it can answer, by its role: of two that are equally good the one that needs less is
//! preferred. Which roles a run measures is `cli`'s to say.

/// What a candidate needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Training.
    Trained,
    /// A prompt, perhaps with examples or a constraint.
    Prompt,
    /// A linear classifier.
    Linear,
    /// The rows themselves.
    Nearest,
    /// Nothing: the most frequent answer.
    Majority,
}

impl Sort {
    /// The sort of a role.
    pub fn of(role: &str) -> Sort {
        match role {
            crate::report::TUNED => Sort::Trained,
            "linear" => Sort::Linear,
            "nearest" => Sort::Nearest,
            "majority" => Sort::Majority,
            _ => Sort::Prompt,
        }
    }

    /// How much it needs, from the least on.
    pub(crate) fn needs(self) -> usize {
        let order = [Sort::Majority, Sort::Nearest, Sort::Linear, Sort::Prompt, Sort::Trained];
        order.iter().position(|sort| *sort == self).unwrap_or(order.len())
    }
}
