"""Float32 logits of real weights, from the GGUF file itself, by transformers.

    python reference/logits.py smollm2 --gguf SMOLLM2.gguf --goldens crates/testkit/goldens
    python reference/logits.py gemma3 --gguf GEMMA3.gguf --goldens crates/testkit/goldens

Writes logits/smollm2-135m-instruct.json or logits/gemma-3-270m.json. `--llama-cpp` also compares with
llama-cpp-python, an implementation that shares no code with transformers (it rounds activations to
8 bits, so it can only agree to a percent or so) and writes nothing.

Before anything is written: each weight equals what gguf-py makes of the file (q and k rows of the
Llama architecture back in Hugging Face order, Gemma's norms less the 1 that transformers adds again),
the configuration holds what the file says, and the eager and sdpa attentions agree.
"""

import argparse
import os

from common import (VERSION, hashes, log_sum_exp, logits_of, made_with, next_log_prob, relative_error,
                    write_json)

import gguf
import numpy as np
import torch
import transformers

transformers.utils.logging.disable_progress_bar()

VOCABULARY_SAMPLE = 64

CHAT = (
    "<|im_start|>system\nYou read receipts. Answer with one JSON object and nothing else.<|im_end|>\n<|im_start|>user\n"
    "KEDAI MAJU SDN BHD\nNO 12, JALAN TIMUR 3/4, 46000 PETALING JAYA\nINVOICE 00482  DATE 03/05/2018 14:22\n"
    "2 X PAPER A4 80G  24.00\n1 X STAPLER  9.90\nTOTAL RM 33.90\nCASH 50.00  CHANGE 16.10<|im_end|>\n"
    "<|im_start|>assistant\n{\"company\": \"KEDAI MAJU SDN BHD\", ")

# What the file says, in transformers' words; anything else would be a fault of the conversion.
EXPECTED = {
    "smollm2": dict(hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
                    intermediate_size=1536, vocab_size=49152, tie_word_embeddings=True),
    "gemma3": dict(hidden_size=640, num_hidden_layers=18, num_attention_heads=4, num_key_value_heads=1,
                   head_dim=256, intermediate_size=2048, vocab_size=262144, tie_word_embeddings=True,
                   sliding_window=512, query_pre_attn_scalar=256, hidden_activation="gelu_pytorch_tanh",
                   layer_types=(["sliding_attention"] * 5 + ["full_attention"]) * 3,
                   final_logit_softcapping=None, attn_logit_softcapping=None),
}
ROPE = {"smollm2": {"default": 100000.0},
        "gemma3": {"full_attention": 1000000.0, "sliding_attention": 10000.0}}
NAMES = {"smollm2": "smollm2-135m-instruct", "gemma3": "gemma-3-270m"}


def long_text(lines):
    """Prose with numbers that change, so that no stretch of it repeats exactly."""
    things = ["lamp", "kettle", "garden chair", "box of nails", "rain coat", "notebook", "bicycle pump"]
    places = ["the harbour", "a small shop in Ipoh", "the second floor", "Lisbon", "the old station"]
    text = "The inventory was taken in spring. "
    for i in range(lines):
        text += (f"Item {i + 1}: the {things[i % 7]} came from {places[i % 5]}, cost {(i * 37) % 91 + 3}.{i % 10}0 "
                 f"and was {'sold' if i % 3 else 'kept'} on day {(i * 11) % 28 + 1}. ")
    return text


def load(path, attention="eager", **more):
    folder, file = os.path.split(os.path.abspath(path))
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, dtype=torch.float32, attn_implementation=attention, **more).eval()


def cases(which, path):
    """[(name, ids)]: explicit ids, so that a golden does not depend on a tokenizer."""
    folder, file = os.path.split(os.path.abspath(path))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=file)
    bos = [tokenizer.bos_token_id] if which == "gemma3" else []

    def encode(text, most):
        return (bos + tokenizer(text, add_special_tokens=False)["input_ids"])[:most]

    short = encode("The capital of France is Paris, and of Japan it is", 9)
    if which == "smollm2":
        return [("short", short), ("chat", encode(CHAT, 200)), ("long", encode(long_text(40), 700))]
    return [("short", short), ("medium", encode(long_text(12), 300)), ("long", encode(long_text(40), 760))]


def positions_of(length):
    """About twelve places: the ends, the middle, and where a window of 512 starts to cut."""
    wanted = {0, 1, 2, length // 4, length // 2, 3 * length // 4, length - 3, length - 2, length - 1,
              510, 511, 512, 513, 600}
    return sorted(p for p in wanted if 0 <= p < length)


def check_config(which, config):
    for key, want in EXPECTED[which].items():
        found = getattr(config, key)
        assert found == want, f"{key}: {found}, expected {want}"
    for kind, theta in ROPE[which].items():
        rope = config.rope_parameters if kind == "default" else config.rope_parameters[kind]
        assert rope["rope_theta"] == theta and rope["rope_type"] == "default", (kind, rope)


def llama_order(weight, heads):
    """A q or k matrix of a Llama GGUF with its rows in Hugging Face order: within a head the file holds
    rows 0, D/2, 1, D/2 + 1, ... (rope on neighbours), transformers 0, 1, 2, ... (rope on halves)."""
    size = weight.shape[0] // heads
    order = [h * size + 2 * (d % (size // 2)) + d // (size // 2) for h in range(heads) for d in range(size)]
    return weight[order]


def check_weights(which, path, model):
    """Every tensor of the file is in the model, with the numbers that gguf-py gives."""
    state, config = model.state_dict(), model.config
    arch = gguf.MODEL_ARCH.LLAMA if which == "smollm2" else gguf.MODEL_ARCH.GEMMA3
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    by_file = {names.get_name(n.removesuffix(".weight")) + ".weight": n for n in state if n != "lm_head.weight"}
    worst, seen = 0.0, 0
    for tensor in gguf.GGUFReader(path).tensors:
        if tensor.name == "rope_freqs.weight":
            continue
        want = torch.from_numpy(np.array(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
        if which == "smollm2" and tensor.name.endswith(("attn_q.weight", "attn_k.weight")):
            heads = config.num_attention_heads if "attn_q" in tensor.name else config.num_key_value_heads
            want = llama_order(want, heads)
        got = state[by_file[tensor.name]]
        if which == "gemma3" and "norm" in tensor.name:
            got = got + 1.0  # as its RMSNorm does
            worst = max(worst, float((got - want).abs().max() / want.abs().max()))
            assert torch.allclose(got, want, rtol=1e-5, atol=1e-7), tensor.name
        else:
            assert torch.equal(got, want), tensor.name
        seen += 1
    assert seen == len(by_file), (seen, len(by_file))
    print(f"{seen} tensors equal gguf-py's; norms differ by {worst:.1e} at most")


def check_window(path, ids, want):
    """Past 512 positions the window shows: one more or none at all gives other logits, and only there."""
    for window in [513, 4096]:
        config = load_config(path)
        config.sliding_window = window
        other = logits_of(load(path, config=config), ids)
        before = relative_error(other[:512], want[:512])
        after = relative_error(other[512:], want[512:])
        print(f"window {window}: before {before:.1e}, after {after:.1e}")
        assert before < 1e-6 < 1e-4 < after, (window, before, after)


def load_config(path):
    folder, file = os.path.split(os.path.abspath(path))
    return transformers.AutoConfig.from_pretrained(folder, gguf_file=file)


def one_case(model, sdpa, number, name, ids, vocabulary):
    logits = logits_of(model, ids)
    spread = relative_error(logits_of(sdpa, ids), logits)
    print(f"{name}: {len(ids)} tokens, eager against sdpa {spread:.1e}")
    assert spread < 2e-5, spread
    at = sorted({int(h) % vocabulary for h in hashes(7, number, VOCABULARY_SAMPLE).tolist()})
    places = positions_of(len(ids))
    rows = logits[places]
    return {"name": name, "ids": ids, "positions": places, "vocabulary": at, "logits": rows[:, at],
            "logsumexp": [log_sum_exp(r) for r in rows], "argmax": [int(r.argmax()) for r in rows],
            "norm": [float(r.double().norm()) for r in rows],
            "next_log_prob": [next_log_prob(logits, ids, p) for p in places],
            "sdpa_against_eager": spread}


def compare_llama_cpp(path, model, found):
    import llama_cpp.llama
    from llama_cpp import Llama

    # Without the repacked weight buffers: version 0.3.36 crashes with them on processors with AMX.
    defaults = llama_cpp.llama.llama_cpp.llama_model_default_params

    def plain_buffers():
        parameters = defaults()
        parameters.use_extra_bufts = False
        return parameters

    llama_cpp.llama.llama_cpp.llama_model_default_params = plain_buffers
    for name, ids in found:
        peer = Llama(path, n_ctx=1024, logits_all=True, verbose=False, n_threads=1, use_mmap=True)
        peer.eval(ids)
        got = torch.from_numpy(np.array(peer.scores[:len(ids)]))
        want = logits_of(model, ids)
        ours = want.argmax(-1) == got.argmax(-1)
        places = [p for p in positions_of(len(ids))]
        errors = [round(relative_error(got[p], want[p]), 4) for p in places]
        print(f"{name}: llama.cpp {relative_error(got, want):.4f}, same argmax {ours.float().mean():.3f}, "
              f"by position {dict(zip(places, errors))}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("which", choices=sorted(NAMES))
    parser.add_argument("--gguf", required=True)
    parser.add_argument("--goldens", required=True)
    parser.add_argument("--llama-cpp", action="store_true")
    arguments = parser.parse_args()
    which, path = arguments.which, arguments.gguf
    model = load(path)
    check_config(which, model.config)
    check_weights(which, path, model)
    found = cases(which, path)
    if arguments.llama_cpp:
        return compare_llama_cpp(path, model, found)
    if which == "gemma3":
        check_window(path, found[-1][1], logits_of(model, found[-1][1]))
    sdpa = load(path, "sdpa")
    golden = {"version": VERSION, "made_with": made_with(), "model": NAMES[which]}
    golden["cases"] = [one_case(model, sdpa, i, name, ids, model.config.vocab_size)
                       for i, (name, ids) in enumerate(found)]
    write_json(f"{arguments.goldens}/logits/{NAMES[which]}.json", golden)


if __name__ == "__main__":
    main()
