"""Adapters made and saved by PEFT, and the logits that PEFT gives with them.

    python reference/peft_adapters.py --goldens crates/testkit/goldens

Writes adapters/tiny-llama-peft/ (all linear projections), adapters/tiny-llama-peft-qv/ (q_proj and
v_proj only, alpha over rank 0.5, dropout 0.1 in its configuration) and logits/tiny-llama-peft{,-qv}.json.
The logits come from the files as PeftModel reads them back.
"""

import argparse
import json
import os

from adapters import adapter_init, save_adapter, with_adapter
from common import logits_of, relative_error, write_json
from tiny_models import POSITIONS, load, logits_golden

from peft import PeftModel

ADAPTERS = {
    "tiny-llama-peft": adapter_init(211, 4, 8, 0.4, 0.4),
    "tiny-llama-peft-qv": adapter_init(212, 3, 1.5, 0.8, 0.8, ["q_proj", "v_proj"]),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--goldens", required=True)
    root = parser.parse_args().goldens
    with open(f"{root}/logits/tiny-llama.json", encoding="utf-8") as file:
        ids = json.load(file)["ids"]
    plain = logits_of(load(root, "tiny-llama"), ids)
    for name, init in ADAPTERS.items():
        folder = f"{root}/adapters/{name}"
        model = with_adapter(load(root, "tiny-llama"), "tiny-llama", init)
        if name.endswith("-qv"):
            model.peft_config["default"].lora_dropout = 0.1  # no effect outside of training
        save_adapter(model, folder)
        back = PeftModel.from_pretrained(load(root, "tiny-llama"), folder).eval()
        assert relative_error(logits_of(back, ids), logits_of(model, ids)) == 0.0
        change = relative_error(logits_of(back, ids), plain)
        assert change > 0.05, f"{name} hardly shows: {change:.1e}"
        print(f"{name}: changes the logits by {change:.2f}")
        golden = logits_golden(back, "tiny-llama", ids, POSITIONS, adapter=f"adapters/{name}")
        write_json(os.path.join(root, "logits", f"{name}.json"), golden)


if __name__ == "__main__":
    main()
