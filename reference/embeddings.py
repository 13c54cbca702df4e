"""Sentence embeddings by sentence-transformers: a tiny random encoder, and all-MiniLM-L6-v2; and the similarity of answers.

    python reference/embeddings.py tiny --goldens crates/testkit/goldens
    python reference/embeddings.py minilm --goldens crates/testkit/goldens --model WEIGHTS/all-minilm-l6-v2
    python reference/embeddings.py similarity --goldens crates/testkit/goldens --model WEIGHTS/all-minilm-l6-v2

Made with sentence-transformers 6.2.0. `tiny` writes the model directory that it measures. `similarity` takes its texts, 200
rows of data and some hostile ones, from what scorers_goldens.py wrote, and gives the cosines by both models.
"""

import argparse
import json
import os
import shutil

from common import VERSION, hashed_values, write_json

import numpy as np
import sentence_transformers
import torch
import transformers
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer, util

TEXTS = [
    "Where is my refund? It appears to be missing.",
    "",
    "a",
    "  What is the EXCHANGE rate,\n\tplease?  ",
    "Ünïcödé façade — 東京タワー 😀 naïve",
    "[SEP] written in a text, and [MASK] too",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "The invoice of 20/03/2018 over RM 102.00 was paid by card 4111-1111.",
    "Card arrival. " * 9,
    "word " * 253,
    "word " * 254,
    "word " * 255,
    " ".join(f"number {i} of many" for i in range(200)),
    "x" * 3000,
]


def tiny(goldens):
    """A BERT of 2 layers with hashed weights; a WordPiece vocabulary of letters and some words."""
    folder = os.path.join(goldens, "models", "tiny-bert")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(os.path.join(folder, "1_Pooling"))
    letters = [chr(c) for c in range(33, 127) if not chr(c).isupper()] + list("éüï—東京")
    words = ["the", "is", "my", "card", "refund", "where", "number", "of", "word", "many", "##ing", "##ed", "##s"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + letters + ["##" + x for x in letters] + words
    ids = {word: i for i, word in enumerate(vocabulary)}
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": ids[s], "special": True, "content": s, "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False} for s in special],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
                           "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                                      {"Sequence": {"id": "A", "type_id": 0}},
                                      {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
                           "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                           "special_tokens": {s: {"id": s, "ids": [ids[s]], "tokens": [s]} for s in ("[CLS]", "[SEP]")}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": ids},
    }
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
        max_position_embeddings=48, type_vocab_size=2, hidden_act="gelu", layer_norm_eps=1e-12)
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    state = model.state_dict()
    for index, name in enumerate(sorted(state)):
        if name.endswith("position_ids"):
            continue
        scale = 0.6 if state[name].dim() > 1 else 0.4
        value = torch.from_numpy(hashed_values(41, index, tuple(state[name].shape), scale))
        state[name] = value + 1 if "LayerNorm.weight" in name else value
    model.load_state_dict(state)
    kept = {k: v.contiguous() for k, v in state.items() if not k.endswith("position_ids")}
    # As many published files have it: numbers that are no weights.
    kept["embeddings.position_ids"] = torch.arange(48)[None]
    save_file(kept, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    files = {
        "config.json": json.loads(config.to_json_string(use_diff=False)) | {"architectures": ["BertModel"]},
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "unk_token": "[UNK]",
                                  "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]",
                                  "mask_token": "[MASK]", "model_max_length": 48},
        "sentence_bert_config.json": {"max_seq_length": 32, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": 24, "pooling_mode_cls_token": False,
                                  "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False,
                                  "pooling_mode_mean_sqrt_len_tokens": False},
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}],
    }
    for name, value in files.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8", newline="\n") as file:
            json.dump(value, file, indent=None if name == "tokenizer.json" else 1, sort_keys=name == "config.json")
            file.write("\n")
    return folder


def measure(folder, path, digits):
    model = SentenceTransformer(folder, device="cpu")
    model.eval()
    with torch.no_grad():
        each = np.stack([model.encode([text], convert_to_numpy=True)[0] for text in TEXTS])
        padded = model.encode(TEXTS, batch_size=len(TEXTS), convert_to_numpy=True)
    # Padding must play no part, and every vector has length 1.
    assert np.abs(each - padded).max() < 2e-6, np.abs(each - padded).max()
    assert np.abs(np.linalg.norm(each, axis=1) - 1).max() < 1e-6
    ids = [model.tokenizer(text, truncation=True, max_length=model.max_seq_length)["input_ids"] for text in TEXTS]
    assert len(set(map(len, ids))) > 5 and max(map(len, ids)) == model.max_seq_length, list(map(len, ids))
    write_json(path, {
        "version": VERSION,
        "made_with": {"sentence-transformers": sentence_transformers.__version__,
                      "transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]},
        "max_length": model.max_seq_length,
        "texts": TEXTS,
        "tokens": [len(x) for x in ids],
        "embeddings": each.astype(np.float32),
    }, digits)


def cosines(folder, rows):
    """A row's largest cosine between its answer and any of its references; texts without white space at the ends."""
    model = SentenceTransformer(folder, device="cpu")
    model.eval()
    found = []
    for row in rows:
        vectors = model.encode([row["answer"].strip()] + [text.strip() for text in row["references"]], convert_to_tensor=True)
        found.append(float(util.cos_sim(vectors[:1].double(), vectors[1:].double()).max()))
    return np.array(found)


def similarity(goldens, minilm):
    texts = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "crates", "eval", "tests", "data", "scorers.json")
    with open(texts, encoding="utf-8") as file:
        rows = json.load(file)["texts"]
    write_json(os.path.join(goldens, "embeddings", "similarity.json"), {
        "version": VERSION,
        "made_with": {"sentence-transformers": sentence_transformers.__version__,
                      "transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]},
        "rows": len(rows),
        "tiny-bert": cosines(os.path.join(goldens, "models", "tiny-bert"), rows),
        "all-minilm-l6-v2": cosines(minilm, rows),
    }, 9)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("which", choices=["tiny", "minilm", "similarity"])
    parser.add_argument("--goldens", required=True)
    parser.add_argument("--model")
    options = parser.parse_args()
    if options.which == "similarity":
        return similarity(options.goldens, options.model)
    folder = tiny(options.goldens) if options.which == "tiny" else options.model
    name = "tiny-bert" if options.which == "tiny" else "all-minilm-l6-v2"
    measure(folder, os.path.join(options.goldens, "embeddings", f"{name}.json"), 9)


if __name__ == "__main__":
    main()
