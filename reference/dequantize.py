"""Expected numbers for the storage types of GGUF tensors.

For each type: random blocks (any bit pattern for the packed numbers, finite half floats for the scales) and what the
format's own Python package makes of them, both as hex of the little-endian bytes, so that they compare bit for bit.

    python reference/dequantize.py

Needs: gguf 0.19, numpy.
"""

import json
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

OUT = Path(__file__).parent.parent / "crates/testkit/goldens/dequantize"
BLOCKS = {"F32": 32, "F16": 32, "BF16": 32, "Q4_0": 8, "Q4_1": 8, "Q5_0": 8, "Q5_1": 8, "Q8_0": 8, "Q4_K": 3, "Q5_K": 3, "Q6_K": 3}
# Where in a block its half-float scales are, in bytes.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def blocks_of(name: str, rng: np.random.Generator) -> np.ndarray:
    count = BLOCKS[name]
    if name == "F32":
        return rng.normal(0, 0.05, count).astype("<f4").view(np.uint8)
    if name == "F16":
        # Subnormals and the largest number among them.
        return np.concatenate([rng.normal(0, 0.05, count - 3), [6e-8, -3e-6, 65504]]).astype("<f2").view(np.uint8)
    if name == "BF16":
        return (rng.normal(0, 0.05, count).astype("<f4").view(np.uint32) >> 16).astype("<u2").view(np.uint8)
    size = GGML_QUANT_SIZES[GGMLQuantizationType[name]][1]
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for at in SCALES[name]:
        blocks[:, at : at + 2] = rng.normal(0, 0.05, count).astype("<f2").view(np.uint8).reshape(count, 2)
    return blocks.reshape(-1)


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(BLOCKS):
        raw = blocks_of(name, np.random.default_rng(seed))
        kind = GGMLQuantizationType[name]
        source = raw.view({"F32": "<f4", "F16": "<f2"}.get(name, "u1"))
        expected = np.ascontiguousarray(dequantize(source, kind).astype("<f4")).reshape(-1)
        assert np.isfinite(expected).all(), name
        golden = {"VERSION": 1, "type": name, "blocks": raw.tobytes().hex(), "expected": expected.tobytes().hex()}
        (OUT / f"{name}.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
