//! Tasks made up for benchmarks: rows of a stated number of words, of which a stated share is the same in all rows. Words are
//! common ones, about a token each; how many tokens there really were is in the results.

use serde_json::json;
use std::path::{Path, PathBuf};

const WORDS: [&str; 32] = [
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school",
    "state", "family", "student", "group", "country", "problem", "hand", "part", "place", "case", "week",
    "company", "system", "program", "question", "work", "number", "night", "point", "home",
];

/// The shape of a task.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Training rows, and as many to measure.
    pub rows: usize,
    /// Words of a prompt.
    pub prompt: usize,
    /// Share of them that all rows begin with, 0 to 1.
    pub shared: f64,
}

/// `count` words that follow from `seed`.
fn words(count: usize, seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        WORDS[(state >> 59) as usize % WORDS.len()]
    };
    (0..count).map(|_| next()).collect::<Vec<_>>().join(" ")
}

/// Writes the task's folder.
pub fn write(folder: &Path, shape: Shape) -> Result<PathBuf, String> {
    let shared = (shape.prompt as f64 * shape.shared).round() as usize;
    let row = |i: usize| {
        let input = words((shape.prompt - shared).max(1), 2 * i as u64 + 2);
        let expected = words(8, 2 * i as u64 + 3);
        format!("{}\n", json!({"id": i.to_string(), "input": input, "expected": expected}))
    };
    let system = if shared > 0 { format!("system = \"{}\"\n", words(shared, 1)) } else { String::new() };
    let task = format!(
        "version = 1\nname = \"growth\"\nmax_new_tokens = 8\nscore = \"right\"\n[prompt]\n{system}[data]\ntrain = \"train.jsonl\"\n\
         test = \"test.jsonl\"\n[[check]]\nname = \"right\"\nkind = \"exact\"\n[[metric]]\nname = \"right\"\nchecks = [\"right\"]\n"
    );
    let train: String = (0..shape.rows).map(row).collect();
    let test: String = (shape.rows..2 * shape.rows).map(row).collect();
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for (name, text) in [("task.toml", task), ("train.jsonl", train), ("test.jsonl", test)] {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(folder.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_follow_from_the_seed_and_differ_between_rows() {
        assert_eq!(words(5, 3), words(5, 3));
        assert_ne!(words(20, 3), words(20, 4));
        assert_eq!(words(7, 1).split(' ').count(), 7);
    }
}
