//! `underdog export M --out FILE`: merge, quantise, write, and say how far the file is from the model it was made of.

use crate::arguments::ExportArguments;
use crate::environment::Environment;
use crate::output::{Output, percent};
use crate::verbs::load_model;
use serde::Serialize;
use underdog_eval::model::{Message, Role};
use underdog_eval::{Error, Kind, Result};
use underdog_model::checkpoint::Checkpoint;
use underdog_model::export::{Distance, Exported, Quantization, distance, export};
use underdog_model::generate::Prompt;
use underdog_model::language_model::LanguageModel;
use underdog_model::reference::Reference;

/// What the parity certificate is made on.
const PROMPTS: [&str; 3] = [
    "Explain in two sentences why the sky is blue.",
    "List three things to check before signing a contract.",
    "Write a short, polite reply to a customer whose parcel is late.",
];
/// Tokens of each answer that are compared.
const NEW: usize = 32;

/// The result of the verb.
#[derive(Debug, Serialize)]
struct Written {
    model: String,
    file: String,
    quantize: String,
    /// Similar rows before every question with which the adapter was trained.
    shots: usize,
    #[serde(flatten)]
    exported: Exported,
    /// `None` where the model has nothing to say to the prompts.
    parity: Option<Distance>,
}

/// Runs the verb.
pub fn run(arguments: &ExportArguments, environment: &Environment, output: &Output) -> Result<()> {
    let quantization = Quantization::parse(&arguments.quantize)?;
    if arguments.out.exists() {
        return Err(Error::new(Kind::Usage, "the file exists already")
            .at(arguments.out.display().to_string())
            .hint("give --out another name"));
    }
    let model = load_model(&arguments.model, "f32", environment, output)?;
    let base = Reference::parse(&arguments.model)?.locate(&environment.cache)?;
    let exported = export(
        &Checkpoint::open(&base)?,
        (model.lora.as_ref(), model.shots()),
        quantization,
        &arguments.out,
    )?;
    output.say("comparing the file with the model");
    let written = Written {
        model: arguments.model.clone(),
        file: arguments.out.display().to_string(),
        quantize: arguments.quantize.clone(),
        shots: model.shots(),
        parity: parity(&model, arguments, environment, output)?,
        exported,
    };
    output.result(&written, || text(&written))
}

fn parity(
    model: &LanguageModel,
    arguments: &ExportArguments,
    environment: &Environment,
    output: &Output,
) -> Result<Option<Distance>> {
    let file = arguments.out.display().to_string();
    let exported = load_model(&file, "f32", environment, output)?;
    let prompt = |text: &&str| {
        let tokens = model.prompt_tokens(&[Message { role: Role::User, content: (*text).into() }])?;
        Ok(Prompt { tokens, max_new: NEW })
    };
    let prompts = PROMPTS.iter().map(prompt).collect::<Result<Vec<_>>>()?;
    let from = (&model.transformer, model.lora.as_ref());
    Ok(distance(from, &exported.transformer, &prompts, model.stop()))
}

fn text(written: &Written) -> String {
    let Exported { bytes, types, fallbacks, merged, copied } = &written.exported;
    let list = |items: Vec<String>| items.join(", ");
    let mut lines = vec![
        format!("{} ({:.1} MB)", written.file, *bytes as f64 / 1e6),
        format!("  tensors    {}", list(types.iter().map(|(name, n)| format!("{n} {name}")).collect())),
        format!("  adapter    merged into {merged} matrices; {copied} matrices taken over as they were"),
    ];
    if !fallbacks.is_empty() {
        let all = list(fallbacks.iter().map(|(name, n)| format!("{n} {name}")).collect());
        lines.push(format!("  fallbacks  {all} (rows are not whole blocks of 256)"));
    }
    if written.shots > 0 {
        let ask = "the file says so to underdog; other programs have to put them there";
        lines.push(format!(
            "  prompt     trained with {} similar rows before every question: {ask}",
            written.shots
        ));
    }
    lines.push(match &written.parity {
        None => "  parity     - (the model answered nothing)".into(),
        Some(d) => format!(
            "  parity     over {} tokens of {} answers: |Δ log-prob| {:.4} on average, {:.3} at most; divergence {:.5} \
             nats; same token {}",
            d.tokens,
            d.prompts,
            d.mean_log_prob_difference,
            d.largest_log_prob_difference,
            d.mean_divergence,
            percent(Some(d.same_token)),
        ),
    });
    lines.join("\n")
}
