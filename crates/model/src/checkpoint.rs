//! A model's weights, opened: a GGUF file or a Hugging Face directory behind one interface.
//!
//! It finds tensors by their role, checks that all are there in the right shape, and gives their numbers as
//! `f32`. What is done with them belongs to the transformer; tokenizer and chat template to their own modules.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};
use underdog_eval::{Error, Kind, Result};
use underdog_tensor::quantised::Matrix;

pub use crate::config::{LayerTensor, Tensor};

use crate::config::Config;
use crate::gguf::{self, Gguf, TensorInfo};
use crate::hugging_face::{self, HuggingFace};

/// Bytes hashed at each of three places of every tensor by [`Checkpoint::fingerprint`].
const SAMPLE: usize = 4096;

/// An opened model. Weights are mapped, and read when they are asked for.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    config: Config,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Gguf(Gguf),
    HuggingFace(HuggingFace),
}

/// What a model is, for `models inspect`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// `gguf` or `safetensors`.
    pub format: &'static str,
    /// The family.
    pub architecture: &'static str,
    /// Number of layers.
    pub layers: usize,
    /// `C`.
    pub width: usize,
    /// `H`.
    pub heads: usize,
    /// `G`.
    pub kv_heads: usize,
    /// `D`.
    pub head_size: usize,
    /// The inner width of the MLP.
    pub ffn: usize,
    /// `V`.
    pub vocab: usize,
    /// The longest sequence, in tokens.
    pub context: usize,
    /// The window of local layers, in tokens; `None` where all layers see everything.
    pub window: Option<usize>,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// How many numbers the model holds, a tied head counted once.
    pub parameters: u64,
    /// Bytes of the weight files.
    pub bytes: u64,
    /// The tensors by storage type.
    pub types: Vec<TypeSummary>,
    /// [`Checkpoint::fingerprint`].
    pub fingerprint: String,
}

/// The tensors of one storage type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TypeSummary {
    /// The type, as `Q4_1`.
    pub name: &'static str,
    /// How many tensors.
    pub tensors: usize,
    /// How many numbers they hold.
    pub parameters: u64,
    /// How many bytes they occupy.
    pub bytes: u64,
}

impl Checkpoint {
    /// Opens a `.gguf` file, or a directory with `config.json` and `model.safetensors` (or its shards and
    /// `model.safetensors.index.json`), and checks that every tensor of the model is there in its right shape.
    ///
    /// # Errors
    /// [`Kind::Model`] for a file that is damaged, of an unknown architecture, tensor type or rope scaling, or
    /// that lacks a tensor; [`Kind::System`] when it cannot be read.
    pub fn open(path: &Path) -> Result<Checkpoint> {
        let (source, config) = if path.is_dir() {
            let (directory, config) = HuggingFace::open(path)?;
            (Source::HuggingFace(directory), config)
        } else {
            let gguf = Gguf::open(path)?;
            let config = gguf::config(&gguf)?;
            (Source::Gguf(gguf), config)
        };
        let checkpoint = Checkpoint { path: path.to_path_buf(), config, source };
        checkpoint.check()?;
        Ok(checkpoint)
    }

    /// The model in numbers.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where the model was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The GGUF file, whose metadata also hold tokenizer and chat template; `None` for a directory.
    pub fn gguf(&self) -> Option<&Gguf> {
        match &self.source {
            Source::Gguf(gguf) => Some(gguf),
            Source::HuggingFace(_) => None,
        }
    }

    /// The numbers of a tensor, row-major in [`Config::shape`], the same from either format: linear weights
    /// `[out, in]`, rows of queries and keys with rotating pairs half a head apart, Gemma's norms with their `+ 1`.
    /// The head of a tied model is the embedding.
    ///
    /// # Errors
    /// [`Kind::Model`] when the model has no such tensor or a number in it is not finite.
    pub fn load(&self, tensor: Tensor) -> Result<Vec<f32>> {
        let tensor = if self.config.tied && tensor == Tensor::Head { Tensor::Embedding } else { tensor };
        let info = self.find(tensor)?;
        match &self.source {
            Source::Gguf(gguf) => {
                let numbers = gguf.load(&info.name)?;
                Ok(match gguf::is_permuted(&self.config, tensor) {
                    Some(heads) => gguf::unpermute(&numbers, heads, self.config.width),
                    None => numbers,
                })
            }
            Source::HuggingFace(directory) => directory.load(&self.config, tensor).ok_or_else(|| {
                Error::new(Kind::Model, format!("tensor '{}' is damaged", info.name))
                    .expected("finite numbers")
                    .found("an infinity or a NaN")
                    .at(self.place(&info.name))
                    .hint("fetch the model file again")
            }),
        }
    }

    /// A matrix as [`Checkpoint::load`] gives it, in the blocks of the file; `None` where the file has plain numbers.
    ///
    /// # Errors
    /// As [`Checkpoint::load`].
    pub fn load_blocks(&self, tensor: Tensor) -> Result<Option<Matrix>> {
        let tensor = if self.config.tied && tensor == Tensor::Head { Tensor::Embedding } else { tensor };
        let info = self.find(tensor)?;
        let (Source::Gguf(gguf), &[rows, columns]) = (&self.source, info.shape.as_slice()) else {
            return Ok(None);
        };
        let Some(format) = info.kind.format() else { return Ok(None) };
        let bytes = &gguf.bytes()[info.start..info.start + info.bytes];
        let moved = gguf::is_permuted(&self.config, tensor)
            .map(|heads| gguf::unpermute_rows(bytes, heads, bytes.len() / rows));
        let matrix = Matrix::new(format, moved.as_deref().unwrap_or(bytes), rows, columns);
        matrix.map(Some).ok_or_else(|| {
            Error::new(Kind::Model, format!("tensor '{}' is damaged", info.name))
                .expected("finite numbers")
                .found("an infinity or a NaN")
                .at(self.place(&info.name))
                .hint("fetch the model file again")
        })
    }

    /// 16 hexadecimal digits that change with the weights, in a time that hardly grows with their size.
    ///
    /// It covers: all that precedes the numbers in each weight file (of GGUF the metadata and with them tokenizer
    /// and chat template; the names, types, shapes and places of all tensors), the sizes of the files,
    /// `config.json`, and of each tensor's bytes the first, the middle and the last 4096. It does not cover the
    /// other bytes (a change of a few numbers in the midst of a large tensor can go unseen), nor the tokenizer
    /// files of a directory.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(b"underdog model 1");
        match &self.source {
            Source::Gguf(gguf) => {
                hash_file(&mut hash, gguf.bytes(), gguf.data_start());
                gguf.tensors().for_each(|info| hash_samples(&mut hash, gguf.bytes(), info));
            }
            Source::HuggingFace(directory) => {
                hash.update((directory.config_bytes().len() as u64).to_le_bytes());
                hash.update(directory.config_bytes());
                let files: Vec<_> = directory.files().collect();
                files.iter().for_each(|(bytes, start)| hash_file(&mut hash, bytes, *start));
                directory.placed().for_each(|(file, info)| hash_samples(&mut hash, files[file].0, info));
            }
        }
        hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What the model is, for people and programs.
    pub fn summary(&self) -> Summary {
        let mut types: BTreeMap<_, TypeSummary> = BTreeMap::new();
        for info in self.infos() {
            let empty = TypeSummary { name: info.kind.name(), tensors: 0, parameters: 0, bytes: 0 };
            let entry = types.entry(info.kind).or_insert(empty);
            entry.tensors += 1;
            entry.parameters += info.count() as u64;
            entry.bytes += info.bytes as u64;
        }
        let config = &self.config;
        let (format, bytes) = match &self.source {
            Source::Gguf(gguf) => ("gguf", gguf.bytes().len() as u64),
            Source::HuggingFace(directory) => {
                ("safetensors", directory.files().map(|(bytes, _)| bytes.len() as u64).sum())
            }
        };
        Summary {
            format,
            architecture: config.architecture.name(),
            layers: config.layers.len(),
            width: config.width,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_size: config.head_size,
            ffn: config.ffn,
            vocab: config.vocab,
            context: config.context,
            window: config.layers.iter().find_map(|layer| layer.window),
            tied: config.tied,
            parameters: config.parameters(),
            bytes,
            types: types.into_values().collect(),
            fingerprint: self.fingerprint(),
        }
    }

    fn infos(&self) -> Vec<&TensorInfo> {
        match &self.source {
            Source::Gguf(gguf) => gguf.tensors().collect(),
            Source::HuggingFace(directory) => directory.tensors().collect(),
        }
    }

    fn name(&self, tensor: Tensor) -> String {
        match &self.source {
            Source::Gguf(_) => gguf::tensor_name(tensor),
            Source::HuggingFace(_) => hugging_face::tensor_name(&self.config, tensor),
        }
    }

    /// The file of a tensor where known, else the model's path, for messages.
    fn place(&self, name: &str) -> String {
        let file = match &self.source {
            Source::Gguf(_) => None,
            Source::HuggingFace(directory) => directory.file_of(name),
        };
        file.unwrap_or(&self.path).display().to_string()
    }

    /// The entry of a tensor, its shape checked.
    fn find(&self, tensor: Tensor) -> Result<&TensorInfo> {
        let name = self.name(tensor);
        let expected = self.config.shape(tensor);
        let info = match &self.source {
            Source::Gguf(gguf) => gguf.tensor(&name),
            Source::HuggingFace(directory) => directory.tensor(&name),
        };
        match info {
            Some(info) if info.shape == expected => Ok(info),
            Some(info) => Err(Error::new(Kind::Model, format!("tensor '{name}' has the wrong shape"))
                .expected(format!("{expected:?}"))
                .found(format!("{:?}", info.shape))
                .at(self.place(&name))
                .hint("the file's settings and its weights do not belong together: fetch the model again")),
            None => Err(Error::new(Kind::Model, format!("tensor '{name}' is missing"))
                .expected(format!("a tensor of shape {expected:?}"))
                .at(self.place(&name))
                .hint("fetch the model again, or one that was converted completely")),
        }
    }

    /// Every tensor of the configuration is there, and nothing that would change what the model computes.
    fn check(&self) -> Result<()> {
        let mut used = BTreeSet::new();
        for tensor in self.config.tensors() {
            used.insert(self.find(tensor)?.name.as_str());
        }
        let superfluous = |name: &str| match &self.source {
            Source::Gguf(_) => gguf::is_superfluous(name),
            Source::HuggingFace(_) => hugging_face::is_superfluous(&self.config, name),
        };
        match self
            .infos()
            .into_iter()
            .find(|info| !used.contains(info.name.as_str()) && !superfluous(&info.name))
        {
            None => Ok(()),
            Some(info) => {
                Err(Error::new(Kind::Model, "the model has a tensor that its architecture does not use")
                    .expected(format!("only the tensors of a {} model", self.config.architecture.name()))
                    .found(format!("'{}'", info.name))
                    .at(self.place(&info.name))
                    .hint("variants with biases, experts or further inputs are not supported"))
            }
        }
    }
}

fn hash_file(hash: &mut Sha256, bytes: &[u8], data_start: usize) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update((data_start as u64).to_le_bytes());
    hash.update(&bytes[..data_start]);
}

fn hash_samples(hash: &mut Sha256, bytes: &[u8], info: &TensorInfo) {
    let bytes = &bytes[info.start..info.start + info.bytes];
    if bytes.len() <= 3 * SAMPLE {
        hash.update(bytes);
        return;
    }
    let last = bytes.len() - SAMPLE;
    for start in [0, last / 2, last] {
        hash.update(&bytes[start..start + SAMPLE]);
    }
}
