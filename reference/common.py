"""What every reference script shares: hashed values, JSON with short numbers, numbers about logits.

The hash is written once more in crates/testkit (`hashed_values`), so that Rust makes the same
tensors without torch's random generator:

    mix(x)  = the splitmix64 step: x += 0x9E3779B97F4A7C15, then the two multiply-xorshift rounds
    h       = mix(mix(mix(seed) ^ tensor_index) ^ element_index)           (all modulo 2^64)
    value   = f32( ((h >> 40) / 2^24 - 0.5) * scale )                      (computed in f64)

Elements are counted in row-major order. Values are uniform in [-scale/2, scale/2).
"""

import json
import os
import sys

# The standard library first: scripts in this folder bear names of its modules (statistics, tokenize),
# which torch would import in their place.
_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != _HERE] + [_HERE]

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch

torch.set_num_threads(1)

VERSION = 1
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)


def mix(x):
    """One splitmix64 step of an array of uint64."""
    with np.errstate(over="ignore"):
        x = np.asarray(x, dtype=np.uint64) + _GAMMA
        x = (x ^ (x >> np.uint64(30))) * _M1
        x = (x ^ (x >> np.uint64(27))) * _M2
        return x ^ (x >> np.uint64(31))


def hashes(seed, tensor, n):
    """The n 64-bit hashes of one tensor."""
    head = mix(mix(np.uint64(seed)) ^ np.uint64(tensor))
    return mix(head ^ np.arange(n, dtype=np.uint64))


def hashed_values(seed, tensor, shape, scale):
    """A float32 array of `shape`, uniform in [-scale/2, scale/2), row-major."""
    n = int(np.prod(shape))
    h = (hashes(seed, tensor, n) >> np.uint64(40)).astype(np.float64)
    return ((h / float(1 << 24) - 0.5) * scale).astype(np.float32).reshape(shape)


def hashed_tokens(seed, tensor, n, low, high):
    """n token ids in [low, high): low + h mod (high - low)."""
    return [int(low + x % (high - low)) for x in hashes(seed, tensor, n).tolist()]


def _dump(value, digits):
    if isinstance(value, dict):
        return "{" + ",".join(json.dumps(k) + ":" + _dump(v, digits) for k, v in value.items()) + "}"
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray):
        if value.dtype == np.float32:
            if value.ndim > 1:
                return "[" + ",\n".join(_dump(row, digits) for row in value) + "]"
            return "[" + ",".join(format(float(x), f".{digits}g") for x in value) + "]"
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_dump(v, digits) for v in value) + "]"
    if isinstance(value, np.floating):
        return format(float(value), f".{digits}g")
    return json.dumps(value)


def write_json(path, value, digits=9):
    """Writes one object, a line per top-level field. Float32 arrays take `digits` digits; Python
    floats (double precision) are written in full."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    fields = [json.dumps(k) + ": " + _dump(v, digits) for k, v in value.items()]
    text = "{\n" + ",\n".join(fields) + "\n}\n"
    json.loads(text, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(f"{path} holds {name}")))
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
    print(f"{path}: {len(text)} bytes")


def made_with():
    """The versions of the libraries that made a golden."""
    import peft
    import transformers

    return {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__,
            "peft": peft.__version__}


def logits_of(model, ids):
    """Float32 logits [T, V] of one sequence without padding."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


def relative_error(got, want):
    """||got - want|| / ||want|| in float64."""
    got, want = got.double().flatten(), want.double().flatten()
    return float((got - want).norm() / want.norm())


def log_sum_exp(row):
    return float(torch.logsumexp(row.double(), dim=-1))


def next_log_prob(logits, ids, position):
    """log p(ids[position + 1]) in float64, None after the last token."""
    if position + 1 >= len(ids):
        return None
    row = logits[position].double()
    return float(row[ids[position + 1]] - torch.logsumexp(row, dim=-1))
