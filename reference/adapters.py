"""LoRA adapters with hashed weights, put on a model by PEFT, and saved as PEFT saves them."""

import json
import os

from common import hashed_values

import torch
from peft import LoraConfig, get_peft_model

# The order that numbers the tensors: layer, then module, then A before B.
# tensor index = (layer * 7 + place in MODULES) * 2 + (0 for A, 1 for B), whatever is targeted.
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def adapter_init(seed, rank, alpha, a_scale, b_scale, targets=None):
    """What makes an adapter, as the goldens store it. B is not zero, so that A has a gradient."""
    return {"seed": seed, "rank": rank, "alpha": alpha, "a_scale": a_scale, "b_scale": b_scale,
            "target_modules": targets or MODULES,
            "formula": "f32(((h >> 40) / 2^24 - 0.5) * scale), h = mix(mix(mix(seed) ^ tensor) ^ element), "
                       "tensor = (layer * 7 + module) * 2 + (0: A [rank, in], 1: B [out, rank]), module = place in "
                       "q k v o gate up down"}


def with_adapter(model, name, init):
    """`model` with a LoRA adapter whose A and B hold the hashed values; `name` goes into its config."""
    model = get_peft_model(model, LoraConfig(
        r=init["rank"], lora_alpha=init["alpha"], target_modules=list(init["target_modules"]),
        lora_dropout=0.0, bias="none", task_type="CAUSAL_LM", init_lora_weights=False))
    model.peft_config["default"].base_model_name_or_path = name
    model.peft_config["default"].revision = None
    count = 0
    for full_name, parameter in model.named_parameters():
        if "lora_" not in full_name:
            assert not parameter.requires_grad, full_name
            continue
        parts = full_name.split(".")
        layer, module = int(parts[parts.index("layers") + 1]), parts[-4]
        side = 0 if "lora_A" in full_name else 1
        index = (layer * 7 + MODULES.index(module)) * 2 + side
        scale = init["b_scale"] if side else init["a_scale"]
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(hashed_values(init["seed"], index, parameter.shape, scale)))
        count += 1
    layers = model.config.num_hidden_layers
    assert count == 2 * layers * len(init["target_modules"]), count
    return model


def lora_parameters(model):
    """[(name as the adapter file spells it, parameter)] in file-independent (layer, module) order."""
    return [(name.replace(".default", ""), p) for name, p in model.named_parameters() if p.requires_grad]


def save_adapter(model, folder):
    model.save_pretrained(folder)
    card = os.path.join(folder, "README.md")
    if os.path.exists(card):
        os.remove(card)  # the model card that PEFT adds holds nothing
    # PEFT writes a set of module names in an order that changes from run to run.
    config = os.path.join(folder, "adapter_config.json")
    with open(config, encoding="utf-8") as file:
        settings = json.load(file)
    settings["target_modules"] = sorted(settings["target_modules"], key=MODULES.index)
    with open(config, "w", encoding="utf-8") as file:
        file.write(json.dumps(settings, indent=2, sort_keys=True) + "\n")
