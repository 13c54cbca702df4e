"""Token ids by llama.cpp and by the `tokenizers` library.

    python reference/token_ids.py WEIGHTS            # writes crates/testkit/goldens/tokens from its texts.jsonl
    python reference/token_ids.py WEIGHTS --texts DATA   # picks texts.jsonl anew first
    python reference/token_ids.py WEIGHTS --tasks    # only the rows of the built-in tasks
    python reference/token_ids.py WEIGHTS --all DATA OUT # ids of all dev rows, for the test `all_dev_rows`

WEIGHTS is the model cache (`<name>/<file>`), DATA the folder of the public task sets. Needs a large
stack (`ulimit -s unlimited`): llama.cpp's `default` pre-tokenizer recurses once per character. Takes a few
minutes. (The file is not called tokenize.py because Python has a module of that name.)
"""

import argparse
import hashlib
import json
import struct
from pathlib import Path

import gguf
import llama_cpp
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

OUT = Path(__file__).resolve().parent.parent / "crates/testkit/goldens/tokens"
TASKS = Path(__file__).resolve().parent.parent / "tasks"
WEIGHTS = {
    "smollm2-135m-instruct": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "gemma-3-270m": "gemma-3-270m-q4_k_m.gguf",
}
PRES = ["smollm", "gpt-2", "default", "llama-bpe", "qwen2"]
FIELDS = ["input", "prompt", "query", "chosen", "rejected", "answer", "expected"]
ROWS, CHARACTERS = 12, 1500
# The source of this set has no licence file, so none of its text is repeated here.
NOT_COPIED = {"radiology_icd9"}
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
USER_DEFINED = ["<tool>", "   ", "\n\n\n"]


def hostile():
    """(name, text, times): the text repeated."""
    every = "".join(chr(c) for c in range(1, 0x250))
    scripts = "0123 ٠١٢٣ ۴۵۶ ०१२ ๓๔๕ ᠐᠑ ０１２ 𝟘𝟙𝟚 Ⅷ ½ ¾ ² ₃ 〇 一二三 ③ 𒐀 1234567890 1,234.56 a1b22c333"
    mixed = "Café 👩‍👩‍👧‍👦 naïve\t\t x\r\n\r\n  y 12345 'LL don't 漢字かな交じり文 שלום مرحبا <b>ok</b> \u0000\ufffd e\u0301 …—“q”\n"
    rows = [
        ("empty", ""), ("space", " "), ("two spaces", "  "), ("newline", "\n"), ("nul", "\0"), ("nuls", "a\0b\0\0c \0 d"),
        ("emoji", "😀😃😄 👍🏽👍🏿 🇩🇪🇫🇷 1️⃣ ❤️‍🔥"), ("zwj", "👩‍👩‍👧‍👦👩🏽‍🚀 a\u200db\u200c \u200b x"),
        ("crlf", "a\r\nb\r\n\r\nc\rd\n\re"), ("tabs", "\ta\t\tb \t c\t \td\t\t\t"),
        ("spaces", " a  b   c    d     e      f       g        h  "), ("space runs", "x" + " " * 70 + "y" + " " * 33),
        ("newline runs", "x" + "\n" * 70 + "y" + "\n" * 33 + " \n \n\n"), ("mixed space", " \n \t\r\n  \n\n\t\t x \u00a0\u2003y\u3000z\u2028w\u0085v"),
        ("combining", "e\u0301 a\u0308\u0304 n\u0303\u0323 Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A"), ("nfc and nfd", "é e\u0301 ſ K Å ﬁ ǆ"),
        ("cjk", "漢字とかなカナ 한국어 中文，标点。「引号」"), ("rtl", "שלום עולם مرحبا بالعالم \u202eabc\u202c ‏x"),
        ("indic", "नमस्ते दुनिया வணக்கம் ไทยภาษา မြန်မာ ខ្មែរ"), ("lone surrogates", "a\ufffdb\ufffd\ufffd c \ufffd"),
        ("scripts of digits", scripts), ("digits", "0 00 000 0000 12345678901234567890 3.14159 1e-5 0x1F"),
        ("contractions", "I'm I'M don't DON'T we'Ve they'LL 'tis 's'S 'ſ it’s a'b''c ''d 'd"),
        ("punctuation", "!!! ??? ... --- ==== #$%&*()_+{}|:\"<>?~`[]\\;',./ $5 <= >= ^^ a_b __init__"),
        ("controls", "<|im_start|>user\nhi<|im_end|>\n<|endoftext|><|im_start|"),
        ("gemma controls", "<bos><start_of_turn>user\nhi<end_of_turn>\n<eos><unused7><start_of_image>[multimodal]<mask"),
        ("html", "<table><tr><td>x</td></tr></table><h1><blockquote> <b>bold</b></i><bbox> < b> <<b>>"),
        ("user defined", "<tool> x   y    z\n\n\n\n<tool><tool"), ("bytes as text", "<0x0A> <0xE2><0x96><0x81> ▁▁ ▁a Ġ Ċ ĠĠa"),
        ("every letter", every), ("private use", "\ue000\uf8ff \U000f0000 \U0010ffff \U0001f9ff \U00011111"),
        ("code", "fn main() {\n    println!(\"{}\", 1+1);\n\t// done\n}\n"), ("url", "https://example.com/a?b=c&d=%20#e user@example.com"),
        ("json", "{\"a\": [1, 2.5, null], \"b\": {\"c\": \"\\u00e9\\n\"}}"),
        ("bom", "\ufeffabc \ufeff"), ("math", "𝓗𝓮𝓵𝓵𝓸 ∑∫√ ≤≥≠ αβγ x² → ⇒"),
    ]
    rows = [(name, text, 1) for name, text in rows]
    rows += [("100k a", "a", 100_000), ("100k spaces", " ", 100_000), ("100k newlines", "\n", 100_000), ("100k digits", "7", 100_000),
             ("100k emoji", "👩‍👩‍👧‍👦", 14_286), ("100k words", "the quick brown fox ", 5_000), ("100k spaces and a word", "  " * 5 + "x", 9_091),
             ("100k crlf", " \r\n", 33_333), ("100k tags", "<td>", 25_000), ("100k mixed", mixed, 100_000 // len(mixed) + 1)]
    return rows


def digest(ids):
    """Count, and the first 16 hex digits of the sha256 of the ids as little-endian u32."""
    return [len(ids), hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()[:16]]


def json_lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows))


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def pick_texts(data):
    rows = []
    for folder in sorted(path for path in Path(data).iterdir() if path.is_dir() and path.name not in NOT_COPIED):
        for row in read_lines(folder / "dev.jsonl")[:ROWS]:
            text = next(row[field] for field in FIELDS if field in row)
            rows.append({"set": folder.name, "id": row["id"], "text": text[:CHARACTERS]})
    json_lines(OUT / "texts.jsonl", rows)


def train_tiny(texts):
    """A byte-level BPE of 1000 tokens with Qwen 2's pieces; its tokens also make the tiny GGUF files."""
    tiny = Tokenizer(models.BPE())
    tiny.normalizer = normalizers.NFC()
    tiny.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tiny.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=1000, special_tokens=CONTROL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tiny.train_from_iterator(texts, trainer)
    tiny.add_tokens([AddedToken(text, normalized=False) for text in USER_DEFINED])
    folder = OUT / "tiny"
    folder.mkdir(parents=True, exist_ok=True)
    # One line: the pretty form would be three times as long.
    tiny.save(str(folder / "tokenizer.json"), pretty=False)
    config = {"bos_token": None, "eos_token": {"content": "<|im_end|>", "special": True}, "add_bos_token": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config) + "\n")
    return tiny


def write_gguf(path, model, tokens, types, extra):
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    extra(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def tiny_ggufs(tiny):
    """One vocabulary with every pre-tokenizer, and one scored vocabulary with the space prefix."""
    model = json.loads(tiny.to_str())["model"]
    size = tiny.get_vocab_size(True)
    tokens = [tiny.id_to_token(index) for index in range(size)]
    kinds = [3 if token in CONTROL else 4 if token in USER_DEFINED else 1 for token in tokens]
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    names = []
    for pre in PRES:
        def extra(writer, pre=pre):
            writer.add_tokenizer_pre(pre)
            writer.add_token_merges(merges)
            writer.add_eos_token_id(tokens.index("<|im_end|>"))
            writer.add_bos_token_id(tokens.index("<|im_start|>"))
        names.append(f"tiny-{pre}")
        write_gguf(OUT / f"{names[-1]}.gguf", "gpt2", tokens, kinds, extra)

    # Scored tokens: the same texts with U+2581 for a space, in the order of their ids.
    letters = {letter: byte for byte, letter in byte_letters().items()}
    words = []
    for token, kind in zip(tokens, kinds):
        if kind == 1:
            raw = bytes(letters[letter] for letter in token)
            if b"\0" in raw:
                continue  # llama.cpp reads the texts of tokens as C strings
            try:
                words.append(raw.decode().replace(" ", "▁"))
            except UnicodeDecodeError:
                pass  # half a character cannot be a scored token
    words = [word for word in words if word != "\n\n"]  # user-defined below; llama.cpp wants every text once
    scored = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + words + ["<tool>", "\n\n"]
    types = [2, 3, 3] + [6] * 256 + [1] * len(words) + [4, 4]
    scores = [0.0] * 259 + [-float(index // 3) for index in range(len(words))] + [-1000.0] * 2

    def extra(writer):
        writer.add_token_scores(scores)
    write_gguf(OUT / "tiny-scored.gguf", "llama", scored, types, extra)
    return names + ["tiny-scored"]


def byte_letters():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(rest)}


def llama_encoder(path):
    llama = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    return lambda text: llama.tokenize(text.encode(), add_bos=False, special=True) if text else []


def goldens(name, by, encode, texts, odd):
    short = [[row["name"], ids if len(ids) <= 150 else digest(ids)] for row in odd
             for ids in [encode(row["text"] * row["times"])]]
    value = {"version": 1, "by": by, "hostile": dict(short), "texts": [digest(encode(row["text"])) for row in texts]}
    (OUT / f"{name}.json").write_text(json.dumps(value, separators=(",", ":")).replace("],", "],\n") + "\n")


def task_goldens(real):
    """Digests of the inputs of all dev rows of the built-in tasks, in their order."""
    value = {"version": 1, "by": f"llama-cpp-python {llama_cpp.__version__}"}
    for name, path in real.items():
        encode = llama_encoder(path)
        value[name] = {task: [digest(encode(row["input"])) for row in read_lines(TASKS / task / "dev.jsonl")]
                       for task in ("banking77", "invoices")}
    (OUT / "tasks.json").write_text(json.dumps(value, separators=(",", ":")).replace("],", "],\n") + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--all", nargs=2, type=Path)
    parser.add_argument("--tasks", action="store_true")
    args = parser.parse_args()
    real = {name: args.weights / name / file for name, file in WEIGHTS.items()}
    if args.all:
        data, out = args.all
        with out.open("w") as sink:
            for name, path in real.items():
                encode = llama_encoder(path)
                for folder in sorted(item for item in data.iterdir() if item.is_dir()):
                    for index, row in enumerate(read_lines(folder / "dev.jsonl")):
                        for field in FIELDS:
                            if isinstance(row.get(field), str):
                                sink.write(json.dumps([name, folder.name, index, field, *digest(encode(row[field]))]) + "\n")
        return
    OUT.mkdir(parents=True, exist_ok=True)
    task_goldens(real)
    if args.tasks:
        return
    if args.texts:
        pick_texts(args.texts)
    texts = read_lines(OUT / "texts.jsonl")
    odd = [{"name": name, "text": text, "times": times} for name, text, times in hostile()]
    json_lines(OUT / "hostile.jsonl", odd)
    tiny = train_tiny([row["text"] for row in texts])
    by = f"llama-cpp-python {llama_cpp.__version__}"
    for name, path in [*real.items(), *((name, OUT / f"{name}.gguf") for name in tiny_ggufs(tiny))]:
        goldens(name, by, llama_encoder(path), texts, odd)
    encode = lambda text: tiny.encode(text, add_special_tokens=False).ids
    goldens("tiny", f"tokenizers {tokenizers.__version__}", encode, texts, odd)


if __name__ == "__main__":
    main()
