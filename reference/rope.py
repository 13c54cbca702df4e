"""Expected inverse frequencies of rotary embeddings, from transformers, as hex of little-endian f32.

    python reference/rope.py

Needs: transformers 5.23, torch.
"""

import json
from pathlib import Path

from transformers import Gemma3TextConfig, LlamaConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

OUT = Path(__file__).parent.parent / "crates/testkit/goldens/rope.json"
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def entry(name: str, rope: dict, head_size: int, numbers) -> dict:
    return {"name": name, "rope": rope, "head_size": head_size, "expected": numbers.numpy().astype("<f4").tobytes().hex()}


def main() -> None:
    entries = []
    for name, rope in [
        ("plain", {"rope_type": "default", "rope_theta": 100000.0}),
        ("linear", {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}),
        ("llama3", LLAMA3),
    ]:
        config = LlamaConfig(
            hidden_size=128, num_attention_heads=2, head_dim=64, max_position_embeddings=131072, rope_parameters=dict(rope)
        )
        entries.append(entry(name, rope, 64, LlamaRotaryEmbedding(config).inv_freq))
    module = Gemma3RotaryEmbedding(Gemma3TextConfig())
    for part, theta in [("full_attention", 1000000.0), ("sliding_attention", 10000.0)]:
        rope = {"rope_type": "default", "rope_theta": theta}
        entries.append(entry(f"gemma {part}", rope, 256, getattr(module, f"{part}_inv_freq")))
    OUT.write_text(json.dumps({"VERSION": 1, "entries": entries}, indent=1) + "\n")


if __name__ == "__main__":
    main()
