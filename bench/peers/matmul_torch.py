"""bf16 products of the training shapes in PyTorch, on the shapes of crates/tensor/examples/matmul_speed.rs.

    python bench/peers/matmul_torch.py [THREADS]

The weight is [n, k], as in a linear layer; inputs and outputs are bf16. PyTorch is free to use what oneDNN has (AMX). Each shape
is tried as F.linear, as a plain product, and with the weight packed once by mkldnn, where the build has it; the fastest counts. The
result is checked against f32. Prints one JSON object: `cargo xtask bench matmul --python PYTHON` keeps it.
"""

import json
import sys
import time

import torch

ROWS = [256, 1024, 2048]
SHAPES = [(576, 576), (576, 192), (576, 1536), (1536, 576), (576, 49152)]


def timed(call):
    for _ in range(3):
        call()
    seconds, since = [], time.perf_counter()
    while len(seconds) < 5 or (time.perf_counter() - since < 0.15 and len(seconds) < 200):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[:9]


def packed(x, w):
    """The same product with a weight that is packed once, or None where this build cannot."""
    try:
        weight = torch.ops.mkldnn._reorder_linear_weight(w.to_mkldnn(), x.shape[0])
        call = lambda: torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
        call()
        return call
    except Exception:
        return None


def main():
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    shapes = []
    with torch.inference_mode():
        for rows in ROWS:
            for k, n in SHAPES:
                x, w = torch.rand(rows, k) - 0.5, torch.rand(n, k) - 0.5
                x16, w16 = x.bfloat16(), w.bfloat16()
                across = w16.t().contiguous()
                ways = {
                    "linear": lambda: torch.nn.functional.linear(x16, w16),
                    "product": lambda: x16 @ across,
                    "packed": packed(x16, w16),
                }
                times = {name: timed(call) for name, call in ways.items() if call}
                way = min(times, key=lambda name: times[name][0])
                want, got = x[:1] @ w.T, ways[way]()[:1].float()
                error = ((got - want).abs().max() / want.abs().max()).item()
                rate = 2 * rows * k * n / times[way][0] / 1e9
                shapes.append(
                    {"rows": rows, "k": k, "n": n, "way": way, "gflop_per_s": rate, "error": error, "seconds": times[way]}
                )
    print(json.dumps({"torch": torch.__version__, "threads": threads, "shapes": shapes}))


if __name__ == "__main__":
    main()
