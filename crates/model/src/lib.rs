//! Files to log-probs and text.
pub mod adapter;
pub mod catalogue;
pub mod chat;
pub mod checkpoint;
pub mod config;
pub mod disk;
pub mod export;
pub mod generate;
pub mod gguf;
mod hugging_face;
pub mod language_model;
pub mod linear;
pub mod lora;
pub mod pull;
mod rope;
pub mod tokenizer;
pub mod transformer;
pub mod tree;
