//! Rendered chat prompts against transformers, byte for byte. `reference/chat.py` made the expected texts.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests may panic, and say what was left out"
)]

mod common;

use serde_json::Value;
use underdog_eval::Kind;
use underdog_eval::model::{Message, Role};
use underdog_model::chat::ChatTemplate;
use underdog_model::gguf::Gguf;
use underdog_testkit::{golden, read_json};

fn template(name: &str) -> ChatTemplate {
    let source = std::fs::read_to_string(golden(&format!("chat/{name}.jinja"))).unwrap();
    let expected = &read_json("chat/prompts.json")["templates"][name];
    let token = |key: &str| expected[key].as_str().map(str::to_string);
    ChatTemplate::new(&source, token("bos"), token("eos")).unwrap()
}

/// Renders every conversation with and without a generation prompt; a refusal must be a refusal there too.
fn check(name: &str, template: &ChatTemplate) {
    let goldens = read_json("chat/prompts.json");
    let conversations: Vec<Vec<Message>> = serde_json::from_value(goldens["conversations"].clone()).unwrap();
    let prompts = goldens["templates"][name]["prompts"].as_array().unwrap();
    assert!(conversations.len() > 15 && conversations.len() == prompts.len());
    for (messages, expected) in conversations.iter().zip(prompts) {
        for (index, add_generation_prompt) in [false, true].into_iter().enumerate() {
            let found = template.render(messages, add_generation_prompt);
            match (&expected[index], found) {
                (Value::String(expected), Ok(found)) => assert_eq!(&found, expected, "{name}: {messages:?}"),
                (Value::Null, Err(error)) => assert_eq!(error.kind(), Kind::Model),
                (expected, found) => panic!("{name}: {messages:?}: expected {expected}, found {found:?}"),
            }
        }
    }
}

fn user(content: &str) -> Message {
    Message { role: Role::User, content: content.to_string() }
}

#[test]
fn smollm2_renders_as_transformers_does() {
    let Some(path) = common::weights("smollm2-135m-instruct") else { return };
    let template = ChatTemplate::from_gguf(&Gguf::open(&path).unwrap(), None).unwrap();
    check("smollm2-135m-instruct", &template);
    assert_eq!(template.end_of_turn(), "<|im_end|>");
}

#[test]
fn the_built_in_template_of_gemma_renders_as_jinja_does() {
    let Some(path) = common::weights("gemma-3-270m") else { return };
    let gguf = Gguf::open(&path).unwrap();
    for fallback in [None, Some("gemma3")] {
        let template = ChatTemplate::from_gguf(&gguf, fallback).unwrap();
        check("gemma3", &template);
        assert_eq!(template.end_of_turn(), "<end_of_turn>");
    }
    let system = Message { role: Role::System, content: "Be brief.".to_string() };
    assert_eq!(
        ChatTemplate::from_gguf(&gguf, None).unwrap().render(&[system, user("Hi")], true).unwrap(),
        "<bos><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\n"
    );
    let own =
        ChatTemplate::from_gguf(&gguf, Some("{{ messages[0].content }}{{ messages[1].content }}!")).unwrap();
    assert_eq!(own.end_of_turn(), "!");
}

#[test]
fn templates_with_everything_that_is_easy_to_get_wrong_render_as_transformers_does() {
    for name in ["thinking", "headers", "layout"] {
        let source = std::fs::read_to_string(golden(&format!("chat/{name}.jinja"))).unwrap();
        let expected = &read_json("chat/prompts.json")["templates"][name];
        let token = |key: &str| expected[key].as_str().map(str::to_string);
        check(name, &ChatTemplate::new(&source, token("bos"), token("eos")).unwrap());
    }
    assert_eq!(template("thinking").end_of_turn(), "<|im_end|>");
    assert_eq!(template("headers").end_of_turn(), "<|eot_id|>");
}

#[test]
fn a_directory_has_its_template_in_a_file_or_in_its_settings() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let rendered =
        || ChatTemplate::from_directory(folder.path()).unwrap().render(&[user("hi")], false).unwrap();
    let error = ChatTemplate::from_directory(folder.path()).err().unwrap();
    assert!(error.facts().what.contains("no chat template") && error.facts().hint.is_some());

    let loop_over = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}";
    let settings = |template: Value| {
        serde_json::json!({"chat_template": template, "bos_token": "<s>", "eos_token": {"content": "</s>"}})
            .to_string()
    };
    write("tokenizer_config.json", &settings(loop_over.into()));
    assert_eq!(rendered(), "hi</s>");
    let named =
        serde_json::json!([{"name": "tools", "template": "x"}, {"name": "default", "template": loop_over}]);
    write("tokenizer_config.json", &settings(named));
    assert_eq!(rendered(), "hi</s>");
    write("chat_template.jinja", "{{ bos_token }}{% for m in messages %}{{ m.content }}.{% endfor %}");
    assert_eq!(rendered(), "<s>hi.");
}

#[test]
fn a_template_that_is_broken_or_loses_the_answer_is_an_error() {
    let error = ChatTemplate::new("{% for m in messages %}", None, None).err().unwrap();
    assert_eq!(error.kind(), Kind::Model);
    let error = ChatTemplate::new("{{ messages[0].content }}", None, None).err().unwrap();
    assert!(error.facts().what.contains("leaves out"), "{error}");
    let error =
        ChatTemplate::new("{% for m in messages %}{{ m.content }}{% endfor %}", None, None).err().unwrap();
    assert!(error.facts().what.contains("nothing ends"), "{error}");
    let error = ChatTemplate::new("{{ strftime_now('%Y') }}", None, None).err().unwrap();
    assert_eq!(error.kind(), Kind::Model);
    // What the library would write or nest without end.
    let turns = "{% for m in messages %}{{ m.content }}e{% endfor %}";
    for much in [
        "{{ [1]|tojson(indent=9223372036854775807) }}",
        "{% set ns = namespace(x=1) %}{% for i in range(2000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x|tojson }}",
        "{{ [1]|batch(9223372036854775807) }}",
        "{{ [1]|slice(9223372036854775807)|list }}",
        "{{ 'a'|indent(9223372036854775807) }}",
    ] {
        let error = ChatTemplate::new(&format!("{turns}{much}"), None, None).err();
        assert_eq!(error.map(|error| error.kind()), Some(Kind::Model), "{much}");
    }
    let usual = "{{ [[1], {'a': [2]}]|tojson(indent=4) }}{{ [1, 2, 3]|batch(2)|list|length }}";
    assert!(ChatTemplate::new(&format!("{turns}{usual}"), None, None).is_ok());
    // A percent sign in braces, and a brace at the very end, are text.
    assert!(
        ChatTemplate::new("{%}{% for m in messages %}{{ m.content }}e{% endfor %}{%", None, None).is_err()
    );
}
