//! What the tests on real weights share: where the cache lies, and what happens when nothing is in it.

#![allow(
    dead_code,
    clippy::print_stdout,
    reason = "every test file uses its own part, and says what was left out"
)]

use std::path::PathBuf;
use underdog_model::catalogue::{self, Cache};

/// The model cache, found as the command line finds it.
pub fn cache() -> Cache {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = variable("UNDERDOG_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|base| base.join("underdog")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache").join("underdog")))
        .expect("UNDERDOG_CACHE, XDG_CACHE_HOME or HOME says where the models are");
    Cache::at(root)
}

/// The path of a pulled model. Without it the test is left out and says so, or fails where UNDERDOG_REQUIRE_WEIGHTS=1
/// asks for it.
pub fn weights(name: &str) -> Option<PathBuf> {
    let entry = catalogue::find(name).expect("the test names a model of the catalogue");
    let path = cache().path_of(entry);
    if path.is_none() {
        let required = std::env::var_os("UNDERDOG_REQUIRE_WEIGHTS").is_some_and(|value| value == "1");
        assert!(
            !required,
            "{name} is not in {}: run `underdog models pull {name}`",
            cache().root().display()
        );
        println!("left out: {name} is not in the cache (`underdog models pull {name}`)");
    }
    path
}
