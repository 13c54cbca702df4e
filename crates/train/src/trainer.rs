//! The loop: rows → forest → log-probs → loss → gradient → step → checkpoint.

use crate::checkpoint::{self, State};
use crate::data::{self, Example, batch_rows};
use crate::metrics::{self, StepMetrics};
use crate::objective::sft;
use crate::optimiser::{AdamW, clip};
use crate::plan::plan;
use crate::recipe::Recipe;
use crate::schedule::learning_rate;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use underdog_eval::report::TrainSummary;
use underdog_eval::{Error, Kind, Result};
use underdog_model::adapter::{self, Origin};
use underdog_model::language_model::LanguageModel;
use underdog_model::lora::Lora;
use underdog_model::transformer::{StepOptions, Transformer, Workspace};
use underdog_tensor::dropout::{Dropout, mix};

/// Where a run keeps its files, how it begins, and what its checkpoints note beside its state.
#[derive(Clone, Debug)]
pub struct RunFiles {
    /// The run's folder: `metrics.jsonl`, `checkpoints/`, `adapter/`.
    pub directory: PathBuf,
    /// Go on from the newest checkpoint, if there is one.
    pub resume: bool,
    /// Fingerprint of the harness that judges what is trained, if there is one.
    pub harness_fingerprint: Option<String>,
}

impl RunFiles {
    /// The metrics of every step.
    pub fn metrics(&self) -> PathBuf {
        self.directory.join("metrics.jsonl")
    }

    /// The folder of checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.directory.join("checkpoints")
    }

    /// The finished adapter.
    pub fn adapter(&self) -> PathBuf {
        self.directory.join("adapter")
    }
}

/// Progress after a step.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// The step's metrics.
    pub metrics: &'a StepMetrics,
    /// Steps in all.
    pub steps: usize,
    /// Rows in a step.
    pub batch: usize,
}

/// How the rows of a step are computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepSettings {
    /// Bytes that activations may take.
    pub memory: usize,
    /// Dropout on the adapter's input, with the key of this step.
    pub dropout: Option<Dropout>,
    /// Weight of a prompt token's loss, where prompts have targets.
    pub prompt_weight: f32,
}

/// Adds the gradient of one step's rows to `gradients`.
pub fn accumulate(
    transformer: &Transformer,
    lora: &Lora,
    rows: &[&Example],
    settings: StepSettings,
    gradients: &mut [f32],
    space: &mut Workspace,
) -> StepOutcome {
    let rank = lora.config().rank;
    let plan = plan(|keep| transformer.bytes_per_token(keep, rank), rows, settings.memory);
    let ready = transformer.ready_in(lora, space);
    let targets: usize = rows.iter().map(|r| r.answer_len()).sum();
    let mut outcome = StepOutcome { loss: 0.0, accuracy: 0.0, tree_tokens: plan.tree_tokens() };
    let mut hits = 0;
    for (index, (part, forest)) in plan.parts.iter().enumerate() {
        let dropout = settings.dropout.map(|d| d.for_part(index as u64));
        let options = StepOptions { keep: plan.keep, dropout };
        let (scores, tape) = transformer.forward(Some(&ready), forest, options, space);
        let mut d = vec![sft::derivative(targets) * settings.prompt_weight; scores.len()];
        let mut completion = Vec::with_capacity(scores.len());
        for (i, &row) in part.iter().enumerate() {
            let places = forest.places(i).iter().enumerate();
            completion.extend(places.filter(|(t, _)| rows[row].is_answer(*t)).map(|(_, &place)| place));
        }
        completion.iter().for_each(|&place| d[place] = sft::derivative(targets));
        outcome.loss += sft::loss(completion.iter().map(|&place| scores[place].log_prob), targets);
        hits += completion.iter().filter(|&&place| scores[place].is_top).count();
        transformer.backward(&ready, tape, &d, gradients, space);
    }
    space.give_back(lora, ready);
    outcome.accuracy = hits as f64 / targets as f64;
    outcome
}

/// What [`accumulate`] measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Mean negative log-likelihood of the step's completion tokens.
    pub loss: f64,
    /// Share of them whose logit was the largest.
    pub accuracy: f64,
    /// Tokens that were computed.
    pub tree_tokens: usize,
}

/// The state that a step changes.
struct Run<'a> {
    model: &'a LanguageModel,
    examples: &'a [Example],
    recipe: &'a Recipe,
    files: &'a RunFiles,
    lora: Lora,
    optimiser: AdamW,
    gradients: Vec<f32>,
    space: Workspace,
    state: State,
    steps: usize,
}

/// Trains a fresh adapter, or goes on with one, and writes it.
///
/// `stop` is looked at after every step: when it is set, a checkpoint is written and the run ends with [`Kind::Stopped`].
///
/// # Errors
/// A checkpoint of another run, a full disk, a loss that is not finite, or being stopped.
pub fn train(
    model: &LanguageModel,
    examples: &[Example],
    recipe: &Recipe,
    files: &RunFiles,
    stop: &AtomicBool,
    on_step: &mut dyn FnMut(Progress<'_>),
) -> Result<(Lora, TrainSummary)> {
    std::fs::create_dir_all(files.checkpoints())
        .map_err(|e| Error::io("cannot make the folder", &files.checkpoints(), &e))?;
    let _lock = lock(files)?;
    let mut examples = Cow::Borrowed(examples);
    if recipe.prompt_weight > 0.0 {
        data::add_prompt_targets(examples.to_mut());
    }
    let mut run = Run::begin(model, &examples, recipe, files)?;
    while run.state.step < run.steps {
        let metrics = run.step()?;
        metrics::append(&files.metrics(), &metrics)?;
        on_step(Progress { metrics: &metrics, steps: run.steps, batch: recipe.batch });
        let stopped = stop.load(Ordering::Relaxed);
        if run.state.step % recipe.save_every == 0 || run.state.step == run.steps || stopped {
            run.save()?;
        }
        if stopped && run.state.step < run.steps {
            return Err(Error::new(
                Kind::Stopped,
                format!("training was stopped after step {} of {}", run.state.step, run.steps),
            )
            .at(files.checkpoints().display().to_string())
            .hint("run the same command with --resume to go on from here"));
        }
    }
    run.finish()
}

impl<'a> Run<'a> {
    fn begin(
        model: &'a LanguageModel,
        examples: &'a [Example],
        recipe: &'a Recipe,
        files: &'a RunFiles,
    ) -> Result<Self> {
        let identity = identity(model, examples, recipe);
        let mut lora = Lora::fresh(model.transformer.config(), recipe.lora()?, recipe.seed);
        let mut optimiser = AdamW::new(lora.values.len());
        let mut state = State {
            version: checkpoint::VERSION,
            step: 0,
            run: identity.clone(),
            flat_tokens: 0,
            tree_tokens: 0,
            harness_fingerprint: None,
        };
        checkpoint::remove_unfinished(&files.checkpoints());
        if !files.resume && checkpoint::exist(&files.checkpoints())? {
            return Err(Error::new(Kind::Usage, "the folder holds checkpoints of an earlier run")
                .at(files.checkpoints().display().to_string())
                .hint("go on with it with --resume, or start in another folder"));
        }
        let saved = if files.resume { checkpoint::latest(&files.checkpoints(), &identity)? } else { None };
        if let Some((saved, values, moments)) = saved {
            if values.len() != lora.values.len() {
                return Err(Error::new(Kind::Model, "the checkpoint does not fit the adapter")
                    .expected(format!("{} values", lora.values.len()))
                    .found(format!("{}", values.len())));
            }
            (state, lora.values, optimiser) = (saved, values, moments);
        }
        state.harness_fingerprint.clone_from(&files.harness_fingerprint);
        let steps = recipe.total_steps(examples.len());
        if state.step < steps && files.adapter().exists() {
            // Without its checkpoint nothing says that this adapter is what this run would make.
            return Err(Error::new(
                Kind::Usage,
                "the folder holds a finished adapter without its last checkpoint",
            )
            .at(files.adapter().display().to_string())
            .hint("start anew in another folder"));
        }
        metrics::rewrite(&files.metrics(), &metrics::read_until(&files.metrics(), state.step)?)?;
        let gradients = vec![0.0; lora.values.len()];
        Ok(Run {
            model,
            examples,
            recipe,
            files,
            lora,
            optimiser,
            gradients,
            space: Workspace::default(),
            state,
            steps,
        })
    }

    fn step(&mut self) -> Result<StepMetrics> {
        let (recipe, step, since) = (self.recipe, self.state.step, Instant::now());
        let picked = batch_rows(self.examples.len(), recipe.batch, recipe.seed, step);
        let rows: Vec<&Example> = picked.iter().map(|&i| &self.examples[i]).collect();
        self.gradients.fill(0.0);
        let key = mix(recipe.seed ^ mix(step as u64 ^ 0x6472_6f70));
        let dropout = (recipe.dropout > 0.0).then_some(Dropout { rate: recipe.dropout as f32, key });
        let settings = StepSettings {
            memory: recipe.memory_mib << 20,
            dropout,
            prompt_weight: recipe.prompt_weight as f32,
        };
        let transformer = &self.model.transformer;
        let outcome =
            accumulate(transformer, &self.lora, &rows, settings, &mut self.gradients, &mut self.space);
        let grad_norm = clip(&mut self.gradients, recipe.clip);
        if !outcome.loss.is_finite() || !grad_norm.is_finite() {
            return Err(self.not_finite(step, &rows, outcome.loss, grad_norm));
        }
        let rate = learning_rate(recipe.lr, recipe.warmup, step, self.steps);
        self.optimiser.step(&mut self.lora.values, &self.gradients, rate, recipe.weight_decay);
        self.state.step += 1;
        self.state.flat_tokens += rows.iter().map(|r| r.sequence.tokens.len() as u64).sum::<u64>();
        self.state.tree_tokens += outcome.tree_tokens as u64;
        Ok(StepMetrics {
            step: self.state.step,
            epoch: (self.state.step * recipe.batch) as f64 / self.examples.len() as f64,
            loss: outcome.loss,
            grad_norm,
            learning_rate: rate,
            mean_token_accuracy: outcome.accuracy,
            num_tokens: self.state.flat_tokens,
            tree_tokens: self.state.tree_tokens,
            seconds: since.elapsed().as_secs_f64(),
        })
    }

    /// Writes a checkpoint of the state as it is.
    fn save(&self) -> Result<PathBuf> {
        metrics::sync(&self.files.metrics())?;
        checkpoint::write(&self.files.checkpoints(), &self.state, &self.lora.values, &self.optimiser)
    }

    /// The newest good checkpoint when a step broke down. Such a step has changed nothing, so it is that of the state
    /// now, written here unless it was; else one before it. `None` in the first step: nothing was learned yet.
    fn last_good(&self) -> Option<PathBuf> {
        let AdamW { first, second, .. } = &self.optimiser;
        let finite = [&self.lora.values, first, second].iter().all(|v| v.iter().all(|x| x.is_finite()));
        if finite && self.state.step > 0 {
            // It may stand there already, or the disk may be full: what went wrong with the step is told either way.
            let _ = self.save();
        }
        checkpoint::last_good(&self.files.checkpoints(), &self.state.run)
    }

    fn not_finite(&self, step: usize, rows: &[&Example], loss: f64, norm: f64) -> Error {
        let ids: Vec<&str> = rows.iter().map(|r| r.id.as_str()).collect();
        let error = Error::new(Kind::Data, format!("training broke down at step {}", step + 1))
            .expected("a finite loss and gradient")
            .found(format!("loss {loss}, gradient norm {norm} on samples {}", ids.join(", ")));
        let lower = "lower the learning rate (--set lr=…) and start in another folder";
        match self.last_good() {
            Some(path) => error
                .at(path.display().to_string())
                .hint(format!("{lower}; the last good checkpoint is kept under this name")),
            None => error.at(self.files.checkpoints().display().to_string()).hint(format!(
                "{lower}; no good checkpoint was written yet: the first would have been after {} steps",
                self.recipe.save_every
            )),
        }
    }

    fn finish(self) -> Result<(Lora, TrainSummary)> {
        let lines = metrics::read_until(&self.files.metrics(), self.steps)?;
        let seconds: f64 = lines.iter().map(|line| line.seconds).sum();
        let path = self.files.adapter();
        if !path.exists() {
            let origin = Origin {
                version: adapter::VERSION,
                base: self.model.base().to_string(),
                base_fingerprint: self.model.base_fingerprint().to_string(),
                shots: self.recipe.shots,
            };
            adapter::write(&self.lora, &origin, &path)?;
        }
        // Lines may be missing after a crash of the machine; the rate is of those that are there.
        let rows_done = lines.len() * self.recipe.batch;
        let summary = TrainSummary {
            method: self.recipe.method.clone(),
            steps: self.steps as u64,
            rows: self.examples.len() as u64,
            epochs: (self.steps * self.recipe.batch) as f64 / self.examples.len() as f64,
            rows_per_s: (rows_done > 0 && seconds > 0.0).then(|| rows_done as f64 / seconds),
            flat_tokens: self.state.flat_tokens,
            tree_tokens: self.state.tree_tokens,
            seconds,
            loss_first: lines.first().map(|m| m.loss),
            loss_last: lines.last().map(|m| m.loss),
            peak_rss_mib: None,
            adapter: path.display().to_string(),
        };
        Ok((self.lora, summary))
    }
}

/// Holds the run's folder for this process until it is dropped.
fn lock(files: &RunFiles) -> Result<File> {
    let path = files.directory.join(".lock");
    let file = File::create(&path).map_err(|e| Error::io("cannot lock the run's folder", &path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::new(Kind::Usage, "another process trains in this folder")
                .at(files.directory.display().to_string())
                .hint("wait for it, or name another folder with --out"))
        }
        Err(TryLockError::Error(e)) => Err(Error::io("cannot lock the run's folder", &path, &e)),
    }
}

/// What makes two runs the same: recipe, rows and base.
fn identity(model: &LanguageModel, examples: &[Example], recipe: &Recipe) -> String {
    let mut hash = Sha256::new();
    // How often a checkpoint is written does not change what is learned; the memory limit does, in the last bits.
    let precision = model.precision().name().to_string();
    let recipe = Recipe { save_every: 1, precision, ..recipe.clone() };
    // A map with its keys sorted: new fields and their order change nothing as long as they are not set.
    let known = serde_json::to_value(&recipe).ok().and_then(|v| v.as_object().cloned()).unwrap_or_default();
    let plain = serde_json::to_value(Recipe::default()).unwrap_or_default();
    let set: BTreeMap<_, _> = known.iter().filter(|(key, value)| plain[key.as_str()] != **value).collect();
    hash.update(serde_json::to_string(&set).unwrap_or_default());
    hash.update(data::fingerprint(examples));
    hash.update(model.base_fingerprint());
    hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect()
}
