//! The one error type of the house: what went wrong, what was expected, what was found, where; the hint apart.
//!
//! It knows nothing of printing: `cli` renders it and turns [`Kind`] into the exit code.

use std::fmt;

/// Shorthand for results of this crate and of the crates that build on it.
pub type Result<T> = std::result::Result<T, Error>;

/// The kind of a failure. It decides the exit code of the command line, so a kind keeps its meaning for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request itself: an argument, a setting or a name that does not exist. Exit code 2.
    Usage,
    /// A task file, a data row or a record. Exit code 3.
    Data,
    /// A model, adapter, tokenizer or checkpoint file. Exit code 4.
    Model,
    /// The machine: disk, memory, permissions, a program that is missing, a source that does not answer. Exit code 5.
    System,
    /// A person stopped the run; what was done is kept. Exit code 130.
    Stopped,
}

impl Kind {
    /// The exit code of the command line for this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Usage => 2,
            Kind::Data => 3,
            Kind::Model => 4,
            Kind::System => 5,
            Kind::Stopped => 130,
        }
    }
}

/// A failure in facts: what, expected, found, where, and a hint apart from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(Box<Facts>);

/// The facts of an [`Error`]. Absent facts are `None`, never an empty string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Decides the exit code.
    pub kind: Kind,
    /// One sentence without a full stop that names the thing.
    pub what: String,
    /// What would have been right.
    pub expected: Option<String>,
    /// What was there instead.
    pub found: Option<String>,
    /// File, line and field, as far as known.
    pub place: Option<String>,
    /// What the user can do about it.
    pub hint: Option<String>,
}

impl Error {
    /// An error of `kind`; the other facts are added with the methods below.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Error(Box::new(Facts {
            kind,
            what: what.into(),
            expected: None,
            found: None,
            place: None,
            hint: None,
        }))
    }

    /// A failed operation on a file or folder.
    pub fn io(what: impl Into<String>, path: &std::path::Path, source: &std::io::Error) -> Self {
        let error = Error::new(Kind::System, what).found(source.to_string()).at(path.display().to_string());
        match source.kind() {
            std::io::ErrorKind::StorageFull
            | std::io::ErrorKind::QuotaExceeded
            | std::io::ErrorKind::FileTooLarge => {
                error.hint("make room, then run the same command again; a run goes on with --resume added")
            }
            std::io::ErrorKind::PermissionDenied => error.hint("check who owns the file or folder"),
            _ => error,
        }
    }

    /// Adds what would have been right.
    pub fn expected(mut self, text: impl Into<String>) -> Self {
        self.0.expected = Some(text.into());
        self
    }

    /// Adds what was there instead.
    pub fn found(mut self, text: impl Into<String>) -> Self {
        self.0.found = Some(text.into());
        self
    }

    /// Adds where: file, line, field.
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.0.place = Some(place.into());
        self
    }

    /// Adds what the user can do about it.
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.0.hint = Some(text.into());
        self
    }

    /// The facts, for rendering and for tests.
    pub fn facts(&self) -> &Facts {
        &self.0
    }

    /// The kind, which decides the exit code.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }
}

impl fmt::Display for Error {
    /// One line: `what: expected …, found … (place)`. The hint is not part of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.what)?;
        match (&self.0.expected, &self.0.found) {
            (Some(expected), Some(found)) => write!(f, ": expected {expected}, found {found}")?,
            (Some(expected), None) => write!(f, ": expected {expected}")?,
            (None, Some(found)) => write!(f, ": {found}")?,
            (None, None) => {}
        }
        match &self.0.place {
            Some(place) => write!(f, " ({place})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
