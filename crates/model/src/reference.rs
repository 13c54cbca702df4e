//! Model references as typed, and where the files of a base are. What they hold is `checkpoint`'s and `language_model`'s business.

use crate::catalogue::{self, Cache};
use std::path::{Path, PathBuf};
use underdog_eval::{Error, Kind, Result};

/// A model reference as typed: `name-or-path` or `name-or-path+adapter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// A catalogue name, a `.gguf` file or a Hugging Face directory.
    pub base: String,
    /// A PEFT directory.
    pub adapter: Option<PathBuf>,
}

impl Reference {
    /// Splits at the last `+` that has an existing path before it, else at the first; not at all where the whole text is
    /// an existing path. So `a+b/model.gguf+adapter` means what it says.
    ///
    /// # Errors
    /// An empty base or adapter, or a remote model, which this crate does not speak to.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::new(Kind::Usage, what)
                .found(format!("`{text}`"))
                .expected("a catalogue name, a .gguf file or a model folder, each with +ADAPTER if wanted")
        };
        if ["openai:", "anthropic:", "gemini:", "http://", "https://"].iter().any(|p| text.starts_with(p)) {
            return Err(wrong("remote candidates are not supported yet"));
        }
        let mut places = text.rmatch_indices('+').map(|(at, _)| at);
        let place = places.find(|&at| at > 0 && Path::new(&text[..at]).exists()).or_else(|| text.find('+'));
        let (base, adapter) = match place {
            Some(at) if !Path::new(text).exists() => (&text[..at], Some(&text[at + 1..])),
            _ => (text, None),
        };
        if base.is_empty() || adapter.is_some_and(str::is_empty) {
            return Err(wrong("the model reference is incomplete"));
        }
        Ok(Reference { base: base.to_string(), adapter: adapter.map(PathBuf::from) })
    }

    /// The files of the base: a path as it is, or a catalogue name in the cache.
    ///
    /// # Errors
    /// Neither a path that exists nor a name in the catalogue, or a name that was not pulled yet.
    pub fn locate(&self, cache: &Cache) -> Result<PathBuf> {
        let path = Path::new(&self.base);
        if path.exists() {
            return Ok(path.to_path_buf());
        }
        if path.components().count() > 1 || path.extension().is_some_and(|e| e == "gguf") {
            return Err(Error::new(Kind::Model, "the model file does not exist").at(self.base.clone()));
        }
        let entry = catalogue::find(&self.base)?;
        cache.path_of(entry).ok_or_else(|| {
            Error::new(Kind::Model, format!("model `{}` is not in the cache", self.base))
                .at(cache.root().display().to_string())
                .hint(format!("underdog models pull {}", self.base))
        })
    }
}
