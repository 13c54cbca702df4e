//! A GGUF file, memory-mapped: its metadata, the directory of its tensors, and their numbers as `f32`.
//!
//! Every size that the file states is checked before it is used. What the metadata means for a model is in
//! `settings`, what the tensors are called in `names`; the tokenizer and the chat template, which the
//! metadata holds too, belong to their own modules.

mod dequantize;
mod names;
mod parse;
mod quantize;
mod settings;
mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use underdog_eval::{Error, Kind, Result};

pub use dequantize::{TensorType, dequantize};
pub(crate) use names::{is_permuted, is_superfluous, permute_rows, tensor_name, unpermute, unpermute_rows};
pub use quantize::quantize;
pub(crate) use settings::config;
pub use write::{NewTensor, Setting, write};

/// One metadata value. Integers of all widths are widened; an array of integers that all fit is kept as `i32`.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An unsigned integer of any width.
    Unsigned(u64),
    /// A signed integer of any width.
    Signed(i64),
    /// A float of any width.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// UTF-8 text.
    String(String),
    /// An array of texts.
    Strings(Vec<String>),
    /// An array of 32-bit floats.
    F32s(Vec<f32>),
    /// An array of integers (any width in the file) that all fit `i32`.
    I32s(Vec<i32>),
    /// Any other array.
    List(Vec<Value>),
}

/// One entry of the tensor directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name in the file, as `blk.0.attn_q.weight`.
    pub name: String,
    /// Row-major shape `[out, in]`: the reverse of the order in the file, which states the fastest axis first.
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub kind: TensorType,
    /// First byte, counted from the start of the file.
    pub start: usize,
    /// Bytes it occupies; `start + bytes` is within the file.
    pub bytes: usize,
}

impl TensorInfo {
    /// How many numbers the tensor holds.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// An opened GGUF file. Its pages are read when a tensor is.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    map: Mmap,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, TensorInfo>,
    data_start: usize,
}

impl Gguf {
    /// Maps and checks the file at `path`.
    ///
    /// # Errors
    /// [`Kind::System`] when the file cannot be read; [`Kind::Model`] when it is not GGUF version 2 or 3, is
    /// truncated or damaged, or holds a tensor of an unknown type.
    pub fn open(path: &Path) -> Result<Gguf> {
        let map = map_file(path)?;
        let contents = parse::contents(&map, path)?;
        let parse::Contents { metadata, tensors, data_start } = contents;
        Ok(Gguf { path: path.to_path_buf(), map, metadata, tensors, data_start })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The metadata value of `key`, whatever its type.
    pub fn metadata(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// The text of `key`; `None` when the key is absent or of another type.
    pub fn metadata_str(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The integer of `key`, stored with any width; `None` when absent, negative or of another type.
    pub fn metadata_u64(&self, key: &str) -> Option<u64> {
        match self.metadata.get(key)? {
            Value::Unsigned(number) => Some(*number),
            Value::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The float of `key`, stored with any width; `None` when absent or of another type.
    pub fn metadata_f32(&self, key: &str) -> Option<f32> {
        match self.metadata.get(key)? {
            Value::Float(number) => Some(*number as f32),
            _ => None,
        }
    }

    /// The truth value of `key`; `None` when absent or of another type.
    pub fn metadata_bool(&self, key: &str) -> Option<bool> {
        match self.metadata.get(key)? {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    /// The texts of `key`, as `tokenizer.ggml.tokens`; `None` when absent or of another type.
    pub fn metadata_strings(&self, key: &str) -> Option<&[String]> {
        match self.metadata.get(key)? {
            Value::Strings(texts) => Some(texts),
            _ => None,
        }
    }

    /// The floats of `key`, as `tokenizer.ggml.scores`; `None` when absent or of another type.
    pub fn metadata_f32s(&self, key: &str) -> Option<&[f32]> {
        match self.metadata.get(key)? {
            Value::F32s(numbers) => Some(numbers),
            _ => None,
        }
    }

    /// The integers of `key`, as `tokenizer.ggml.token_type`; `None` when absent, too large or of another type.
    pub fn metadata_i32s(&self, key: &str) -> Option<&[i32]> {
        match self.metadata.get(key)? {
            Value::I32s(numbers) => Some(numbers),
            _ => None,
        }
    }

    /// The metadata keys, sorted.
    pub fn metadata_keys(&self) -> impl Iterator<Item = &str> {
        self.metadata.keys().map(String::as_str)
    }

    /// The tensors, sorted by name.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.values()
    }

    /// The directory entry of `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// The numbers of one of this file's tensors, row-major, as they are stored (rows not un-permuted).
    ///
    /// # Errors
    /// [`Kind::Model`] when the file has no such tensor or a number in it is not finite.
    pub fn load(&self, name: &str) -> Result<Vec<f32>> {
        let place = || self.path.display().to_string();
        let Some(info) = self.tensors.get(name) else {
            return Err(Error::new(Kind::Model, format!("the model file has no tensor '{name}'")).at(place()));
        };
        // The directory was checked against this very map, so the range is inside it.
        dequantize(info.kind, &self.map[info.start..info.start + info.bytes]).ok_or_else(|| {
            Error::new(Kind::Model, format!("tensor '{name}' is damaged"))
                .expected("finite numbers")
                .found("an infinity or a NaN")
                .at(place())
                .hint("fetch the model file again")
        })
    }

    /// All bytes of the file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Where the tensors begin: before it are header, metadata and directory.
    pub(crate) fn data_start(&self) -> usize {
        self.data_start
    }
}

/// Maps the file at `path` for reading.
pub(crate) fn map_file(path: &Path) -> Result<Mmap> {
    let fault = |error: &std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::new(Kind::Model, "the model file does not exist")
            .at(path.display().to_string())
            .hint("check the path, or pull the model first"),
        _ => Error::io("the model file cannot be read", path, error),
    };
    let file = File::open(path).map_err(|error| fault(&error))?;
    let length = file.metadata().map_err(|error| fault(&error))?.len();
    if length == 0 {
        return Err(Error::new(Kind::Model, "the model file is empty")
            .at(path.display().to_string())
            .hint("fetch the model file again"));
    }
    // SAFETY: the map is read-only and private to this process. What remains is that another program shortens
    // or rewrites the file while it is mapped; model files are written once, under a temporary name, and then
    // only read, and no reference into the map is kept as anything but plain bytes.
    unsafe { Mmap::map(&file) }.map_err(|error| fault(&error))
}
