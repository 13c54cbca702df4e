//! Files to log-probs and text.
pub mod checkpoint;
pub mod config;
pub mod gguf;
mod hugging_face;
mod rope;
pub mod linear;
pub mod language_model;
pub mod lora;
pub mod transformer;
pub mod tree;
pub mod catalogue;
pub mod chat;
pub mod pull;
pub mod tokenizer;
pub mod adapter;
pub mod disk;
pub mod generate;
