//! Writing a GGUF file: metadata taken over from another file byte for byte, and tensors in any storage type.

use super::parse;
use super::{Gguf, TensorType};
use std::path::Path;
use underdog_eval::{Result, files};

/// Tensors begin on multiples of this, as the format has it where a file does not say otherwise.
const ALIGNMENT: usize = 32;
/// The newest version of the format, which is not ours.
const GGUF_3: u32 = 3;

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct NewTensor {
    /// Its name in the file.
    pub name: String,
    /// Row-major shape `[out, in]`.
    pub shape: Vec<usize>,
    /// Its storage type.
    pub kind: TensorType,
    /// Its blocks.
    pub bytes: Vec<u8>,
}

/// A value of metadata.
#[derive(Clone, Debug)]
pub enum Setting {
    /// An unsigned integer of 32 bits.
    Number(u32),
    /// A text.
    Text(String),
}

/// Writes `tensors` with the metadata of `source`, of which those of `changes` are set or added. The file is whole
/// or not there.
///
/// # Errors
/// When the source's metadata cannot be read again, or the disk does not take the file.
pub fn write(path: &Path, source: &Gguf, changes: &[(&str, Setting)], tensors: &[NewTensor]) -> Result<()> {
    files::write_atomic(path, &bytes(source, changes, tensors)?)
}

fn bytes(source: &Gguf, changes: &[(&str, Setting)], tensors: &[NewTensor]) -> Result<Vec<u8>> {
    let kept: Vec<_> = parse::entries(source.bytes(), source.path())?
        .into_iter()
        .filter(|(key, _)| key != "general.alignment" && changes.iter().all(|(change, _)| change != key))
        .collect();
    let mut out = b"GGUF".to_vec();
    out.extend(GGUF_3.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(((kept.len() + changes.len()) as u64).to_le_bytes());
    kept.into_iter().for_each(|(_, range)| out.extend(&source.bytes()[range]));
    for (key, value) in changes {
        put_string(&mut out, key);
        // The format's own numbers of the two types.
        match value {
            Setting::Number(number) => {
                out.extend(4u32.to_le_bytes());
                out.extend(number.to_le_bytes());
            }
            Setting::Text(text) => {
                out.extend(8u32.to_le_bytes());
                put_string(&mut out, text);
            }
        }
    }
    let mut offset = 0;
    for tensor in tensors {
        put_string(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|axis| out.extend((*axis as u64).to_le_bytes()));
        out.extend(tensor.kind.code().to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset += tensor.bytes.len().next_multiple_of(ALIGNMENT);
    }
    for tensor in tensors {
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out.extend(&tensor.bytes);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    Ok(out)
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
