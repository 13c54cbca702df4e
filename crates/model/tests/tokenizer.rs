//! Token ids against llama.cpp (GGUF files) and the `tokenizers` library (`tokenizer.json`), on excerpts of public sets
//! and on strings meant to break a tokenizer. `reference/token_ids.py` made the numbers.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests may panic, and say what was left out"
)]

mod common;

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::Path;
use underdog_model::gguf::Gguf;
use underdog_model::tokenizer::Tokenizer;
use underdog_testkit::{golden, read_json};

/// Count and digest, as `digest` in the reference script.
fn digest(ids: &[u32]) -> Value {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    let hex: String = Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    serde_json::json!([ids.len(), hex])
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn gguf(path: &Path) -> Tokenizer {
    Tokenizer::from_gguf(&Gguf::open(path).unwrap()).unwrap()
}

/// Checks `tokenizer` against the golden `name`, and that what was encoded is decoded again where
/// `comes_back` says so of a text.
fn check(name: &str, tokenizer: &Tokenizer, comes_back: impl Fn(&str) -> bool) {
    let expected = read_json(&format!("tokens/{name}.json"));
    let mut faults = Vec::new();
    let rows = lines(&golden("tokens/hostile.jsonl"));
    assert!(rows.len() > 40);
    for row in &rows {
        let case = row["name"].as_str().unwrap();
        let text = row["text"].as_str().unwrap().repeat(row["times"].as_u64().unwrap() as usize);
        let ids = tokenizer.encode(&text);
        let want = &expected["hostile"][case];
        let is_digest = want.get(1).is_some_and(Value::is_string);
        let found = if is_digest { digest(&ids) } else { serde_json::json!(ids) };
        if found != *want {
            faults.push(format!("{case}: expected {want}, found {found}"));
        }
        let has_control = ids.iter().any(|&id| tokenizer.decode(&[id]).is_empty());
        let decoded = tokenizer.decode(&ids);
        if comes_back(&text) && !has_control && decoded != text {
            faults.push(format!("{case}: decoded to {:?}", decoded.chars().take(80).collect::<String>()));
        }
    }
    let texts = lines(&golden("tokens/texts.jsonl"));
    let wanted = expected["texts"].as_array().unwrap();
    assert!(texts.len() > 300 && wanted.len() == texts.len());
    for (row, want) in texts.iter().zip(wanted) {
        let text = row["text"].as_str().unwrap();
        let ids = tokenizer.encode(text);
        if digest(&ids) != *want {
            faults.push(format!("{} {}: expected {want}, found {}", row["set"], row["id"], digest(&ids)));
        }
        if comes_back(text) && tokenizer.decode(&ids) != text {
            faults.push(format!("{} {}: decoded to another text", row["set"], row["id"]));
        }
    }
    assert!(faults.is_empty(), "{name}: {} differ\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn ids_of_smollm2_equal_llama_cpp() {
    let Some(path) = common::weights("smollm2-135m-instruct") else { return };
    let tokenizer = gguf(&path);
    // Eleven control characters, U+0004 among them, have no token in this vocabulary and are lost.
    check("smollm2-135m-instruct", &tokenizer, |text| !text.contains('\u{4}'));
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.adds_bos()), (Some(1), Some(2), false));
    assert_eq!(tokenizer.vocab_size(), 49152);
    assert_eq!(tokenizer.token_id("<|im_end|>"), Some(2));
    assert_eq!(tokenizer.decode(&tokenizer.encode("<|im_start|>user\nhi 42<|im_end|>\n")), "user\nhi 42\n");
    assert_eq!(tokenizer.decode_piece(2), b"<|im_end|>");
    assert_eq!(tokenizer.decode_piece(49152), b"");
}

#[test]
fn ids_of_gemma_equal_llama_cpp() {
    let Some(path) = common::weights("gemma-3-270m") else { return };
    let tokenizer = gguf(&path);
    // The mark that stands for a space in the vocabulary is a space once it was encoded.
    check("gemma-3-270m", &tokenizer, |text| !text.contains('\u{2581}'));
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.adds_bos()), (Some(2), Some(1), true));
    assert_eq!(tokenizer.vocab_size(), 262144);
    assert_eq!(
        tokenizer.decode(&tokenizer.encode("<start_of_turn>user\nhi <b>42</b><end_of_turn>")),
        "user\nhi <b>42</b>"
    );
}

#[test]
fn ids_with_every_pre_tokenizer_equal_llama_cpp() {
    for pre in ["smollm", "gpt-2", "default", "llama-bpe", "qwen2"] {
        let name = format!("tiny-{pre}");
        let tokenizer = gguf(&golden(&format!("tokens/{name}.gguf")));
        check(&name, &tokenizer, |_| true);
        assert_eq!(tokenizer.adds_bos(), pre == "llama-bpe", "{pre}");
    }
}

#[test]
fn ids_by_score_with_a_space_before_the_text_equal_llama_cpp() {
    let tokenizer = gguf(&golden("tokens/tiny-scored.gguf"));
    check("tiny-scored", &tokenizer, |_| false);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.adds_bos()), (Some(1), Some(2), true));
    assert_eq!(tokenizer.decode(&tokenizer.encode("a café,\n 漢 x")), "a café,\n 漢 x");
}

#[test]
fn ids_of_a_tokenizer_json_equal_the_library() {
    let tokenizer = Tokenizer::from_directory(&golden("tokens/tiny")).unwrap();
    // Its normalizer composes letters, so only composed text comes back.
    check("tiny", &tokenizer, |text| text.is_ascii());
    let end = tokenizer.token_id("<|im_end|>");
    assert!(end.is_some());
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.adds_bos()), (None, end, false));
    let text = "héllo <tool> 漢\u{1f600}\n\n\n 12";
    let ids = tokenizer.encode(text);
    assert_eq!(tokenizer.decode(&ids), text);
    let pieces: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.decode_piece(id)).collect();
    assert_eq!(pieces, text.as_bytes());
    assert_eq!(tokenizer.decode(&tokenizer.encode("<|im_start|>a<|im_end|>")), "a");
    assert_eq!(tokenizer.vocab_size(), 1003);
}

#[test]
fn threads_share_a_tokenizer() {
    fn shared<T: Send + Sync>(_: &T) {}
    let tokenizer = gguf(&golden("tokens/tiny-smollm.gguf"));
    shared(&tokenizer);
    let expected = tokenizer.encode("the quick brown fox 123");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                (0..100).for_each(|_| assert_eq!(tokenizer.encode("the quick brown fox 123"), expected))
            });
        }
    });
}

#[test]
fn a_broken_tokenizer_json_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let error = Tokenizer::from_directory(folder.path()).err().unwrap();
    assert!(error.facts().place.as_deref().unwrap().ends_with("tokenizer.json"), "{error}");
    let text = std::fs::read_to_string(golden("tokens/tiny/tokenizer.json")).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), &text[..text.len() / 2]).unwrap();
    assert!(Tokenizer::from_directory(folder.path()).is_err());
    std::fs::write(folder.path().join("tokenizer.json"), &text).unwrap();
    assert!(Tokenizer::from_directory(folder.path()).is_ok());
    std::fs::write(folder.path().join("tokenizer_config.json"), "[]").unwrap();
    let error = Tokenizer::from_directory(folder.path()).err().unwrap();
    assert!(error.facts().place.as_deref().unwrap().ends_with("tokenizer_config.json"), "{error}");
}

#[test]
fn an_unknown_token_outside_of_the_vocabulary_is_refused() {
    let key = b"tokenizer.ggml.unknown_token_id";
    let mut bytes = std::fs::read(golden("tokens/tiny-scored.gguf")).unwrap();
    // One more entry in front of the others: key, type of a u32, number.
    bytes[16] += 1;
    let entry =
        [&(key.len() as u64).to_le_bytes()[..], key, &4u32.to_le_bytes(), &4_000_000_000u32.to_le_bytes()];
    bytes.splice(24..24, entry.concat());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.gguf");
    std::fs::write(&path, bytes).unwrap();
    let error = Tokenizer::from_gguf(&Gguf::open(&path).unwrap()).err().unwrap().to_string();
    assert!(error.contains("outside the vocabulary") && error.contains("4000000000"), "{error}");
}

/// Parts that the library takes, and then panics on, asks for all memory on, or draws lots with.
#[test]
fn parts_of_a_tokenizer_json_that_would_fail_later_are_refused() {
    let text = std::fs::read_to_string(golden("tokens/tiny/tokenizer.json")).unwrap();
    let whole: Value = serde_json::from_str(&text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut json = whole.clone();
        change(&mut json);
        std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
        Tokenizer::from_directory(folder.path()).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let part = |part: Value| move |json: &mut Value| json["normalizer"] = part.clone();
    let precompiled = |map: &str| serde_json::json!({"type": "Precompiled", "precompiled_charsmap": map});
    let nothing = serde_json::json!({"type": "Replace", "pattern": {"String": ""}, "content": "x"});
    assert!(refused(&part(precompiled("AAAA"))).contains("`Precompiled`"));
    assert!(refused(&part(precompiled("/////wAAAAA="))).contains("`Precompiled`"));
    assert!(refused(&part(nothing.clone())).contains("`Replace`"));
    let within = serde_json::json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, nothing]});
    assert!(refused(&part(within)).contains("`Replace`"));
    let split = serde_json::json!({"type": "FixedLength", "length": 0});
    assert!(refused(&|json| json["pre_tokenizer"] = split.clone()).contains("`FixedLength`"));
    assert!(refused(&|json| json["model"]["continuing_subword_prefix"] = "####".into()).contains("a prefix"));
    assert!(refused(&|json| json["model"]["dropout"] = 0.5.into()).contains("at random"));
    assert_eq!(refused(&|json| json["model"]["dropout"] = 0.0.into()), "");
}

/// All dev rows of the built-in tasks, with the tokenizers of both real models.
#[test]
fn the_dev_rows_of_the_built_in_tasks() {
    let expected = read_json("tokens/tasks.json");
    for name in ["smollm2-135m-instruct", "gemma-3-270m"] {
        let Some(path) = common::weights(name) else { continue };
        let tokenizer = gguf(&path);
        for task in ["banking77", "invoices"] {
            let rows = lines(
                &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tasks").join(task).join("dev.jsonl"),
            );
            let wanted = expected[name][task].as_array().unwrap();
            assert!(rows.len() > 50 && rows.len() == wanted.len(), "{name} {task}: {} rows", rows.len());
            for (row, want) in rows.iter().zip(wanted) {
                assert_eq!(
                    digest(&tokenizer.encode(row["input"].as_str().unwrap())),
                    *want,
                    "{name} {}",
                    row["id"]
                );
            }
        }
    }
}

/// All dev rows of the public sets: UNDERDOG_DATA is their folder, UNDERDOG_DATA_IDS what
/// `reference/token_ids.py WEIGHTS --all DATA OUT` wrote. Neither is part of the repository.
#[test]
fn all_dev_rows() {
    let (Some(data), Some(ids)) = (std::env::var_os("UNDERDOG_DATA"), std::env::var_os("UNDERDOG_DATA_IDS"))
    else {
        println!("left out: UNDERDOG_DATA and UNDERDOG_DATA_IDS are not set");
        return;
    };
    let mut rows = std::collections::HashMap::new();
    let mut tokenizers = std::collections::HashMap::new();
    let (mut checked, mut faults) = (0, Vec::new());
    for line in lines(Path::new(&ids)) {
        let text = |index: usize| line[index].as_str().unwrap().to_string();
        let (name, set, field) = (text(0), text(1), text(3));
        let tokenizer =
            tokenizers.entry(name.clone()).or_insert_with(|| gguf(&common::weights(&name).unwrap()));
        let set_rows =
            rows.entry(set.clone()).or_insert_with(|| lines(&Path::new(&data).join(&set).join("dev.jsonl")));
        let row = &set_rows[line[2].as_u64().unwrap() as usize];
        let found = digest(&tokenizer.encode(row[&field].as_str().unwrap()));
        checked += 1;
        if found != serde_json::json!([line[4], line[5]]) {
            faults.push(format!("{name} {set} {} {field}", row["id"]));
        }
    }
    println!("{checked} texts of {} sets, {} differ", rows.len(), faults.len());
    assert!(checked > 1000, "only {checked} texts");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
