//! Whether a run fits the memory: the planned peak of its largest step, and what would fit where it does not. Asked before the
//! first step, because a limit of a container ends a process without a word.
//!
//! How much memory there is is the caller's to say ([`Available`]): this module reads nothing of the machine.

use crate::data::{self, Example, batch_rows};
use crate::plan::plan;
use crate::recipe::Recipe;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use underdog_eval::{Error, Kind, Result};
use underdog_model::language_model::LanguageModel;
use underdog_model::lora::Lora;
use underdog_model::transformer::{StepSize, Transformer};
use underdog_tensor::block::Format;

/// Tokenizer, vocabulary, code, threads: what a process takes whatever it computes.
const PROCESS: usize = 48 << 20;
/// First steps that are looked at: they stand for all that are like them.
const STEPS: usize = 64;
/// Longest rows whose steps are looked at too. A row that alone takes more than the limit is computed all the same,
/// so one that is not like the others decides the peak wherever it stands.
const LONGEST: usize = 8;
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
    for step in looked_at(examples, recipe) {
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

/// The steps to plan: the first ones, and those of the first pass over the rows that hold the longest of them. Later
/// passes see the same rows.
fn looked_at(examples: &[Example], recipe: &Recipe) -> BTreeSet<usize> {
    let steps = recipe.total_steps(examples.len());
    let order = batch_rows(examples.len(), examples.len(), recipe.seed, 0);
    // A run that ends before its first pass does never sees the rest.
    let mut places: Vec<usize> = (0..order.len().min(steps.saturating_mul(recipe.batch))).collect();
    places.sort_by_key(|&place| Reverse(examples[order[place]].sequence.tokens.len()));
    let longest = places.iter().take(LONGEST).map(|place| place / recipe.batch);
    (0..steps.min(STEPS)).chain(longest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use underdog_model::catalogue::Cache;
    use underdog_model::linear::Precision;
    use underdog_model::reference::Reference;

    /// Rows of 8 tokens, and one of 400 at this place of the first pass, if any.
    fn rows(recipe: &Recipe, long: Option<usize>) -> Vec<Example> {
        let mut rows = vec![Example::new("short", vec![5; 6], &[7, 3]); 150];
        if let Some(place) = long {
            let order = batch_rows(rows.len(), rows.len(), recipe.seed, 0);
            rows[order[place]] = Example::new("long", vec![5; 398], &[7, 3]);
        }
        rows
    }

    #[test]
    fn a_row_longer_than_the_limit_is_planned_wherever_it_stands() {
        let base = underdog_testkit::golden("models/tiny-llama").display().to_string();
        let reference = Reference { base, adapter: None };
        let model = LanguageModel::load(&reference, &Cache::at("."), Precision::F32).unwrap();
        let peak = |recipe: &Recipe, long| planned(&model, &rows(recipe, long), recipe).unwrap().peak();
        let recipe = Recipe { batch: 1, epochs: 1.0, memory_mib: 1, rank: 2, ..Recipe::default() };
        let early = peak(&recipe, Some(3));
        assert!(early > peak(&recipe, None) + (1 << 19), "it takes more than the others");
        for late in [64, 100, 149] {
            assert_eq!(peak(&recipe, Some(late)), early, "in step {late}");
        }
        let cut = Recipe { steps: Some(100), ..recipe };
        assert_eq!(peak(&cut, Some(99)), early);
        assert_eq!(peak(&cut, Some(100)), peak(&cut, None), "a row that is never seen takes nothing");
    }

    #[test]
    fn the_steps_to_plan_are_the_first_and_those_of_the_longest_rows() {
        let recipe = Recipe { batch: 2, epochs: 3.0, ..Recipe::default() };
        let steps = |long| looked_at(&rows(&recipe, long), &recipe);
        let beyond = |long| steps(Some(long)).into_iter().filter(|step| *step >= STEPS).collect::<Vec<_>>();
        assert!((0..STEPS).all(|step| steps(None).contains(&step)));
        assert_eq!((beyond(0), beyond(128), beyond(149)), (vec![], vec![64], vec![74]));
        let short = Recipe { steps: Some(3), ..recipe.clone() };
        assert_eq!(looked_at(&rows(&short, Some(149)), &short), BTreeSet::from([0, 1, 2]));
    }

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
