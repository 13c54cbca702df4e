//! A model whose file has no chat template is asked in plain text until an adapter has taught it one.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use std::ops::ControlFlow;
use std::path::Path;
use underdog_eval::model::{Finish, Message, Model, Request, Role};
use underdog_model::catalogue::Cache;
use underdog_model::choose::Length;
use underdog_model::constrain::Grammar;
use underdog_model::language_model::LanguageModel;
use underdog_model::linear::Precision;
use underdog_model::lora::{Lora, LoraConfig, Module};
use underdog_model::reference::Reference;

#[test]
fn a_model_that_was_taught_no_template_is_asked_in_plain_text() {
    let Some(path) = common::weights("gemma-3-270m") else { return };
    let reference = Reference { base: path.display().to_string(), adapter: None };
    let mut model =
        LanguageModel::load(&reference, &Cache::at("."), Precision::parse("auto").unwrap()).unwrap();
    let message = |role, text: &str| Message { role, content: text.into() };
    let shown = [("hot", "cold"), ("big", "small"), ("up", "down"), ("left", "right")];
    let mut messages = vec![message(Role::System, "Give the opposite of each word.")];
    for (word, opposite) in shown {
        messages.extend([message(Role::User, word), message(Role::Assistant, opposite)]);
    }
    messages.push(message(Role::User, "open"));
    let templated = model.prompt_tokens(&messages).unwrap().len();
    let request = Request { messages, max_new_tokens: 12 };
    let mut streamed = String::new();
    let output = model
        .stream(&request, &mut |text| {
            streamed.push_str(text);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((output.text.as_str(), output.finish), ("closed", Finish::Stop));
    assert_eq!(streamed, "closed");
    assert!(model.how().unwrap().contains("plain text") && model.identity().fingerprint.ends_with(" plain"));
    // Labels may be compared and held to all the same.
    let labels = ["opened", "closed"].map(String::from);
    model.choose_among(&labels, Length::Tokens).unwrap();
    let mut answers = Vec::new();
    let mut ask = |model: &mut LanguageModel| {
        let one = std::slice::from_ref(&request);
        model.generate(one, &mut |_, output| {
            answers.push(output.unwrap().text);
            ControlFlow::Continue(())
        })
    };
    ask(&mut model).unwrap();
    model.free();
    model.constrain(&Grammar::Labels(labels.into()), "labels").unwrap();
    ask(&mut model).unwrap();
    assert_eq!(answers, ["closed", "closed"]);
    model.free();
    // An adapter was trained on the template.
    let config = LoraConfig { rank: 1, alpha: 1.0, targets: Module::ALL.to_vec() };
    model.adopt(Lora::zeros(model.transformer.config(), config), Path::new("adapter"));
    assert!(model.how().is_none() && !model.identity().fingerprint.contains("plain"));
    assert_eq!(model.prompt(&request).unwrap().tokens.len(), templated);
}
