"""Writes the tiny random models and their logits.

    python reference/tiny_models.py --goldens crates/testkit/goldens

Writes models/{tiny-llama,tiny-qwen3,tiny-gemma3}/ (config.json as transformers 5 saves it,
config-v4.json with the same content in the older spelling, model.safetensors in float32, for
tiny-llama a tokenizer too) and logits/tiny-*.json. Every weight comes from the hash in common.py
(seed per model, tensor index = place in the sorted list of names), norm weights too: a norm that is
skipped, shared or given a wrong +1 shows in the logits.
"""

import argparse
import json
import os

from common import (VERSION, hashed_tokens, hashed_values, log_sum_exp, logits_of, made_with, next_log_prob,
                    relative_error, write_json)

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

PROMPT_LENGTH = 40
transformers.utils.logging.disable_progress_bar()

POSITIONS = [0, 1, 6, 7, 8, 9, 20, 31, 38, 39]

GEMMA_LAYERS = ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"]

MODELS = {
    "tiny-llama": dict(
        seed=101, config_class="LlamaConfig",
        # transformers 5 spells rope as rope_parameters; files of transformers 4 as rope_theta.
        v5=dict(rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
        v4=dict(rope_theta=10000.0, rope_scaling=None),
        common=dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-5, tie_word_embeddings=True,
                    bos_token_id=1, eos_token_id=2, pad_token_id=0)),
    "tiny-qwen3": dict(
        seed=102, config_class="Qwen3Config",
        v5=dict(rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
        v4=dict(rope_theta=1000000.0, rope_scaling=None),
        # hidden / heads = 12, so a head_dim that is guessed rather than read is wrong.
        common=dict(hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-6, tie_word_embeddings=False,
                    use_sliding_window=False, sliding_window=None, bos_token_id=1, eos_token_id=2,
                    pad_token_id=0)),
    "tiny-gemma3": dict(
        seed=103, config_class="Gemma3TextConfig",
        v5=dict(rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}),
        v4=dict(rope_theta=1000000.0, rope_local_base_freq=10000.0, rope_scaling=None,
                sliding_window_pattern=6),
        # query_pre_attn_scalar differs from head_dim: scores are scaled by 1/sqrt(24).
        common=dict(hidden_size=32, intermediate_size=48, num_hidden_layers=7, num_attention_heads=4,
                    num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-6, tie_word_embeddings=True,
                    query_pre_attn_scalar=24, sliding_window=8, layer_types=GEMMA_LAYERS,
                    bos_token_id=1, eos_token_id=2, pad_token_id=0)),
}

# Rope scaling: the weights of tiny-llama under another configuration.
ROPE_VARIANTS = {
    "tiny-llama-rope-linear": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5},
    "tiny-llama-rope-llama3": {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0,
                               "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                               "original_max_position_embeddings": 24},
}

# What the merges of the tiny tokenizer are learnt from; any text would do.
TOKENIZER_TEXT = [
    "Read the receipt and answer with one JSON object: company, date, address, total.",
    "The total is 12.40 and the date is 03/05/2018. The company is in the first line of the receipt.",
    "You are a helpful assistant. Answer with the label only, then stop.",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}")


def make_config(spec, rope="v5"):
    common = dict(spec["common"], vocab_size=320, max_position_embeddings=512, attention_dropout=0.0)
    return getattr(transformers, spec["config_class"])(**common, **spec[rope])


def fill(model, seed):
    """Gives every parameter its hashed values; returns the tensors that the file holds."""
    tensors = {}
    tied = model.config.tie_word_embeddings
    gemma = "gemma" in model.config.model_type
    names = sorted(n for n in model.state_dict() if not (tied and n == "lm_head.weight"))
    for index, name in enumerate(names):
        target = model.state_dict()[name]
        if "norm" in name:
            value = hashed_values(seed, index, target.shape, 1.0) + (0.0 if gemma else 1.0)
            value = value.astype("float32")
        elif "embed_tokens" in name:
            value = hashed_values(seed, index, target.shape, 0.5 if gemma else 0.8)
        else:
            value = hashed_values(seed, index, target.shape, 4.0 / target.shape[1] ** 0.5)
        tensors[name] = torch.from_numpy(value)
        with torch.no_grad():
            target.copy_(tensors[name])
    return tensors


def write_model(root, name, spec):
    folder = os.path.join(root, "models", name)
    os.makedirs(folder, exist_ok=True)
    config = make_config(spec)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    tensors = fill(model, spec["seed"])
    save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    config.architectures = [type(model).__name__]
    config.dtype = "float32"
    config.save_pretrained(folder)
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        saved = json.load(file)
    for newer in ["rope_parameters", "_sliding_window_pattern"]:
        saved.pop(newer, None)
    if "sliding_window_pattern" in spec["v4"]:
        saved.pop("layer_types")  # the first Gemma 3 files hold the pattern only
    saved["torch_dtype"] = saved.pop("dtype", "float32")
    saved.update(spec["v4"], transformers_version="4.55.0")
    with open(os.path.join(folder, "config-v4.json"), "w", encoding="utf-8") as file:
        file.write(json.dumps(saved, indent=2, sort_keys=True) + "\n")


def write_tokenizer(root):
    """A byte-level BPE tokenizer of 320 ids: 4 special tokens, 256 bytes, 60 merges."""
    folder = os.path.join(root, "models", "tiny-llama")
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|unused|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(TOKENIZER_TEXT, trainer)
    assert tokenizer.get_vocab_size() == 320, tokenizer.get_vocab_size()
    tokenizer.save(os.path.join(folder, "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False, "bos_token": "<|im_start|>",
                "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "model_max_length": 512,
                "clean_up_tokenization_spaces": False, "chat_template": CHAT_TEMPLATE}
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as file:
        file.write(json.dumps(settings, indent=2) + "\n")


def load(root, name, attention="eager", config=None):
    return transformers.AutoModelForCausalLM.from_pretrained(
        os.path.join(root, "models", name), dtype=torch.float32, attn_implementation=attention,
        config=config).eval()


def logits_golden(model, name, ids, positions, **more):
    logits = logits_of(model, ids)
    return {"version": VERSION, "made_with": made_with(), "model": name, **more, "ids": ids,
            "positions": positions, "logits": logits[positions],
            "logsumexp": [log_sum_exp(logits[p]) for p in positions],
            "argmax": [int(logits[p].argmax()) for p in positions],
            "next_log_prob": [next_log_prob(logits, ids, p) for p in positions]}


def check(root, name, ids):
    """The saved files, either attention and either spelling of the configuration give one result."""
    eager = load(root, name)
    want = logits_of(eager, ids)
    spread = relative_error(logits_of(load(root, name, "sdpa"), ids), want)
    with open(os.path.join(root, "models", name, "config-v4.json"), encoding="utf-8") as file:
        raw = json.load(file)
    old = type(eager.config)(**{k: v for k, v in raw.items() if k != "model_type"})
    older = relative_error(logits_of(load(root, name, config=old), ids), want)
    assert spread < 1e-5 and older < 1e-6, (name, spread, older)
    print(f"{name}: eager against sdpa {spread:.1e}, config-v4 {older:.1e}, std of logits {want.std():.2f}")
    return eager


def check_sensitive(root, name, ids):
    """Every norm, and every setting a reader could get wrong, shows in the logits."""
    base = logits_of(load(root, name), ids)
    config = load(root, name).config
    changes = {}
    weights = load(root, name)
    for tensor in sorted(weights.state_dict()):
        if "norm" in tensor:
            kept = weights.state_dict()[tensor].clone()
            weights.state_dict()[tensor].fill_(0.0 if "gemma" in name else 1.0)
            changes[tensor] = relative_error(logits_of(weights, ids), base)
            weights.state_dict()[tensor].copy_(kept)
    if "gemma" in name:
        settings = {"sliding_window": 9, "query_pre_attn_scalar": 16, "rms_norm_eps": 0.1,
                    "layer_types": ["sliding_attention"] * 7}
    else:
        settings = {"rms_norm_eps": 0.1, "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0}}
    for key, value in settings.items():
        changed = load(root, name, config=type(config)(**{**config.to_dict(), key: value}))
        changes[key] = relative_error(logits_of(changed, ids), base)
    least = min(changes, key=changes.get)
    assert changes[least] > 1e-3, f"{name}: {least} hardly shows: {changes[least]:.1e}"
    print(f"{name}: {len(changes)} changes all show; least {least} {changes[least]:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--goldens", required=True)
    root = parser.parse_args().goldens
    for name, spec in MODELS.items():
        write_model(root, name, spec)
        ids = [1] + hashed_tokens(spec["seed"], 1000, PROMPT_LENGTH - 1, 4, 320)
        model = check(root, name, ids)
        check_sensitive(root, name, ids)
        write_json(f"{root}/logits/{name}.json", logits_golden(model, name, ids, POSITIONS))
    write_tokenizer(root)
    ids = [1] + hashed_tokens(101, 1000, PROMPT_LENGTH - 1, 4, 320)
    plain = logits_of(load(root, "tiny-llama"), ids)
    for name, rope in ROPE_VARIANTS.items():
        config = make_config({**MODELS["tiny-llama"], "v5": dict(rope_parameters=dict(rope))})
        model = load(root, "tiny-llama", config=config)
        assert relative_error(logits_of(model, ids), plain) > 1e-2, f"{name} changes nothing"
        golden = logits_golden(model, "tiny-llama", ids, [0, 1, 20, 39], rope_parameters=rope)
        write_json(f"{root}/logits/{name}.json", golden)


if __name__ == "__main__":
    main()
