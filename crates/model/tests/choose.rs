//! Choosing among labels: the scores of the shared tree equal those of each label as a sequence of its own, and the answer
//! of the candidate is the label with the highest.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::ops::ControlFlow;
use underdog_eval::model::{Message, Model, Request, Role};
use underdog_model::catalogue::Cache;
use underdog_model::choose::{Choice, Length};
use underdog_model::language_model::LanguageModel;
use underdog_model::linear::Precision;
use underdog_model::reference::Reference;
use underdog_model::transformer::{Keep, StepOptions, Workspace};
use underdog_model::tree::{Forest, Sequence, SequenceTarget};
use underdog_testkit::golden;

fn tiny() -> LanguageModel {
    let folder = golden("models/tiny-llama").display().to_string();
    let reference = Reference::parse(&folder).unwrap();
    LanguageModel::load(&reference, &Cache::at("nowhere"), Precision::F32).unwrap()
}

/// The log-probability of `label` after `prompt`, from a sequence of its own.
fn alone(model: &LanguageModel, prompt: &[u32], label: &[u32]) -> f64 {
    let tokens: Vec<u32> = prompt.iter().chain(label).copied().collect();
    let target = |(i, token): (usize, &u32)| SequenceTarget { position: prompt.len() - 1 + i, token: *token };
    let targets = label.iter().enumerate().map(target).collect();
    let forest = Forest::merge(&[Sequence { tokens, targets }]);
    let options = StepOptions { keep: Keep::All, dropout: None };
    let (scores, _) = model.transformer.forward(None, &forest, options, &mut Workspace::default());
    scores.iter().map(|score| f64::from(score.log_prob)).sum()
}

const LABELS: [&str; 5] = ["card", "card arrival", "card arrival late", "yes", "no"];

fn request(text: &str) -> Request {
    let messages = vec![Message { role: Role::User, content: text.into() }];
    Request { messages, max_new_tokens: 4 }
}

#[test]
fn scores_of_the_tree_are_those_of_separate_sequences() {
    let model = tiny();
    let labels: Vec<String> = LABELS.map(str::to_owned).to_vec();
    let tokens: Vec<Vec<u32>> = labels.iter().map(|label| model.completion_tokens(label)).collect();
    let prompts: Vec<Vec<u32>> = ["where is my card", "where is my money", "is it late?"]
        .map(|text| model.prompt_tokens(&request(text).messages).unwrap())
        .into();
    for length in [Length::One, Length::Tokens] {
        let choice = Choice::new(labels.clone(), tokens.clone(), length).unwrap();
        let scores = choice.scores(&model.transformer, None, &prompts);
        for (prompt, scores) in prompts.iter().zip(&scores) {
            for (label, score) in tokens.iter().zip(scores) {
                let over = if length == Length::Tokens { label.len() as f64 } else { 1.0 };
                let expected = alone(&model, prompt, label) / over;
                assert!((score - expected).abs() < 1e-4, "{score} {expected}");
            }
        }
    }
}

#[test]
fn the_answer_is_the_label_with_the_highest_score_however_requests_are_batched() {
    let mut model = tiny();
    let labels: Vec<String> = LABELS.map(str::to_owned).to_vec();
    let requests: Vec<Request> = (0..90).map(|i| request(&format!("question number {i}"))).collect();
    for length in [Length::One, Length::Tokens] {
        model.choose_among(&labels, length).unwrap();
        assert!(model.identity().name.ends_with(length.name()));
        assert!(model.how().unwrap().contains("of 5 labels"));
        let mut answers = vec![String::new(); requests.len()];
        model
            .generate(&requests, &mut |index, output| {
                answers[index] = output.unwrap().text;
                ControlFlow::Continue(())
            })
            .unwrap();
        for (request, answer) in requests.iter().zip(&answers) {
            let prompt = model.prompt_tokens(&request.messages).unwrap();
            let score = |label: &String| {
                let tokens = model.completion_tokens(label);
                let over = if length == Length::Tokens { tokens.len() as f64 } else { 1.0 };
                alone(&model, &prompt, &tokens) / over
            };
            let best = labels.iter().map(score).fold(f64::MIN, f64::max);
            assert!((score(answer) - best).abs() < 1e-4, "{answer}");
        }
    }
    model.free();
    assert!(model.how().is_none() && !model.identity().name.contains("choose"));
}

#[test]
fn what_cannot_be_chosen_among_is_refused() {
    let mut model = tiny();
    assert!(model.choose_among(&["one".to_owned()], Length::One).is_err());
    assert!(Length::parse("letter").is_err());
    assert_eq!(Length::parse("log-prob-sum").unwrap(), Length::One);
}
