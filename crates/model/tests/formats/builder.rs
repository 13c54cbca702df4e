//! Writes GGUF files for the tests, whole ones and wrong ones.

use std::path::PathBuf;

use tempfile::TempDir;

/// A GGUF file in parts, each of which a test may change.
#[derive(Clone)]
pub struct Parts {
    pub version: u32,
    pub metadata: Vec<(String, Vec<u8>)>,
    pub tensors: Vec<Part>,
    /// Said instead of the true numbers of tensors and of metadata entries.
    pub counts: Option<(u64, u64)>,
}

#[derive(Clone)]
pub struct Part {
    pub name: String,
    /// Fastest axis first, as the file has it.
    pub axes: Vec<u64>,
    pub code: u32,
    pub bytes: Vec<u8>,
    /// Said instead of the true offset.
    pub offset: Option<u64>,
}

pub fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

pub fn meta_u32(number: u32) -> Vec<u8> {
    [4u32.to_le_bytes(), number.to_le_bytes()].concat()
}

pub fn meta_f32(number: f32) -> Vec<u8> {
    [6u32.to_le_bytes(), number.to_le_bytes()].concat()
}

pub fn meta_text(value: &str) -> Vec<u8> {
    [8u32.to_le_bytes().to_vec(), text(value)].concat()
}

/// An array of `count` elements of type `code`, whose bytes are given.
pub fn meta_array(code: u32, count: u64, bytes: &[u8]) -> Vec<u8> {
    [&9u32.to_le_bytes()[..], &code.to_le_bytes(), &count.to_le_bytes(), bytes].concat()
}

/// Numbers that no two elements share.
pub fn ramp(count: usize, start: f32) -> Vec<f32> {
    (0..count).map(|i| start + i as f32 / 64.0).collect()
}

pub fn le(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// An F32 tensor of a row-major shape.
pub fn part(name: &str, shape: &[u64], numbers: &[f32]) -> Part {
    let axes = shape.iter().rev().copied().collect();
    Part { name: name.to_owned(), axes, code: 0, bytes: le(numbers), offset: None }
}

impl Parts {
    pub fn set(&mut self, key: &str, value: Vec<u8>) -> &mut Self {
        self.metadata.retain(|(name, _)| name != key);
        self.metadata.push((key.to_owned(), value));
        self
    }

    pub fn unset(&mut self, key: &str) -> &mut Self {
        self.metadata.retain(|(name, _)| name != key);
        self
    }

    pub fn tensor(&mut self, name: &str) -> &mut Part {
        self.tensors.iter_mut().find(|part| part.name == name).unwrap()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        let (tensors, entries) =
            self.counts.unwrap_or((self.tensors.len() as u64, self.metadata.len() as u64));
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(entries.to_le_bytes());
        for (key, value) in &self.metadata {
            bytes.extend(text(key));
            bytes.extend(value);
        }
        let mut offset = 0u64;
        for part in &self.tensors {
            bytes.extend(text(&part.name));
            bytes.extend((part.axes.len() as u32).to_le_bytes());
            part.axes.iter().for_each(|axis| bytes.extend(axis.to_le_bytes()));
            bytes.extend(part.code.to_le_bytes());
            bytes.extend(part.offset.unwrap_or(offset).to_le_bytes());
            offset += (part.bytes.len() as u64).next_multiple_of(32);
        }
        for part in &self.tensors {
            bytes.resize(bytes.len().next_multiple_of(32), 0);
            bytes.extend(&part.bytes);
        }
        bytes
    }

    /// The file in a folder that is removed with the first value.
    pub fn write(&self) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        std::fs::write(&path, self.bytes()).unwrap();
        (folder, path)
    }
}

/// A model with one layer: C 8, H 2, G 1, D 4, ffn 4, V 3, tied.
pub fn tiny(architecture: &str) -> Parts {
    let key = |name: &str| format!("{architecture}.{name}");
    let mut metadata = vec![("general.architecture".to_owned(), meta_text(architecture))];
    let sizes = [
        ("block_count", 1),
        ("context_length", 64),
        ("embedding_length", 8),
        ("feed_forward_length", 4),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
    ];
    metadata.extend(sizes.map(|(name, size)| (key(name), meta_u32(size))));
    metadata.push((key("attention.layer_norm_rms_epsilon"), meta_f32(1e-5)));
    metadata.push((key("rope.freq_base"), meta_f32(5000.0)));
    let tokens = [text("a"), text("b"), text("ü")].concat();
    metadata.push(("tokenizer.ggml.tokens".to_owned(), meta_array(8, 3, &tokens)));
    let types: Vec<u8> = [1i32, 3, 6].iter().flat_map(|kind| kind.to_le_bytes()).collect();
    metadata.push(("tokenizer.ggml.token_type".to_owned(), meta_array(5, 3, &types)));
    metadata.push(("tokenizer.ggml.scores".to_owned(), meta_array(6, 3, &le(&[0.0, -1.0, -2.5]))));
    metadata
        .push(("tokenizer.ggml.add_bos_token".to_owned(), [7u32.to_le_bytes().to_vec(), vec![1]].concat()));
    let mut shapes: Vec<(&str, Vec<u64>)> = vec![
        ("token_embd", vec![3, 8]),
        ("output_norm", vec![8]),
        ("blk.0.attn_norm", vec![8]),
        ("blk.0.attn_q", vec![8, 8]),
        ("blk.0.attn_k", vec![4, 8]),
        ("blk.0.attn_v", vec![4, 8]),
        ("blk.0.attn_output", vec![8, 8]),
        ("blk.0.ffn_norm", vec![8]),
        ("blk.0.ffn_gate", vec![4, 8]),
        ("blk.0.ffn_up", vec![4, 8]),
        ("blk.0.ffn_down", vec![8, 4]),
    ];
    if architecture != "llama" {
        shapes.extend([("blk.0.attn_q_norm", vec![4]), ("blk.0.attn_k_norm", vec![4])]);
    }
    if architecture == "gemma3" {
        shapes.extend([("blk.0.post_attention_norm", vec![8]), ("blk.0.post_ffw_norm", vec![8])]);
        metadata.push((key("attention.sliding_window"), meta_u32(16)));
    }
    let tensors = shapes.iter().enumerate().map(|(i, (name, shape))| {
        let count = shape.iter().product::<u64>() as usize;
        part(&format!("{name}.weight"), shape, &ramp(count, 100.0 * i as f32))
    });
    Parts { version: 3, metadata, tensors: tensors.collect(), counts: None }
}
