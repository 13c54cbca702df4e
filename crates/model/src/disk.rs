//! Writing a folder so that nothing half ever stands under its name: a temporary name beside it, sync, rename. Single
//! files are `underdog_eval::files`'. Tensors go to the disk from where they lie: a checkpoint is written while a step's
//! memory is still held, so a copy of them would be on top of the peak.

use safetensors::{Dtype, SafeTensorError, View};
use std::borrow::Cow;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use underdog_eval::files::sync_folder;
use underdog_eval::{Error, Kind, Result};

fn partial(path: &Path) -> PathBuf {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{}.partial", std::process::id()))
}

/// What a file holds.
#[derive(Debug)]
pub enum Content<'a> {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These tensors, in the safetensors format.
    Tensors(Vec<(String, Tensor<'a>)>),
}

/// A tensor in f32, row-major.
#[derive(Debug)]
pub struct Tensor<'a> {
    /// Sizes.
    pub shape: Vec<usize>,
    /// Values, as many as the sizes say.
    pub values: &'a [f32],
}

impl View for &Tensor<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match cfg!(target_endian = "little") {
            true => Cow::Borrowed(bytemuck::cast_slice(self.values)),
            false => Cow::Owned(self.values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        }
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

fn write_synced(path: &Path, content: &Content<'_>) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    match content {
        Content::Bytes(bytes) => file.write_all(bytes)?,
        Content::Tensors(tensors) => {
            // The library puts a new file in its place, which only its owner may read.
            let permissions = file.metadata()?.permissions();
            let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
            let format = std::collections::HashMap::from([("format".to_string(), "pt".to_string())]);
            safetensors::serialize_to_file(named, Some(format), path).map_err(|e| match e {
                SafeTensorError::IoError(e) => e,
                refused => std::io::Error::other(refused.to_string()),
            })?;
            fs::set_permissions(path, permissions)?;
            file = File::options().write(true).open(path)?;
        }
    }
    file.sync_all()
}

/// Writes a new directory with these files.
///
/// # Errors
/// When the directory exists already, or what the file system says; nothing stands under the name then.
pub fn write_directory(path: &Path, files: &[(&str, Content<'_>)]) -> Result<()> {
    if path.exists() {
        return Err(Error::new(Kind::System, "the folder exists already").at(path.display().to_string()));
    }
    let temporary = partial(path);
    let write = || -> std::io::Result<()> {
        // What a killed process of the same number left behind is of no use to anyone.
        let _ = fs::remove_dir_all(&temporary);
        fs::create_dir_all(&temporary)?;
        for (name, content) in files {
            write_synced(&temporary.join(name), content)?;
        }
        sync_folder(&temporary);
        fs::rename(&temporary, path)
    };
    write().map_err(|e| {
        let _ = fs::remove_dir_all(&temporary);
        Error::io("cannot write the folder", path, &e)
    })?;
    sync_folder(path.parent().unwrap_or(Path::new("")));
    Ok(())
}
