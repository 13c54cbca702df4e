//! A checkpoint and metrics as version 1 wrote them stay readable.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::path::{Path, PathBuf};
use underdog_train::{checkpoint, metrics};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

#[test]
fn a_checkpoint_of_version_1_stays_readable() {
    let (state, values, optimiser) =
        checkpoint::latest(&data("checkpoint.v1"), "7731c216e8e17ee8").unwrap().unwrap();
    assert_eq!((state.version, state.step, state.flat_tokens, state.tree_tokens), (1, 2, 448, 208));
    assert_eq!(state.harness_fingerprint, None, "it was written before checkpoints named a harness");
    // Two layers, rank 1, values from 64 to 32.
    assert_eq!(
        (values.len(), optimiser.first.len(), optimiser.second.len(), optimiser.steps),
        (192, 192, 192, 2)
    );
    assert!(
        values.iter().chain(&optimiser.second).all(|v| v.is_finite())
            && optimiser.second.iter().all(|&v| v >= 0.0)
    );
    assert!(optimiser.second.iter().any(|&v| v > 0.0));
}

#[test]
fn a_checkpoint_that_is_newer_or_broken_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let step = folder.path().join("step-000002");
    std::fs::create_dir(&step).unwrap();
    let read = |name: &str| std::fs::read(data("checkpoint.v1/step-000002").join(name)).unwrap();
    let (state, tensors) = (String::from_utf8(read("state.json")).unwrap(), read("state.safetensors"));
    let refused = |state: &str, tensors: &[u8], words: &str| {
        std::fs::write(step.join("state.json"), state).unwrap();
        std::fs::write(step.join("state.safetensors"), tensors).unwrap();
        let error = checkpoint::latest(folder.path(), "7731c216e8e17ee8").unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    };
    refused(&state.replace("\"version\": 1", "\"version\": 2"), &tensors, "newer version");
    refused(&state.replace("7731", "0000"), &tensors, "another run");
    refused(&state[..20], &tensors, "not readable");
    for cut in [0, 8, 60, tensors.len() - 1] {
        refused(&state, &tensors[..cut], "broken");
    }
}

#[test]
fn metrics_of_version_1_stay_readable() {
    let lines = metrics::read_until(&data("metrics.v1.jsonl"), usize::MAX).unwrap();
    assert_eq!(lines.iter().map(|m| (m.step, m.num_tokens)).collect::<Vec<_>>(), [(1, 224), (2, 448)]);
    assert_eq!(metrics::read_until(&data("metrics.v1.jsonl"), 1).unwrap().len(), 1);
}
