//! Whether a run fits the memory: the planned peak of its largest step, and what would fit where it does not. Asked before the
//! first step, because a limit of a container ends a process without a word.
//!
//! How much memory there is is the caller's to say ([`Available`]): this module reads nothing of the machine.

use crate::data::{self, Example, batch_rows};
use crate::plan::plan;
use crate::recipe::Recipe;
use serde::Serialize;
use underdog_eval::{Error, Kind, Result};
use underdog_model::language_model::LanguageModel;
use underdog_model::lora::Lora;
use underdog_model::transformer::{StepSize, Transformer};
use underdog_tensor::block::Format;

/// Tokenizer, vocabulary, code, threads: what a process takes whatever it computes.
const PROCESS: usize = 48 << 20;
/// Steps that are looked at; more would only find a slightly larger one.
const STEPS: usize = 64;
/// Tries at a limit for activations that fits.
const TRIES: usize = 12;

/// Memory that this process may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Available {
    /// In bytes, with what the process holds already.
    pub bytes: usize,
    /// Who says so: a file, or the machine.
    pub source: String,
}

/// The planned peak of a run, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// Frozen weights.
    pub weights: usize,
    /// The adapter, its gradient, the optimiser's two moments and the packed forms of a step.
    pub adapter: usize,
    /// What the forward pass of the largest part keeps for its backward pass.
    pub activations: usize,
    /// Scratch of that part, and the process itself.
    pub workspace: usize,
}

impl Planned {
    /// All of it.
    pub fn peak(&self) -> usize {
        self.weights + self.adapter + self.activations + self.workspace
    }
}

/// What `recipe` takes on `examples`.
///
/// # Errors
/// When the recipe's targets are unknown.
pub fn planned(model: &LanguageModel, examples: &[Example], recipe: &Recipe) -> Result<Planned> {
    let mut examples = examples.to_vec();
    if recipe.prompt_weight > 0.0 {
        data::add_prompt_targets(&mut examples);
    }
    of(&model.transformer, &examples, recipe, recipe.memory_mib)
}

/// The planned peak, once it is known to fit.
///
/// # Errors
/// [`Kind::System`] where the peak is more than there is, with the largest `memory_mib` that fits, where one does.
pub fn check(
    model: &LanguageModel,
    examples: &[Example],
    recipe: &Recipe,
    available: &Available,
) -> Result<Planned> {
    let whole = planned(model, examples, recipe)?;
    if whole.peak() <= available.bytes {
        return Ok(whole);
    }
    let fits = |mib: usize| {
        let recipe = Recipe { memory_mib: mib, ..recipe.clone() };
        planned(model, examples, &recipe).map(|p| p.peak() <= available.bytes)
    };
    let hint = match largest(recipe.memory_mib, fits)? {
        Some(mib) => format!(
            "--set memory_mib={mib} fits: a step is then computed in more parts, with the same result"
        ),
        None => {
            let one = Recipe { memory_mib: 1, ..recipe.clone() };
            format!(
                "even one row at a time (memory_mib=1) takes {} MiB; give the process more memory, take shorter rows or a \
                 smaller base, or keep the weights in their blocks with --set precision=native",
                mib_up(planned(model, examples, &one)?.peak())
            )
        }
    };
    Err(Error::new(Kind::System, "training would take more memory than there is")
        .expected(format!("a planned peak of at most {} MiB", available.bytes >> 20))
        .found(format!(
            "{} MiB: weights {}, adapter {}, activations {}, workspace {}",
            mib_up(whole.peak()),
            mib_up(whole.weights),
            mib_up(whole.adapter),
            mib_up(whole.activations),
            mib_up(whole.workspace)
        ))
        .at(available.source.clone())
        .hint(hint))
}

fn mib_up(bytes: usize) -> usize {
    bytes.div_ceil(1 << 20)
}

/// The largest limit below `from` that fits, to about an eighth of itself; `None` where not even 1 does.
fn largest(from: usize, fits: impl Fn(usize) -> Result<bool>) -> Result<Option<usize>> {
    let (mut low, mut high) = (1, from);
    if !fits(low)? {
        return Ok(None);
    }
    for _ in 0..TRIES {
        if high - low <= 1 + low / 8 {
            break;
        }
        let middle = low + (high - low) / 2;
        if fits(middle)? { low = middle } else { high = middle }
    }
    Ok(Some(low))
}

fn of(
    transformer: &Transformer,
    examples: &[Example],
    recipe: &Recipe,
    memory_mib: usize,
) -> Result<Planned> {
    let lora = Lora::zeros(transformer.config(), recipe.lora()?).values.len();
    let bytes_per_token = |keep| transformer.bytes_per_token(keep, recipe.rank);
    let (mut activations, mut scratch) = (0, 0);
    for step in 0..recipe.total_steps(examples.len()).min(STEPS) {
        let picked = batch_rows(examples.len(), recipe.batch, recipe.seed, step);
        let rows: Vec<&Example> = picked.iter().map(|&i| &examples[i]).collect();
        let plan = plan(bytes_per_token, &rows, memory_mib << 20);
        for (_, forest) in &plan.parts {
            let mut targets: Vec<usize> = forest.targets().iter().map(|t| t.row).collect();
            targets.dedup();
            let size = StepSize { tokens: forest.tokens().len(), targets: targets.len() };
            activations = activations.max(size.tokens * bytes_per_token(plan.keep));
            scratch = scratch.max(transformer.scratch_bytes(size));
        }
    }
    // Values, gradient, two moments in f32; four packed forms in the format of the products.
    let packed = if transformer.format() == Format::Bf16 { 8 } else { 16 };
    Ok(Planned {
        weights: transformer.weight_bytes(),
        adapter: lora * (16 + packed),
        // Buffers that grow take an eighth more than they need.
        activations: activations + activations / 8,
        workspace: scratch + PROCESS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_limit_that_fits_is_found_to_an_eighth() {
        let below = |edge: usize| largest(768, |mib| Ok(mib <= edge)).unwrap();
        assert_eq!(below(0), None);
        assert_eq!(below(1), Some(1));
        for edge in [2, 10, 100, 500, 767] {
            let found = below(edge).unwrap();
            assert!(found <= edge && edge - found <= 2 + edge / 8, "{edge}: {found}");
        }
    }
}
