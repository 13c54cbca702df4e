//! `export`: what the program says of the file that it wrote, in words and as one object, and when it writes none.

use super::home::Home;
use serde_json::json;
use underdog_testkit::{golden, hashed_values};

/// A Llama of two layers as a GGUF file: C 64, ffn 256, H 4, G 2, tied, in f32, with the tokens of the goldens. Rows
/// of the down projections alone are whole blocks of 256.
fn model() -> Vec<u8> {
    let tokenizer = std::fs::read(golden("tokens/tiny-smollm.gguf")).unwrap();
    let sizes = [
        ("block_count", 2u32),
        ("context_length", 512),
        ("embedding_length", 64),
        ("feed_forward_length", 256),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
    ];
    let template =
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}";
    let mut tensors = vec![("token_embd".to_owned(), vec![1003, 64]), ("output_norm".to_owned(), vec![64])];
    for layer in 0..2 {
        let shapes = [
            ("attn_norm", vec![64]),
            ("attn_q", vec![64, 64]),
            ("attn_k", vec![32, 64]),
            ("attn_v", vec![32, 64]),
            ("attn_output", vec![64, 64]),
            ("ffn_norm", vec![64]),
            ("ffn_gate", vec![256, 64]),
            ("ffn_up", vec![256, 64]),
            ("ffn_down", vec![64, 256]),
        ];
        tensors.extend(shapes.map(|(name, shape)| (format!("blk.{layer}.{name}"), shape)));
    }
    // The golden holds no tensors: its eight entries go to the end of the file.
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    };
    assert_eq!(tokenizer[8..24], [[0u64, 8].map(u64::to_le_bytes)].as_flattened().concat());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((8 + sizes.len() as u64 + 2).to_le_bytes());
    out.extend(&tokenizer[24..]);
    for (name, size) in sizes {
        text(&mut out, &format!("llama.{name}"));
        out.extend([4u32, size].map(u32::to_le_bytes).concat());
    }
    text(&mut out, "llama.attention.layer_norm_rms_epsilon");
    out.extend([6u32.to_le_bytes(), 1e-5f32.to_le_bytes()].concat());
    text(&mut out, "tokenizer.chat_template");
    out.extend(8u32.to_le_bytes());
    text(&mut out, template);
    let mut data = Vec::new();
    for (i, (name, shape)) in tensors.iter().enumerate() {
        text(&mut out, &format!("{name}.weight"));
        out.extend((shape.len() as u32).to_le_bytes());
        shape.iter().rev().for_each(|&axis: &u64| out.extend(axis.to_le_bytes()));
        out.extend(0u32.to_le_bytes());
        out.extend((data.len() as u64).to_le_bytes());
        let scale = if shape.len() == 1 { 0.0 } else { 0.4 };
        let values = hashed_values(31, i as u64, shape.iter().product::<u64>() as usize, scale);
        values.iter().for_each(|v| data.extend((v + if shape.len() == 1 { 1.0 } else { 0.0 }).to_le_bytes()));
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(data);
    out
}

#[test]
fn export_says_which_matrices_fell_back() {
    let home = Home::new();
    home.write("base.gguf", model());
    let done = home.run("export base.gguf --out x.gguf --quantize q4_k_m");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    // Layer 1 is of the last eighth: its values and down projection are wanted in six bits, as the embedding is.
    for words in [
        "x.gguf (",
        "5 F32, 1 Q4_K, 11 Q5_0, 1 Q6_K, 2 Q8_0",
        "fallbacks  11 Q4_K → Q5_0, 2 Q6_K → Q8_0 (rows are not whole blocks of 256)",
        "parity     over ",
    ] {
        assert!(done.stdout.contains(words), "`{words}` is not in:\n{}", done.stdout);
    }
    let plain = home.run("export base.gguf --out y.gguf --quantize q8_0");
    assert!(plain.code == Some(0) && !plain.stdout.contains("fallbacks"), "{}", plain.stdout);
    assert_eq!(home.run("models inspect x.gguf --json").json()["layers"], 2);
}

#[test]
fn export_prints_one_object_and_merges_an_adapter() {
    let home = Home::new();
    home.write("base.gguf", model());
    home.run("train task --model base.gguf --out t --json --set steps=1").json();
    let object = home.run("export base.gguf+t/adapter --out x.gguf --quantize q4_k_m --json").json();
    assert_eq!(
        (&object["model"], &object["file"], &object["quantize"]),
        (&json!("base.gguf+t/adapter"), &json!("x.gguf"), &json!("q4_k_m"))
    );
    assert_eq!(object["fallbacks"], json!({"Q4_K → Q5_0": 11, "Q6_K → Q8_0": 2}));
    assert_eq!(object["types"], json!({"F32": 5, "Q4_K": 1, "Q5_0": 11, "Q6_K": 1, "Q8_0": 2}));
    assert_eq!((&object["merged"], &object["copied"]), (&json!(14), &json!(0)));
    assert_eq!(object["bytes"], home.read("x.gguf").len());
    assert!(object["parity"]["tokens"].as_u64() > Some(0), "{object}");
    let again = home.run("export x.gguf --out y.gguf --quantize q4_k_m --json").json();
    assert_eq!(
        (&again["merged"], &again["copied"]),
        (&json!(0), &json!(15)),
        "blocks are taken over as they are"
    );
    assert_eq!(again["parity"]["same_token"], 1.0);
    assert_eq!((&object["shots"], &again["shots"]), (&json!(0), &json!(0)));
    let origin = home.text("t/adapter/underdog.json").replacen('{', "{\n  \"shots\": 3,", 1);
    home.write("t/adapter/underdog.json", origin);
    let merged = home.run("export base.gguf+t/adapter --out z.gguf --json").json();
    let from = home.run("export z.gguf --out zz.gguf --json").json();
    assert_eq!((&merged["shots"], &from["shots"]), (&json!(3), &json!(3)), "the file keeps how it is asked");
}

#[test]
fn a_file_that_is_there_is_not_written_over() {
    let home = Home::new();
    home.write("base.gguf", model());
    home.write("x.gguf", "mine");
    home.run("export base.gguf --out x.gguf").fails(2, &["x.gguf", "exists already", "--out"]);
    assert_eq!(home.text("x.gguf"), "mine");
}

#[test]
fn what_cannot_be_exported_leaves_no_file() {
    let home = Home::new();
    home.run("export TINY --out x.gguf").fails(2, &["a base that is a .gguf file"]);
    home.run("export base.gguf --out x.gguf --quantize q2_k").fails(2, &["`q2_k`", "q4_k_m"]);
    assert!(!home.path("x.gguf").exists());
}
