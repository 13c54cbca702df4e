//! Checkpoints: everything a run needs to go on as if it had never stopped. One folder a checkpoint, complete or absent.

use crate::optimiser::AdamW;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use underdog_eval::{Error, Kind, Result};
use underdog_model::adapter;
use underdog_model::disk::{self, Content, Tensor};

/// Version of the format.
pub const VERSION: u32 = 1;
/// Checkpoints that stay; older ones are removed once a newer one is complete.
const KEPT: usize = 2;

const STATE: &str = "state.json";
const TENSORS: &str = "state.safetensors";

/// What a checkpoint belongs to, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Version of the format.
    pub version: u32,
    /// Steps done.
    pub step: usize,
    /// Hash of recipe, rows and base: a run resumes only what it began.
    pub run: String,
    /// Counters that go on: tokens of all rows, and tokens computed.
    pub flat_tokens: u64,
    /// See `flat_tokens`.
    pub tree_tokens: u64,
    /// Fingerprint of the harness that judges what is trained here, where one was named. It says where the checkpoint
    /// comes from and refuses nothing: training does not depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harness_fingerprint: Option<String>,
}

fn folder(root: &Path, step: usize) -> PathBuf {
    root.join(format!("step-{step:06}"))
}

/// Steps of the complete checkpoints, ascending; none where the folder does not exist.
fn steps(root: &Path) -> Result<Vec<usize>> {
    let failed = |e: std::io::Error| Error::io("cannot look for checkpoints", root, &e);
    let entries = match std::fs::read_dir(root) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut steps = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        steps.extend(name.to_string_lossy().strip_prefix("step-").and_then(|n| n.parse::<usize>().ok()));
    }
    steps.sort();
    Ok(steps)
}

/// Whether a run has left checkpoints under `root`.
///
/// # Errors
/// When the folder cannot be read.
pub fn exist(root: &Path) -> Result<bool> {
    steps(root).map(|steps| !steps.is_empty())
}

/// Writes a checkpoint and removes those that are no longer needed.
///
/// # Errors
/// What the file system says; earlier checkpoints are untouched then.
pub fn write(root: &Path, state: &State, values: &[f32], optimiser: &AdamW) -> Result<PathBuf> {
    let path = folder(root, state.step);
    let tensors = [("values", values), ("first", &optimiser.first), ("second", &optimiser.second)];
    let tensors = tensors.map(|(name, values)| (name.into(), Tensor { shape: vec![values.len()], values }));
    let json = serde_json::to_vec_pretty(state).map_err(|e| Error::new(Kind::System, e.to_string()))?;
    let files = [(STATE, Content::Bytes(json)), (TENSORS, Content::Tensors(tensors.into()))];
    disk::write_directory(&path, &files)?;
    let all = steps(root)?;
    for old in &all[..all.len().saturating_sub(KEPT)] {
        // A checkpoint that cannot be removed costs disk space and nothing else.
        let _ = std::fs::remove_dir_all(folder(root, *old));
    }
    Ok(path)
}

/// Removes what a kill in the middle of a write left behind. Only one process works in a run's folder at a time.
pub fn remove_unfinished(root: &Path) {
    let unfinished = |name: &str| name.starts_with(".step-") && name.ends_with(".partial");
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        if unfinished(&entry.file_name().to_string_lossy()) {
            // It costs disk space and nothing else.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The newest checkpoint under `root`, or `None` where there is none.
///
/// # Errors
/// When it is broken, of a newer version, or of another run.
pub fn latest(root: &Path, run: &str) -> Result<Option<(State, Vec<f32>, AdamW)>> {
    let Some(&step) = steps(root)?.last() else { return Ok(None) };
    read(root, step, run).map(Some)
}

/// The folder of the newest checkpoint of `run` that can be gone on from.
pub fn last_good(root: &Path, run: &str) -> Option<PathBuf> {
    let steps = steps(root).unwrap_or_default();
    steps.into_iter().rev().find(|&step| read(root, step, run).is_ok()).map(|step| folder(root, step))
}

fn read(root: &Path, step: usize, run: &str) -> Result<(State, Vec<f32>, AdamW)> {
    let path = folder(root, step);
    let broken = |what: &str, found: String| {
        let error = Error::new(Kind::Model, what).found(found).at(path.display().to_string());
        error.hint("without this folder, the run goes on from the checkpoint before it")
    };
    let read = |name: &str| {
        std::fs::read(path.join(name))
            .map_err(|e| Error::io("cannot read the checkpoint", &path.join(name), &e))
    };
    let state: State = serde_json::from_slice(&read(STATE)?)
        .map_err(|e| broken("the checkpoint is not readable", e.to_string()))?;
    if state.version > VERSION {
        return Err(broken("the checkpoint is of a newer version", state.version.to_string())
            .expected(format!("at most {VERSION}")));
    }
    if state.step != step {
        return Err(broken("the checkpoint is not that of its folder", format!("step {}", state.step))
            .expected(format!("step {step}")));
    }
    if state.run != run {
        return Err(broken("the checkpoint belongs to another run", state.run.clone())
            .expected(run.to_string())
            .hint(
                "recipe, rows and base must be those the run began with; leave --resume out to start anew",
            ));
    }
    let bytes = read(TENSORS)?;
    let tensors =
        SafeTensors::deserialize(&bytes).map_err(|e| broken("the checkpoint is broken", e.to_string()))?;
    let values = |name: &str| -> Result<Vec<f32>> {
        let tensor = tensors.tensor(name).map_err(|e| broken("the checkpoint is broken", e.to_string()))?;
        if tensor.dtype() != safetensors::Dtype::F32 || tensor.shape().len() != 1 {
            let found = format!("{name}: {:?} {:?}", tensor.dtype(), tensor.shape());
            return Err(broken("the checkpoint is broken", found).expected("one row of F32"));
        }
        let values = adapter::to_f32(&tensor).unwrap_or_default();
        match values.iter().all(|v| v.is_finite()) {
            true => Ok(values),
            false => {
                Err(broken("the checkpoint is broken", format!("{name} holds values that are not finite")))
            }
        }
    };
    let optimiser = AdamW { first: values("first")?, second: values("second")?, steps: state.step };
    let values = values("values")?;
    if optimiser.first.len() != values.len() || optimiser.second.len() != values.len() {
        return Err(broken("the checkpoint is broken", "tensors of different length".into()));
    }
    Ok((state, values, optimiser))
}
