"""Blocks of 32 numbers as gguf-py quantises hashed values (seed 12, tensor 0, 256 values, scale 2), in hexadecimal. It has no
quantiser for the K types.

    python reference/quantize.py

Needs: gguf 0.19, numpy, and what common.py needs.
"""

import json
from importlib.metadata import version
from pathlib import Path

from common import hashed_values
from gguf import GGMLQuantizationType
from gguf.quants import quantize

OUT = Path(__file__).parent.parent / "crates/testkit/goldens/quantize.json"

values = hashed_values(12, 0, 256, 2.0)
golden = {"made_with": {"gguf": version("gguf")}}
for name in ["Q8_0", "Q4_0", "Q4_1", "Q5_0"]:
    golden[name] = quantize(values, GGMLQuantizationType[name]).tobytes().hex()
OUT.write_text(json.dumps(golden, indent=1) + "\n")
