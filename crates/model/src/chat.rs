//! Chat templates: from messages to the one text that a model was trained to continue.
//!
//! Templates are Jinja, rendered as transformers renders them (block trimming, Python's string methods, `tojson` as
//! `json.dumps` writes it). Tokenising the text is left to [`crate::tokenizer`]. A template that asks for the time of
//! day (`strftime_now`) finds no such function, so that a prompt never depends on the clock.

use crate::gguf::Gguf;
use crate::tokenizer::{read_object, special_text};
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, ErrorKind, State, UndefinedBehavior, Value as Jinja, context};
use serde_json::Value;
use std::path::Path;
use underdog_eval::model::{Message, Role};
use underdog_eval::{Error, Kind, Result};

/// The template of the Gemma 3 models, for files that carry none. A system message leads the first user turn.
const GEMMA3: &str = include_str!("gemma3.jinja");

/// Stands for an answer while looking for what ends one; no template has reason to touch it.
const PROBE: &str = "UNDERDOGPROBE";

/// Values in one another that `tojson` writes, and spaces that it writes before a line for each.
const DEEPEST: usize = 64;
/// Parts that a template may make of a list.
const MOST_PARTS: usize = 10_000;

/// A chat template with the special tokens that it may name.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos_token: Option<String>,
    eos_token: Option<String>,
    end_of_turn: String,
    is_own: bool,
}

impl ChatTemplate {
    /// The template in the metadata of a GGUF file. Where the file has none: `fallback`, which is the text of a
    /// template, or the name of an architecture with a built-in one (`gemma3`); and without a fallback the built-in
    /// one of the file's own architecture.
    ///
    /// # Errors
    /// When there is no template at all, or when it cannot be rendered.
    pub fn from_gguf(gguf: &Gguf, fallback: Option<&str>) -> Result<Self> {
        let architecture = gguf.metadata_str("general.architecture").unwrap_or("unknown");
        let fallback = fallback.map_or_else(|| built_in(architecture), |text| built_in(text).or(Some(text)));
        let source = gguf.metadata_str("tokenizer.chat_template").or(fallback).ok_or_else(|| {
            no_template().found(format!("architecture {architecture}")).at(gguf.path().display().to_string())
        })?;
        let token = |key| {
            let id = usize::try_from(gguf.metadata_u64(key)?).ok()?;
            gguf.metadata_strings("tokenizer.ggml.tokens")?.get(id).cloned()
        };
        let (bos, eos) = (token("tokenizer.ggml.bos_token_id"), token("tokenizer.ggml.eos_token_id"));
        let template = ChatTemplate::new(source, bos, eos);
        let template = template.map_err(|error| error.at(gguf.path().display().to_string()))?;
        Ok(ChatTemplate { is_own: gguf.metadata_str("tokenizer.chat_template").is_some(), ..template })
    }

    /// The template of a Hugging Face directory: `chat_template.jinja`, or `chat_template` in
    /// `tokenizer_config.json` (a text, or a list of named ones of which `default` is taken).
    ///
    /// # Errors
    /// When there is no template, or when it cannot be rendered.
    pub fn from_directory(dir: &Path) -> Result<Self> {
        let path = dir.join("chat_template.jinja");
        let config = read_object(&dir.join("tokenizer_config.json"))?;
        let source = match std::fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                configured(&config).map(str::to_string)
            }
            Err(error) => return Err(Error::io("the chat template cannot be read", &path, &error)),
        };
        let source = source.ok_or_else(|| no_template().at(dir.display().to_string()))?;
        let token = |key| special_text(&config, key).map(str::to_string);
        ChatTemplate::new(&source, token("bos_token"), token("eos_token"))
            .map_err(|error| error.at(dir.display().to_string()))
    }

    /// A template from its text. `bos_token` and `eos_token` are what these names stand for in it.
    ///
    /// # Errors
    /// When the template is broken, or when nothing can be found that ends an answer.
    pub fn new(source: &str, bos_token: Option<String>, eos_token: Option<String>) -> Result<Self> {
        let source = without_generation_marks(source);
        let mut template = ChatTemplate {
            environment: environment(),
            source,
            bos_token,
            eos_token,
            end_of_turn: String::new(),
            is_own: true,
        };
        template.end_of_turn = template.find_end_of_turn()?;
        Ok(template)
    }

    /// The prompt of `messages`. `add_generation_prompt` also opens the turn of the assistant.
    ///
    /// # Errors
    /// When the template refuses the conversation (for example turns that do not alternate) or cannot be rendered.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let messages: Vec<Jinja> = messages
            .iter()
            .map(|message| context! { role => role_name(message.role), content => message.content.as_str() })
            .collect();
        let context = context! {
            messages => messages,
            add_generation_prompt => add_generation_prompt,
            // Always defined, and None where there are none: transformers does the same.
            tools => (),
            documents => (),
            ..self.special_tokens()
        };
        self.environment.render_named_str("chat template", &self.source, context).map_err(|error| {
            let line = error.line().map_or(String::new(), |line| format!(" in line {line} of the template"));
            let detail = error.detail().map_or_else(|| error.to_string(), str::to_string);
            Error::new(Kind::Model, "the chat template cannot render this conversation")
                .found(format!("{detail}{line}"))
                .hint(
                    "look at the roles and their order: some templates want user and assistant to take turns",
                )
        })
    }

    /// The text that ends a turn of the assistant, such as `<|im_end|>`. Generation stops there, and a completion to
    /// be trained on ends with it.
    pub fn end_of_turn(&self) -> &str {
        &self.end_of_turn
    }

    /// Its text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it came with the model, which then was taught it, and is not the usual one of the model's family.
    pub fn is_own(&self) -> bool {
        self.is_own
    }

    /// The special tokens as variables; one that the model lacks is undefined rather than empty.
    fn special_tokens(&self) -> Jinja {
        let named = [("bos_token", &self.bos_token), ("eos_token", &self.eos_token)];
        Jinja::from_pairs(named.into_iter().filter_map(|(name, token)| Some((name, token.as_deref()?))))
    }

    /// Renders a conversation with a known answer and takes what follows the answer; the end-of-text token where
    /// nothing does.
    fn find_end_of_turn(&self) -> Result<String> {
        let turn = |role, content: &str| Message { role, content: content.to_string() };
        let text = self.render(&[turn(Role::User, "Hello"), turn(Role::Assistant, PROBE)], false)?;
        let after = text.rsplit_once(PROBE).map(|(_, after)| after.trim()).ok_or_else(|| {
            Error::new(Kind::Model, "the chat template leaves out what the assistant said")
                .expected("the answer in the rendered text")
                .found(format!("{text:?}"))
        })?;
        match (after, &self.eos_token) {
            ("", None) => Err(Error::new(Kind::Model, "nothing ends an answer in the chat template")
                .expected("a text after the answer, or an end-of-text token")),
            ("", Some(eos)) => Ok(eos.clone()),
            (after, _) => Ok(after.to_string()),
        }
    }
}

/// The built-in template of an architecture.
fn built_in(architecture: &str) -> Option<&'static str> {
    (architecture == "gemma3").then_some(GEMMA3)
}

fn no_template() -> Error {
    Error::new(Kind::Model, "the model has no chat template")
        .expected("a template in the file or next to it")
        .hint("use an instruction-tuned model, or add a chat_template.jinja to its directory")
}

/// `chat_template` of a `tokenizer_config.json`.
fn configured(config: &Value) -> Option<&str> {
    let value = config.get("chat_template")?;
    if let Some(text) = value.as_str() {
        return Some(text);
    }
    let named = value.as_array()?;
    let default = named.iter().find(|entry| entry["name"] == "default");
    default.or(named.first().filter(|_| named.len() == 1))?["template"].as_str()
}

/// What templates call a role.
fn role_name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    }
}

/// Jinja as transformers sets it up.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let mut syntax = minijinja::syntax::SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    environment.set_syntax(syntax.build().expect("the usual delimiters do not clash"));
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function(
        "raise_exception",
        |message: String| -> std::result::Result<(), minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        },
    );
    environment.add_filter("tojson", to_json);
    environment.add_filter("batch", of_few(minijinja::filters::batch));
    environment.add_filter("slice", of_few(minijinja::filters::slice));
    // It makes as many spaces as it is told to, and no template that we know needs it.
    environment.remove_filter("indent");
    environment
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`.
fn to_json(value: Jinja, options: Kwargs) -> std::result::Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    if indent.is_some_and(|indent| indent > DEEPEST) || is_deeper_than(&value, DEEPEST) {
        let what = format!("tojson: more than {DEEPEST} spaces, or as many values in one another");
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, what));
    }
    let value = serde_json::to_value(&value)
        .map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    let mut text = String::new();
    write_json(&value, indent, 0, &mut text);
    Ok(text)
}

/// Whether lists and objects lie in one another deeper than that.
fn is_deeper_than(value: &Jinja, depth: usize) -> bool {
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
        return false;
    }
    let Ok(mut items) = value.try_iter() else { return false };
    depth == 0
        || match value.kind() {
            ValueKind::Map => {
                items.any(|key| value.get_item(&key).is_ok_and(|item| is_deeper_than(&item, depth - 1)))
            }
            _ => items.any(|item| is_deeper_than(&item, depth - 1)),
        }
}

/// `filter` of at most so many parts: the library makes as many as it is told to.
fn of_few(
    filter: fn(&State, Jinja, usize, Option<Jinja>) -> std::result::Result<Jinja, minijinja::Error>,
) -> impl Fn(&State, Jinja, usize, Option<Jinja>) -> std::result::Result<Jinja, minijinja::Error> {
    move |state: &State, value: Jinja, count: usize, fill: Option<Jinja>| {
        if count > MOST_PARTS {
            let what = format!("more than {MOST_PARTS} parts");
            return Err(minijinja::Error::new(ErrorKind::InvalidOperation, what));
        }
        filter(state, value, count, fill)
    }
}

/// Writes `value` with Python's separators; `depth` counts the containers around it.
fn write_json(value: &Value, indent: Option<usize>, depth: usize, text: &mut String) {
    let items: Vec<(Option<&String>, &Value)> = match value {
        Value::Array(items) => items.iter().map(|item| (None, item)).collect(),
        Value::Object(fields) => fields.iter().map(|(name, item)| (Some(name), item)).collect(),
        scalar => return text.push_str(&scalar.to_string()),
    };
    let (open, close) = if value.is_array() { ('[', ']') } else { ('{', '}') };
    let break_line = |text: &mut String, depth: usize| {
        if let Some(indent) = indent {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', indent * depth));
        }
    };
    text.push(open);
    for (index, (name, item)) in items.iter().enumerate() {
        if index > 0 {
            text.push_str(if indent.is_some() { "," } else { ", " });
        }
        break_line(text, depth + 1);
        if let Some(name) = name {
            text.push_str(&Value::String((*name).clone()).to_string());
            text.push_str(": ");
        }
        write_json(item, indent, depth + 1, text);
    }
    if !items.is_empty() {
        break_line(text, depth);
    }
    text.push(close);
}

/// Replaces the `generation` blocks, with which some templates mark what carries loss, by blocks that do nothing.
fn without_generation_marks(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start + 2..].find("%}") else { break };
        let (tag, after) = rest[start..].split_at(length + 4);
        text.push_str(&rest[..start]);
        match tag[2..length + 2].trim_matches(['-', '+']).trim() {
            "generation" => text.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => text.push_str(&tag.replace("endgeneration", "endif")),
            _ => text.push_str(tag),
        }
        rest = after;
    }
    text.push_str(rest);
    text
}
