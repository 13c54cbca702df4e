//! The harness and everything that is concluded from it.
pub mod error;
pub mod model;
pub use error::{Error, Kind, Result};
