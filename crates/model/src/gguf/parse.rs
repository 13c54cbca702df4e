//! The header of a GGUF file: metadata and tensor directory, from bytes that may be anything.
//!
//! Nothing is allocated for a count that the bytes that are left could not hold, so a damaged count costs an
//! error and no memory. What the values mean is left to the callers.

use std::collections::BTreeMap;
use std::path::Path;

use underdog_eval::{Error, Kind, Result};

use super::dequantize::TensorType;
use super::{TensorInfo, Value};

/// What precedes the numbers.
pub(super) struct Contents {
    /// Values by key.
    pub metadata: BTreeMap<String, Value>,
    /// Directory entries by name.
    pub tensors: BTreeMap<String, TensorInfo>,
    /// The first byte of the tensors' numbers.
    pub data_start: usize,
}

/// Arrays in arrays are allowed by the format; no real file nests deeper.
const MAX_NESTING: usize = 4;
/// Values of a list whose kind takes more memory than file.
const MOST_VALUES: u64 = 1 << 20;
/// The format's default for `general.alignment`.
const DEFAULT_ALIGNMENT: u64 = 32;
/// Fewest bytes of a metadata entry: key length, type, one-byte value.
const MIN_ENTRY: u64 = 8 + 4 + 1;
/// Fewest bytes of a directory entry: name length, number of axes, type, offset.
const MIN_TENSOR: u64 = 8 + 4 + 4 + 8;
/// Most axes that the format allows.
const MAX_AXES: u32 = 4;

/// Reads and checks everything before the numbers, and that every tensor lies within `bytes`.
pub(super) fn contents(bytes: &[u8], path: &Path) -> Result<Contents> {
    let mut cursor = Cursor { bytes, at: 0, path };
    if cursor.array::<4>("the magic number")? != *b"GGUF" {
        return Err(fault(path, "the file is not GGUF").expected("the bytes 'GGUF' at its start"));
    }
    let version = cursor.u32("the version")?;
    if !(2..=3).contains(&version) {
        let error = fault(path, "unsupported GGUF version").expected("2 or 3").found(version.to_string());
        return Err(match version.swap_bytes() {
            2 | 3 => error.hint("this file is big-endian: convert it to little-endian"),
            _ => error.hint("convert the model again with a current converter"),
        });
    }
    let tensor_count = cursor.u64("the number of tensors")?;
    let entry_count = cursor.u64("the number of metadata entries")?;
    cursor.count(entry_count, MIN_ENTRY, "metadata entries")?;
    let metadata = read_metadata(&mut cursor, entry_count)?;
    let alignment = alignment(&metadata, path)?;
    cursor.count(tensor_count, MIN_TENSOR, "tensors")?;
    let raw = (0..tensor_count).map(|_| read_entry(&mut cursor)).collect::<Result<Vec<_>>>()?;
    let data_start = (cursor.at as u64).checked_next_multiple_of(alignment);
    let data_start = data_start
        .and_then(|start| usize::try_from(start).ok())
        .filter(|start| *start <= bytes.len() || raw.is_empty())
        .ok_or_else(|| truncated(path, "the tensors' numbers"))?
        .min(bytes.len());
    let area = Area { start: data_start, end: bytes.len(), alignment };
    let mut tensors = BTreeMap::new();
    for entry in raw {
        let info = place_tensor(entry, &area, path)?;
        if let Some(twice) = tensors.insert(info.name.clone(), info) {
            return Err(fault(path, format!("tensor '{}' is listed twice", twice.name)));
        }
    }
    Ok(Contents { metadata, tensors, data_start })
}

fn read_metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<BTreeMap<String, Value>> {
    let mut metadata = BTreeMap::new();
    for _ in 0..count {
        let key = cursor.string("a metadata key")?;
        let code = cursor.u32(&key)?;
        let value = read_value(cursor, code, &key, 0)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(fault(cursor.path, format!("metadata key '{key}' is listed twice")));
        }
    }
    Ok(metadata)
}

/// The metadata entries as they stand in the file: key and bytes (key, type and value).
pub(super) fn entries(bytes: &[u8], path: &Path) -> Result<Vec<(String, std::ops::Range<usize>)>> {
    // The magic number and the version were checked when the file was opened; then come two counts.
    let mut cursor = Cursor { bytes, at: 16, path };
    let count = cursor.u64("the number of metadata entries")?;
    cursor.count(count, MIN_ENTRY, "metadata entries")?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let start = cursor.at;
        let key = cursor.string("a metadata key")?;
        let code = cursor.u32(&key)?;
        read_value(&mut cursor, code, &key, 0)?;
        entries.push((key, start..cursor.at));
    }
    Ok(entries)
}

fn alignment(metadata: &BTreeMap<String, Value>, path: &Path) -> Result<u64> {
    match metadata.get("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(Value::Unsigned(number)) if number.is_power_of_two() && *number <= 1 << 20 => Ok(*number),
        Some(other) => Err(fault(path, "'general.alignment' is damaged")
            .expected("a power of two of at most 2^20")
            .found(format!("{other:?}"))),
    }
}

fn read_value(cursor: &mut Cursor<'_>, code: u32, key: &str, depth: usize) -> Result<Value> {
    Ok(match code {
        0 => Value::Unsigned(cursor.array::<1>(key)?[0].into()),
        1 => Value::Signed(i8::from_le_bytes(cursor.array(key)?).into()),
        2 => Value::Unsigned(u16::from_le_bytes(cursor.array(key)?).into()),
        3 => Value::Signed(i16::from_le_bytes(cursor.array(key)?).into()),
        4 => Value::Unsigned(cursor.u32(key)?.into()),
        5 => Value::Signed(i32::from_le_bytes(cursor.array(key)?).into()),
        6 => Value::Float(f32::from_le_bytes(cursor.array(key)?).into()),
        7 => match cursor.array::<1>(key)?[0] {
            0 => Value::Bool(false),
            1 => Value::Bool(true),
            other => {
                return Err(fault(cursor.path, format!("metadata '{key}' is damaged"))
                    .expected("a truth value of 0 or 1")
                    .found(other.to_string()));
            }
        },
        8 => Value::String(cursor.string(key)?),
        9 => read_array(cursor, key, depth)?,
        10 => Value::Unsigned(cursor.u64(key)?),
        11 => Value::Signed(i64::from_le_bytes(cursor.array(key)?)),
        12 => Value::Float(f64::from_le_bytes(cursor.array(key)?)),
        other => {
            return Err(fault(cursor.path, format!("metadata '{key}' has an unknown type"))
                .expected("a type from 0 to 12")
                .found(other.to_string()));
        }
    })
}

/// Bytes that one value of a type takes at least; 1 for an unknown type, which is refused when it is read.
fn least_bytes(code: u32) -> u64 {
    match code {
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        9 => 12,
        _ => 1,
    }
}

fn read_array(cursor: &mut Cursor<'_>, key: &str, depth: usize) -> Result<Value> {
    if depth >= MAX_NESTING {
        return Err(fault(cursor.path, format!("metadata '{key}' is nested too deeply"))
            .expected(format!("at most {MAX_NESTING} arrays in one another")));
    }
    let code = cursor.u32(key)?;
    let count = cursor.u64(key)?;
    cursor.count(count, least_bytes(code), key)?;
    match code {
        8 => (0..count).map(|_| cursor.string(key)).collect::<Result<_>>().map(Value::Strings),
        6 => {
            let bytes = cursor.take(count * 4, key)?;
            Ok(Value::F32s(bytes.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect()))
        }
        5 => {
            let bytes = cursor.take(count * 4, key)?;
            Ok(Value::I32s(bytes.as_chunks().0.iter().map(|number| i32::from_le_bytes(*number)).collect()))
        }
        // Single bytes, of which there may be many: never a value of its own for each.
        0 | 1 => {
            let bytes = cursor.take(count, key)?;
            let number = |byte: &u8| if code == 0 { i32::from(*byte) } else { i32::from(byte.cast_signed()) };
            Ok(Value::I32s(bytes.iter().map(number).collect()))
        }
        2 | 3 => {
            let bytes = cursor.take(count * 2, key)?;
            let numbers = bytes.as_chunks().0.iter().map(|pair| match code {
                2 => i32::from(u16::from_le_bytes(*pair)),
                _ => i32::from(i16::from_le_bytes(*pair)),
            });
            Ok(Value::I32s(numbers.collect()))
        }
        _ => {
            // Each of these is larger in memory than in the file: there are few, and they grow with what is really read.
            if count > MOST_VALUES {
                return Err(fault(cursor.path, format!("metadata '{key}' has too many values"))
                    .expected(format!("at most {MOST_VALUES}"))
                    .found(count.to_string()));
            }
            let mut list = Vec::new();
            for _ in 0..count {
                list.push(read_value(cursor, code, key, depth + 1)?);
            }
            Ok(narrowed(list))
        }
    }
}

/// Integers of any width as `i32` where all fit.
fn narrowed(list: Vec<Value>) -> Value {
    let small = |value: &Value| match value {
        Value::Unsigned(number) => i32::try_from(*number).ok(),
        Value::Signed(number) => i32::try_from(*number).ok(),
        _ => None,
    };
    match list.iter().map(small).collect::<Option<Vec<i32>>>() {
        Some(numbers) => Value::I32s(numbers),
        None => Value::List(list),
    }
}

/// A directory entry as it is stored.
struct Entry {
    name: String,
    /// Fastest axis first.
    axes: Vec<u64>,
    kind: TensorType,
    offset: u64,
}

fn read_entry(cursor: &mut Cursor<'_>) -> Result<Entry> {
    let name = cursor.string("a tensor name")?;
    let count = cursor.u32(&name)?;
    if count == 0 || count > MAX_AXES {
        return Err(fault(cursor.path, format!("tensor '{name}' is damaged"))
            .expected(format!("1 to {MAX_AXES} axes"))
            .found(count.to_string()));
    }
    let axes = (0..count).map(|_| cursor.u64(&name)).collect::<Result<Vec<u64>>>()?;
    let code = cursor.u32(&name)?;
    let kind = TensorType::from_code(code).map_err(|label| {
        fault(cursor.path, format!("tensor '{name}' has an unsupported type"))
            .expected(TensorType::SUPPORTED)
            .found(label)
            .hint("fetch or make the model in one of the supported types")
    })?;
    let offset = cursor.u64(&name)?;
    Ok(Entry { name, axes, kind, offset })
}

/// Where tensors may lie.
struct Area {
    start: usize,
    end: usize,
    alignment: u64,
}

fn place_tensor(entry: Entry, area: &Area, path: &Path) -> Result<TensorInfo> {
    let Entry { name, axes, kind, offset } = entry;
    let damaged = || fault(path, format!("tensor '{name}' is damaged"));
    let (block, block_bytes) = kind.block();
    if axes.contains(&0) {
        return Err(damaged().expected("axes of at least 1").found(format!("{axes:?}")));
    }
    let row = axes[0];
    if row % block as u64 != 0 {
        return Err(damaged()
            .expected(format!("rows of a multiple of {block} numbers for {}", kind.name()))
            .found(row.to_string()));
    }
    if offset % area.alignment != 0 {
        return Err(damaged()
            .expected(format!("an offset that is a multiple of {}", area.alignment))
            .found(offset.to_string()));
    }
    let size = || {
        let count = axes.iter().try_fold(1u64, |product, axis| product.checked_mul(*axis))?;
        let bytes = (count / block as u64).checked_mul(block_bytes as u64)?;
        let start = (area.start as u64).checked_add(offset)?;
        let end = start.checked_add(bytes)?;
        Some((usize::try_from(start).ok()?, usize::try_from(bytes).ok()?, end))
    };
    match size() {
        Some((start, bytes, end)) if end <= area.end as u64 => {
            let shape = axes
                .iter()
                .rev()
                .map(|axis| usize::try_from(*axis))
                .collect::<std::result::Result<Vec<_>, _>>();
            let shape = shape.map_err(|_| damaged().expected("axes that fit the memory of this machine"))?;
            Ok(TensorInfo { shape, kind, start, bytes, name })
        }
        Some((_, _, end)) => Err(truncated(path, &format!("tensor '{name}'"))
            .expected(format!("at least {end} bytes"))
            .found(format!("{} bytes", area.end))),
        None => {
            Err(damaged().expected("a size that can be counted").found(format!("axes {axes:?} at {offset}")))
        }
    }
}

fn fault(path: &Path, what: impl Into<String>) -> Error {
    Error::new(Kind::Model, what).at(path.display().to_string())
}

fn truncated(path: &Path, thing: &str) -> Error {
    fault(path, format!("the model file ends inside {thing}")).hint("the file is cut off: fetch it again")
}

/// A position in the bytes of the file.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    path: &'a Path,
}

impl<'a> Cursor<'a> {
    fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    fn take(&mut self, count: u64, thing: &str) -> Result<&'a [u8]> {
        let end = usize::try_from(count).ok().and_then(|count| self.at.checked_add(count));
        let taken = end.and_then(|end| self.bytes.get(self.at..end)).ok_or_else(|| {
            truncated(self.path, &format!("'{thing}' (byte {})", self.at))
                .expected(format!("{count} more bytes"))
                .found(format!("{} bytes", self.left()))
        })?;
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, thing: &str) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, thing)?);
        Ok(array)
    }

    fn u32(&mut self, thing: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(thing)?))
    }

    fn u64(&mut self, thing: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(thing)?))
    }

    fn string(&mut self, thing: &str) -> Result<String> {
        let length = self.u64(thing)?;
        let bytes = self.take(length, thing)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(fault(self.path, format!("'{thing}' (byte {}) is damaged", self.at))
                .expected("text in UTF-8")
                .hint("fetch the model file again")),
        }
    }

    /// Refuses a count of things that the bytes that are left cannot hold.
    fn count(&self, count: u64, least: u64, thing: &str) -> Result<()> {
        match count.checked_mul(least) {
            Some(bytes) if bytes <= self.left() => Ok(()),
            _ => Err(truncated(self.path, &format!("'{thing}'"))
                .expected(format!("room for {count} of them"))
                .found(format!("{} bytes", self.left()))),
        }
    }
}
