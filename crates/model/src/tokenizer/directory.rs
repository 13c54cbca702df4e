//! The tokenizer of a Hugging Face directory: `tokenizer.json` through the `tokenizers` library.
//!
//! The special tokens of `tokenizer_config.json` are read here too, because the chat template needs the same ones.

use super::Marks;
use super::bpe_gguf::ByteLetters;
use serde_json::Value;
use std::path::Path;
use tokenizers::models::ModelWrapper;
use underdog_eval::{Error, Kind, Result};

/// A `tokenizer.json`.
pub(super) struct JsonTokenizer {
    inner: tokenizers::Tokenizer,
    pieces: PieceBytes,
    size: usize,
}

/// How the text of one token becomes bytes.
enum PieceBytes {
    /// Byte-level letters, as GPT-2 writes them.
    Letters(Box<ByteLetters>),
    /// SentencePiece's mark for a space, and `<0xXX>` for bytes.
    Marks,
    /// As written.
    Plain,
}

/// Reads the directory.
pub(super) fn open(dir: &Path) -> Result<(JsonTokenizer, Marks)> {
    let path = dir.join("tokenizer.json");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Error::io("the tokenizer cannot be read", &path, &error).hint("the directory needs a tokenizer.json")
    })?;
    let broken = |found: String| {
        Error::new(Kind::Model, "the tokenizer cannot be understood")
            .found(found)
            .at(path.display().to_string())
    };
    let json: Value = serde_json::from_str(&text).map_err(|error| broken(error.to_string()))?;
    check_parts(&json).map_err(broken)?;
    let mut inner: tokenizers::Tokenizer =
        text.parse().map_err(|error: tokenizers::Error| broken(error.to_string()))?;
    // How long a text may be is for the caller to say: nothing is cut or filled up silently.
    inner.with_truncation(None).map_err(|error| broken(error.to_string()))?;
    inner.with_padding(None);
    check_unknown(&inner, &json).map_err(broken)?;
    let size = inner.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1);
    let tokenizer = JsonTokenizer { pieces: PieceBytes::of(&json), inner, size };
    let config = read_object(&dir.join("tokenizer_config.json"))?;
    let marks = marks(&tokenizer, &config);
    Ok((tokenizer, marks))
}

/// The text of a special token such as `bos_token` in a `tokenizer_config.json`: a string, or an object with `content`.
pub(crate) fn special_text<'c>(config: &'c Value, key: &str) -> Option<&'c str> {
    let value = config.get(key)?;
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// A JSON object from a file; an empty one where there is no file.
pub(crate) fn read_object(path: &Path) -> Result<Value> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Value::Object(Default::default()));
        }
        Err(error) => return Err(Error::io("the settings of the tokenizer cannot be read", path, &error)),
    };
    match serde_json::from_str(&text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(other) => Err(not_an_object(path, format!("{:.60}", other.to_string()))),
        Err(error) => Err(not_an_object(path, error.to_string())),
    }
}

fn not_an_object(path: &Path, found: String) -> Error {
    Error::new(Kind::Model, "the settings of the tokenizer cannot be understood")
        .expected("a JSON object")
        .found(found)
        .at(path.display().to_string())
}

/// Refuses what the library takes without a look and then fails on, and what makes the same text other tokens each time.
fn check_parts(json: &Value) -> std::result::Result<(), String> {
    let model = &json["model"];
    if model["dropout"].as_f64().is_some_and(|dropout| dropout > 0.0) {
        return Err("merges that are left out at random (`dropout`)".to_string());
    }
    if model["type"] == "BPE" && model["continuing_subword_prefix"].as_str().is_some_and(|p| !p.is_empty()) {
        return Err("byte pairs with a prefix (`continuing_subword_prefix`)".to_string());
    }
    ["normalizer", "pre_tokenizer", "post_processor", "decoder"]
        .iter()
        .try_for_each(|part| check_part(&json[*part]))
}

/// The same for one part and the parts in it.
fn check_part(part: &Value) -> std::result::Result<(), String> {
    let fields = match part {
        Value::Array(parts) => return parts.iter().try_for_each(check_part),
        Value::Object(fields) => fields,
        _ => return Ok(()),
    };
    let empty = |pattern: &Value| pattern.as_str().is_some_and(str::is_empty);
    match part["type"].as_str() {
        Some("FixedLength") if part["length"].as_u64().is_none_or(|length| length == 0) => {
            Err("pieces of no length (`FixedLength`)".to_string())
        }
        Some("Replace") if empty(&part["pattern"]["String"]) || empty(&part["pattern"]["Regex"]) => {
            Err("a replacement of nothing (`Replace`)".to_string())
        }
        Some("Precompiled") if !map_is_whole(part["precompiled_charsmap"].as_str().unwrap_or_default()) => {
            Err("a damaged map of characters (`Precompiled`)".to_string())
        }
        _ => fields.values().try_for_each(check_part),
    }
}

/// Whether a map of characters holds the table whose length it begins with. Six letters of base 64 hold that length.
fn map_is_whole(base_64: &str) -> bool {
    let digit = |letter: u8| match letter {
        b'A'..=b'Z' => Some(u64::from(letter - b'A')),
        b'a'..=b'z' => Some(u64::from(letter - b'a') + 26),
        b'0'..=b'9' => Some(u64::from(letter - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let Some(first) = base_64.as_bytes().first_chunk::<6>() else { return false };
    let Some(bits) = first.iter().try_fold(0, |bits, &letter| Some(bits << 6 | digit(letter)?)) else {
        return false;
    };
    // 36 bits: four bytes, the lowest first, and a half.
    let length = u64::from(((bits >> 4) as u32).swap_bytes());
    length + 4 <= base_64.len() as u64 / 4 * 3
}

/// Refuses a model that names an unknown token it does not have, or has none where its kind cannot do without: some
/// text would then have no ids at all.
fn check_unknown(inner: &tokenizers::Tokenizer, json: &Value) -> std::result::Result<(), String> {
    let model = &json["model"];
    match inner.get_model() {
        ModelWrapper::Unigram(_) if model["unk_id"].is_null() && model["byte_fallback"] != true => {
            Err("a Unigram model without an unknown token".to_string())
        }
        ModelWrapper::Unigram(_) => Ok(()),
        wrapped => match model["unk_token"].as_str() {
            Some(unknown) if inner.token_to_id(unknown).is_none() => {
                Err(format!("the unknown token {unknown:?} is not in the vocabulary"))
            }
            None if matches!(wrapped, ModelWrapper::WordLevel(_) | ModelWrapper::WordPiece(_)) => {
                Err("a word model without an unknown token".to_string())
            }
            _ => Ok(()),
        },
    }
}

fn marks(tokenizer: &JsonTokenizer, config: &Value) -> Marks {
    let id = |key| special_text(config, key).and_then(|text| tokenizer.token_id(text));
    let bos = id("bos_token");
    let adds_bos = config["add_bos_token"].as_bool().unwrap_or_else(|| {
        // Where the settings are silent, what the file itself does around an empty text tells.
        let around =
            tokenizer.inner.encode_fast("", true).map(|encoding| encoding.get_ids().first().copied());
        bos.is_some() && around.ok().flatten() == bos
    });
    Marks { bos, eos: id("eos_token"), adds_bos }
}

impl JsonTokenizer {
    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        // `open` refused the models that can fail on a text.
        self.inner.encode_fast(text, false).map(|encoding| encoding.get_ids().to_vec()).unwrap_or_default()
    }

    pub(super) fn decode(&self, ids: &[u32]) -> String {
        if !matches!(self.pieces, PieceBytes::Letters(_)) {
            // What such a decoder does between tokens (spaces, prefixes) is the library's to know.
            return self.inner.decode(ids, true).unwrap_or_default();
        }
        let bytes: Vec<u8> =
            ids.iter().filter(|&&id| !self.is_special(id)).flat_map(|&id| self.piece(id)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(super) fn piece(&self, id: u32) -> Vec<u8> {
        let Some(text) = self.inner.id_to_token(id) else { return Vec::new() };
        if self.inner.get_added_vocabulary().get_added_tokens_decoder().contains_key(&id) {
            return text.into_bytes();
        }
        match &self.pieces {
            PieceBytes::Letters(letters) => letters.decode(&text),
            PieceBytes::Marks => match super::sentencepiece::byte_of(&text) {
                Some(byte) => vec![byte],
                None => text.replace(super::sentencepiece::SPACE, " ").into_bytes(),
            },
            PieceBytes::Plain => text.into_bytes(),
        }
    }

    pub(super) fn vocab_size(&self) -> usize {
        self.size
    }

    pub(super) fn token_id(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text)
    }

    fn is_special(&self, id: u32) -> bool {
        self.inner
            .get_added_vocabulary()
            .get_added_tokens_decoder()
            .get(&id)
            .is_some_and(|token| token.special)
    }
}

impl PieceBytes {
    /// From the decoder of the file: one step, or a list of them.
    fn of(json: &Value) -> Self {
        let decoder = &json["decoder"];
        let steps = decoder["decoders"].as_array().map_or(std::slice::from_ref(decoder), Vec::as_slice);
        let has = |kinds: &[&str]| {
            steps.iter().any(|step| step["type"].as_str().is_some_and(|t| kinds.contains(&t)))
        };
        if has(&["ByteLevel"]) {
            PieceBytes::Letters(Box::new(ByteLetters::new()))
        } else if has(&["Metaspace", "ByteFallback"]) {
            PieceBytes::Marks
        } else {
            PieceBytes::Plain
        }
    }
}
