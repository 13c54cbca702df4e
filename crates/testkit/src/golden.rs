//! Where the committed goldens lie, and reading them. What they mean is left to the tests.

use std::path::{Path, PathBuf};

/// The path of a golden, given relative to `crates/testkit/goldens`, such as `"logits/tiny-llama.json"` or
/// the model directory `"models/tiny-llama"`.
///
/// # Panics
/// When there is no such file or directory: a test that silently finds nothing checks nothing.
pub fn golden(path: &str) -> PathBuf {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens").join(path);
    assert!(
        found.exists(),
        "no golden {path} at {}; reference/README.md says what makes it",
        found.display()
    );
    found
}

/// Reads a golden as JSON; `path` as for [`golden`].
///
/// # Panics
/// When the file is missing, is not JSON, or is of another version than 1.
pub fn read_json(path: &str) -> serde_json::Value {
    let file = golden(path);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("golden {path}: {e}"));
    let value: serde_json::Value =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("golden {path}: {e}"));
    if let Some(version) = value.get("version") {
        assert_eq!(version.as_u64(), Some(1), "golden {path} is of version {version}, expected 1");
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_golden() {
        let value = read_json("logits/tiny-llama.json");
        assert_eq!(value["ids"].as_array().map(Vec::len), Some(40));
    }

    #[test]
    #[should_panic(expected = "no golden logits/absent.json")]
    fn a_missing_golden_is_named() {
        golden("logits/absent.json");
    }

    #[test]
    #[should_panic(expected = "golden models/tiny-llama/model.safetensors")]
    fn a_file_that_is_not_json_is_named() {
        read_json("models/tiny-llama/model.safetensors");
    }
}
