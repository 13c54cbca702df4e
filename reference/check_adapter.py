"""Loads an adapter with PEFT and compares its logits with those another program wrote.

    python reference/check_adapter.py MODEL ADAPTER_DIR LOGITS.json [--without-adapter]

MODEL is a Hugging Face directory or a .gguf file. LOGITS.json holds {"ids": [...], "positions": [...],
"logits": [[...], ...]}, a row of the whole vocabulary per position. Exit code 1 when any row's relative
error ||got - want|| / ||want|| is above 1e-4, or when the adapter changes nothing (then the comparison
says nothing). --without-adapter compares with the model alone, which must fail for a trained adapter.
"""

import argparse
import json
import os
import sys

from common import logits_of, relative_error

import torch
import transformers
from peft import PeftModel

transformers.utils.logging.disable_progress_bar()

TOLERANCE = 1e-4


def load(path):
    more = {}
    if path.endswith(".gguf"):
        path, more["gguf_file"] = os.path.split(os.path.abspath(path))
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, **more).eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("adapter")
    parser.add_argument("logits")
    parser.add_argument("--without-adapter", action="store_true")
    arguments = parser.parse_args()
    with open(arguments.logits, encoding="utf-8") as file:
        found = json.load(file)
    base = load(arguments.model)
    plain = logits_of(base, found["ids"])
    tuned = PeftModel.from_pretrained(base, arguments.adapter).eval()
    # A tensor under a name that PEFT does not know would be left out with no more than a warning.
    saved, loaded = saved_tensors(arguments.adapter), sum("lora_" in n for n, _ in tuned.named_parameters())
    print(f"adapter: {saved} tensors in the file, {loaded} in the model")
    tensors_fit = saved == loaded
    with_adapter = logits_of(tuned, found["ids"])
    change = relative_error(with_adapter, plain)
    print(f"the adapter changes the logits by {change:.2e}")
    want = plain if arguments.without_adapter else with_adapter
    worst = 0.0
    for position, row in zip(found["positions"], found["logits"], strict=True):
        got = torch.tensor(row, dtype=torch.float32)
        if got.shape != want[position].shape:
            sys.exit(f"position {position}: {len(row)} logits, expected {want.shape[1]}")
        error = relative_error(got, want[position])
        place = int((got - want[position]).abs().argmax())
        print(f"position {position}: relative error {error:.2e}; worst [{place}]: got {got[place]:.7g}, "
              f"expected {want[position][place]:.7g}")
        worst = max(worst, error if error == error else float("inf"))
    compared = len(found["positions"])
    passed = compared > 0 and worst <= TOLERANCE and change > 1e-6 and tensors_fit
    print(f"{'equal' if passed else 'DIFFERENT'}: {compared} positions, worst {worst:.2e}, at most {TOLERANCE} allowed")
    sys.exit(0 if passed else 1)


def saved_tensors(folder):
    from safetensors import safe_open

    with safe_open(os.path.join(folder, "adapter_model.safetensors"), framework="pt") as file:
        return len(list(file.keys()))


if __name__ == "__main__":
    main()
