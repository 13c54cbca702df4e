//! How to train: the `[recipe]` table of a task, with `--set key=value` on top, checked.

use crate::data::Learned;
use serde::{Deserialize, Serialize};
use underdog_eval::{Error, Kind, Result};
use underdog_model::linear::Precision;
use underdog_model::lora::{LoraConfig, MAX_RANK, Module};

/// A recipe. Every field has a default, so a task may name only what it changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// The objective; `sft` is the only one so far.
    pub method: String,
    /// Model reference of the base.
    pub base: String,
    /// Passes over the training rows; may be a fraction.
    pub epochs: f64,
    /// Optimiser steps; overrides `epochs` where it is set.
    pub steps: Option<usize>,
    /// Rows in a step.
    pub batch: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Share of the steps in which the learning rate rises linearly, 0 to 1.
    pub warmup: f64,
    /// Decoupled weight decay of AdamW.
    pub weight_decay: f64,
    /// Largest norm of the gradient; 0 turns clipping off.
    pub clip: f64,
    /// LoRA rank.
    pub rank: usize,
    /// LoRA alpha; the product is scaled by `alpha / rank`.
    pub alpha: f64,
    /// Dropout on the adapter's input, 0 to below 1. A token that rows share has one mask.
    pub dropout: f64,
    /// Weight of a prompt token's loss beside a completion token's 1, 0 to 1: the text that rows do not share is learned too.
    /// Helps where prompts are long, answers short and rows few (Shi et al. 2024, arXiv 2405.14394).
    pub prompt_weight: f64,
    /// Similar training rows, with their answers, that stand before every question, as `eval --shots` shows them: the model
    /// learns to decide among them. It has to be asked in the same way later.
    pub shots: usize,
    /// Which answers of a conversation carry loss: `last`, or `all`, those of the `shots` among them.
    pub answers: String,
    /// Which training rows are learned from: `all`, or `disagreeing`, those whose `shots` do not all have the same answer.
    /// It saves time where most agree; what came of it on Banking77 is in docs/experiments.md.
    pub rows: String,
    /// Adapted products: `all-linear` or names like `q_proj`, separated by commas.
    pub targets: String,
    /// Seed of the fresh adapter, the order of rows and dropout.
    pub seed: u64,
    /// Number format in which the frozen weights are multiplied: `auto`, `f32`, `bf16` or `native`.
    pub precision: String,
    /// Steps between checkpoints.
    pub save_every: usize,
    /// Memory for activations in MiB, which decides how a batch is split and what is computed twice.
    pub memory_mib: usize,
}

impl Default for Recipe {
    fn default() -> Self {
        Recipe {
            method: "sft".into(),
            base: "smollm2-135m-instruct".into(),
            epochs: 2.0,
            steps: None,
            batch: 16,
            lr: 5e-4,
            warmup: 0.05,
            weight_decay: 0.0,
            clip: 1.0,
            rank: 16,
            alpha: 32.0,
            dropout: 0.0,
            prompt_weight: 0.0,
            shots: 0,
            answers: "last".into(),
            rows: "all".into(),
            targets: "all-linear".into(),
            seed: 0,
            precision: "auto".into(),
            save_every: 25,
            memory_mib: 768,
        }
    }
}

impl Recipe {
    /// The recipe of a table with overrides `key=value` on top. Values are read as TOML, and as plain text where they are not.
    ///
    /// # Errors
    /// An unknown key, a value of the wrong kind or outside of its range.
    pub fn resolve(table: &toml::Table, overrides: &[String]) -> Result<Self> {
        let mut table = table.clone();
        for text in overrides {
            let Some((key, value)) = text.split_once('=') else {
                return Err(Error::new(Kind::Usage, "--set needs key=value").found(format!("`{text}`")));
            };
            let parsed = format!("x = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("x"));
            table.insert(key.trim().into(), parsed.unwrap_or_else(|| toml::Value::String(value.into())));
        }
        let table = whole_numbers_as_floats(table);
        let read = |table: toml::Table| -> std::result::Result<Recipe, toml::de::Error> {
            toml::Value::Table(table).try_into()
        };
        let recipe = read(table.clone()).map_err(|error| {
            // The message does not say which value it is about; one that fails alone is.
            let alone =
                |(key, value): (&String, &toml::Value)| [(key.clone(), value.clone())].into_iter().collect();
            let key = table.iter().find(|entry| read(alone(*entry)).is_err()).map(|(key, _)| key);
            let what =
                key.map_or("the recipe is not right".to_owned(), |key| format!("recipe value `{key}`"));
            let words = [
                ("usize", "a whole number"),
                ("u64", "a whole number"),
                ("f64", "a number"),
                ("f32", "a number"),
            ];
            let found =
                words.iter().fold(error.message().to_string(), |text, (from, to)| text.replace(from, to));
            Error::new(Kind::Usage, what)
                .found(found)
                .hint("the recipe is [recipe] in task.toml, with every --set key=value on top")
        })?;
        recipe.check()?;
        Ok(recipe)
    }

    fn check(&self) -> Result<()> {
        let wrong = |key: &str, expected: &str, found: String| {
            Err(Error::new(Kind::Usage, format!("recipe value `{key}`")).expected(expected).found(found))
        };
        let one_to = |key: &str, value: usize, largest: usize| match (1..=largest).contains(&value) {
            true => Ok(()),
            false => wrong(key, &format!("1 to {largest}"), value.to_string()),
        };
        let within = |key: &str, value: f64, low: f64, high: f64| match (low..=high).contains(&value) {
            true => Ok(()),
            false => wrong(key, &format!("{low} to {high}"), value.to_string()),
        };
        if self.method != "sft" {
            return wrong("method", "sft", self.method.clone());
        }
        Precision::parse(&self.precision)?;
        one_to("batch", self.batch, 1 << 16)?;
        one_to("rank", self.rank, MAX_RANK)?;
        one_to("save_every", self.save_every, 1 << 32)?;
        one_to("memory_mib", self.memory_mib, 1 << 24)?;
        one_to("steps", self.steps.unwrap_or(1), 1 << 32)?;
        within("epochs", self.epochs, 1e-6, 1e4)?;
        within("lr", self.lr, 0.0, 10.0)?;
        within("warmup", self.warmup, 0.0, 1.0)?;
        within("weight_decay", self.weight_decay, 0.0, 1.0)?;
        within("clip", self.clip, 0.0, 1e9)?;
        within("alpha", self.alpha, 0.0, 1e6)?;
        within("dropout", self.dropout, 0.0, 0.99)?;
        within("prompt_weight", self.prompt_weight, 0.0, 1.0)?;
        self.learned()?;
        if self.disagreeing()? && self.shots < 2 {
            return wrong(
                "shots",
                "2 or more, which can disagree, or rows = \"all\"",
                self.shots.to_string(),
            );
        }
        self.modules().map(|_| ())
    }

    /// Which answers carry loss.
    ///
    /// # Errors
    /// A word that means neither.
    pub fn learned(&self) -> Result<Learned> {
        match self.answers.as_str() {
            "last" => Ok(Learned::Last),
            "all" => Ok(Learned::All),
            other => Err(Error::new(Kind::Usage, "recipe value `answers`")
                .expected("last or all")
                .found(format!("`{other}`"))),
        }
    }

    /// Whether rows are left out whose similar rows agree.
    ///
    /// # Errors
    /// A word that means neither.
    pub fn disagreeing(&self) -> Result<bool> {
        match self.rows.as_str() {
            "all" => Ok(false),
            "disagreeing" => Ok(true),
            other => Err(Error::new(Kind::Usage, "recipe value `rows`")
                .expected("all or disagreeing")
                .found(format!("`{other}`"))),
        }
    }

    fn modules(&self) -> Result<Vec<Module>> {
        if self.targets == "all-linear" {
            return Ok(Module::ALL.to_vec());
        }
        let parse = |name: &str| {
            let known = Module::ALL.into_iter().find(|m| m.peft_name() == name.trim());
            known.ok_or_else(|| {
                let names: Vec<&str> = Module::ALL.iter().map(|m| m.peft_name()).collect();
                Error::new(Kind::Usage, "recipe value `targets`")
                    .expected(format!("all-linear or some of {}", names.join(", ")))
                    .found(format!("`{name}`"))
            })
        };
        let mut modules = self.targets.split(',').map(parse).collect::<Result<Vec<_>>>()?;
        modules.sort();
        modules.dedup();
        Ok(modules)
    }

    /// The adapter this recipe trains.
    ///
    /// # Errors
    /// When `targets` names an unknown product.
    pub fn lora(&self) -> Result<LoraConfig> {
        Ok(LoraConfig { rank: self.rank, alpha: self.alpha as f32, targets: self.modules()? })
    }

    /// Optimiser steps for `rows` training rows.
    pub fn total_steps(&self, rows: usize) -> usize {
        self.steps.unwrap_or_else(|| ((self.epochs * rows as f64 / self.batch as f64).ceil() as usize).max(1))
    }
}

/// `lr=1` and `alpha=32` mean what `1.0` and `32.0` mean.
fn whole_numbers_as_floats(table: toml::Table) -> toml::Table {
    const FLOATS: [&str; 8] =
        ["epochs", "lr", "warmup", "weight_decay", "clip", "alpha", "dropout", "prompt_weight"];
    let convert = |(key, value): (String, toml::Value)| match value {
        toml::Value::Integer(i) if FLOATS.contains(&key.as_str()) => (key, toml::Value::Float(i as f64)),
        value => (key, value),
    };
    table.into_iter().map(convert).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(overrides: &[&str]) -> Result<Recipe> {
        let overrides: Vec<String> = overrides.iter().map(|s| s.to_string()).collect();
        Recipe::resolve(&"batch = 8\nlr = 1e-3".parse().unwrap(), &overrides)
    }

    #[test]
    fn overrides_win_over_the_table_and_the_table_over_defaults() {
        let recipe = resolve(&["lr=1", "steps=7", "targets=v_proj,q_proj"]).unwrap();
        assert_eq!((recipe.batch, recipe.lr, recipe.steps, recipe.rank), (8, 1.0, Some(7), 16));
        assert_eq!(recipe.lora().unwrap().targets, [Module::Q, Module::V]);
        assert_eq!(recipe.total_steps(100), 7);
        assert_eq!(resolve(&["epochs=1.5"]).unwrap().total_steps(20), 4);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (set, want) in [
            ("rnak=4", "rnak"),
            ("rank=0", "1 to 4096"),
            ("batch=1000000000000", "batch"),
            ("lr=fast", "recipe value `lr`: invalid type: string \"fast\", expected a number"),
            ("steps=two", "recipe value `steps`: invalid type: string \"two\", expected a whole number"),
            ("dropout=1", "dropout"),
            ("precision=f8", "f8"),
            ("method=dpo", "dpo"),
            ("targets=qproj", "qproj"),
            ("rows=some", "all or disagreeing"),
            ("rows=disagreeing", "recipe value `shots`"),
            ("rank", "key=value"),
        ] {
            let error = resolve(&[set]).unwrap_err();
            assert!(error.to_string().contains(want), "{set}: {error}");
            assert_eq!(error.kind(), Kind::Usage);
        }
    }
}
