//! What a model is asked: by the task's templates, and with similar rows where its adapter was trained with such.

#[cfg(unix)]
use super::common;
use super::home::Home;
#[cfg(unix)]
use super::home::rows;
#[cfg(unix)]
use serde_json::Value;

#[test]
fn chat_with_a_task_asks_as_training_does() {
    let home = Home::new();
    let plain = home.text("task/task.toml");
    let tokens = |user: &str| {
        home.write("task/task.toml", plain.replace("[data]", &format!("user = \"{user}\"\n[data]")));
        let chat = "chat TINY --task task --max-new-tokens 2 --json";
        home.run_with(chat, "number 3\n")
    };
    let short = tokens("{{ input }}").json()["prompt_tokens"].as_u64();
    let long = tokens("Of all the numbers: {{ input }}").json()["prompt_tokens"].as_u64();
    assert!(long > short, "the user template is used: {long:?} {short:?}");
    tokens("{{ meta.page }}: {{ input }}").fails(2, &["cannot be talked to", "`meta`", "--system"]);
    tokens("{{ input }} {{ id }}").fails(2, &["`id`"]);
}

/// A home in which similar rows can be found; `None` where the encoder's weights are not here.
#[cfg(unix)]
fn with_encoder() -> Option<Home> {
    let encoder = "all-minilm-l6-v2";
    common::weights(encoder)?;
    let home = Home::new();
    std::fs::create_dir(home.path("cache")).unwrap();
    std::os::unix::fs::symlink(common::cache().root().join(encoder), home.path("cache").join(encoder))
        .unwrap();
    Some(home)
}

#[cfg(unix)]
#[test]
fn rows_whose_similar_rows_agree_can_be_left_out_of_training() {
    let Some(home) = with_encoder() else { return };
    // Far from the others and with one answer: the two rows before each of them agree.
    let easy: String =
        ["Where is my card?", "Where is the card?", "Where is my new card?", "Where is card of mine?"]
            .map(|input| format!("{{\"input\": \"{input}\", \"expected\": \"card\"}}\n"))
            .concat();
    home.write("mixed.jsonl", easy.clone() + &rows(0..6));
    let train = "train task --model TINY --set steps=1 --set shots=2 --set rows=disagreeing --data";
    let done = home.run(&format!("{train} mixed.jsonl --out t --json"));
    assert!(done.stderr.contains("6 of 10 rows to learn from"), "{}", done.stderr);
    assert_eq!(done.json()["rows"], 6);
    home.write("easy.jsonl", easy);
    home.run(&format!("{train} easy.jsonl --out u"))
        .fails(2, &["similar rows that agree", "for each of 4 rows"]);
}

#[cfg(unix)]
#[test]
fn an_adapter_is_asked_with_as_many_similar_rows_as_it_was_trained_with() {
    let Some(home) = with_encoder() else { return };
    home.run("train task --model TINY --set steps=1 --set shots=2 --out t --json").json();
    let origin: Value = serde_json::from_slice(&home.read("t/adapter/underdog.json")).unwrap();
    assert_eq!(origin["shots"], 2);
    let candidate = |more: &str| {
        let done = home.run(&format!("eval task --model TINY+t/adapter --limit 2 --json --out {more}"));
        assert_eq!(done.stderr.contains("trained with 2 similar rows"), !more.contains("--shots"), "{more}");
        done.json()["candidate"].as_str().unwrap().rsplit('/').next().unwrap().to_string()
    };
    assert_eq!(candidate("x"), "adapter?shots=2");
    assert_eq!(candidate("y --shots 0"), "adapter?shots=0");
    assert_eq!(candidate("z --shots 1"), "adapter?shots=1");
    assert_eq!(home.run("models inspect TINY+t/adapter --json").json()["adapter_shots"], 2);
    let tokens = |more: &str| {
        let chat = format!("chat TINY+t/adapter --max-new-tokens 1 --json {more}");
        home.run_with(&chat, "number 3").json()["prompt_tokens"].as_u64().unwrap()
    };
    let none = tokens("--task task --shots 0");
    let one = tokens("--task task --shots 1");
    assert!(none < one && one < tokens("--task task"), "rows like the question stand before it");
    home.write("other.jsonl", rows(100..101));
    assert!(
        tokens("--task task --train-data other.jsonl") < tokens("--task task"),
        "there is one row to show"
    );
}
