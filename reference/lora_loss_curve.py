"""LoRA training with PEFT from a given start: losses, gradient norms and gradients of step 0.

    python reference/lora_loss_curve.py tiny --goldens crates/testkit/goldens
    python reference/lora_loss_curve.py smollm2 --goldens crates/testkit/goldens --gguf SMOLLM2.gguf

`tiny` writes sft/tiny-llama.json (20 steps, every gradient of step 0), sft/tiny-qwen3.json and
sft/tiny-gemma3.json (loss and gradients of one batch) and adapters/tiny-llama-init/. `smollm2` writes
sft/smollm2.json (20 steps). The loss of a step is the sum of the negative log-probs of the batch's
completion tokens over their number; rows run one by one, without padding.
"""

import argparse
import math
import os

from adapters import adapter_init, lora_parameters, save_adapter, with_adapter
from common import VERSION, hashed_tokens, hashes, made_with, relative_error, write_json

import torch
import transformers

transformers.utils.logging.disable_progress_bar()

STEPS, BATCH, WARMUP = 20, 4, 4
ADAMW = {"betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01}
MAX_NORM = 1.0
LOSS = ("sum over i with mask[i] = 1 of -log p(ids[i] | ids[..i]), over the batch's rows, divided by the number "
        "of such i in the batch")


def schedule(peak):
    """lr of step t: peak (t + 1) / 4 in the four warm-up steps, then half a cosine down towards 0."""
    def rate(t):
        if t < WARMUP:
            return peak * (t + 1) / WARMUP
        return peak * 0.5 * (1 + math.cos(math.pi * (t - WARMUP) / (STEPS - WARMUP)))
    return [rate(t) for t in range(STEPS)]


def hashed_rows(seed, count):
    """Rows for the tiny models: a shared start of 8 tokens, then 12 to 52 of the row's own; the last
    third or so is the completion. The tokens of a completion follow a rule, so that they can be learnt."""
    shared, rows = [1] + hashed_tokens(seed, 2000, 7, 4, 320), []
    for i in range(count):
        prompt = shared + hashed_tokens(seed, 2001 + i, 6 + (i * 7) % 30, 4, 320)
        step, completion = 3 + i % 4, []
        for k in range(6 + (i * 5) % 17):
            completion.append(4 + (prompt[-1] + (k + 1) * step) % 40)
        completion.append(2)
        rows.append({"ids": prompt + completion, "mask": [0] * len(prompt) + [1] * len(completion)})
    return rows


def text_rows(tokenizer):
    """Sixteen short chat rows: a line of a receipt to a small JSON object. Made up for this purpose."""
    shops = ["Lim Hardware", "Kedai Maju", "Orchid Cafe", "Blue Mart"]
    rows = []
    for i in range(16):
        shop, total = shops[i % 4], f"{3 + 7 * i}.{(10 + 37 * i) % 100:02d}"
        date = f"{1 + i:02d}/0{1 + i % 9}/2018"
        if i % 3 == 0:
            user, answer = f"{shop} total {total}", f'{{"total": "{total}"}}'
        elif i % 3 == 1:
            user, answer = f"{shop} {date} {total}", f'{{"company": "{shop}", "total": "{total}"}}'
        else:
            user, answer = f"{date} {shop}", f'{{"date": "{date}"}}'
        prompt = tokenizer(f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
        completion = tokenizer(f"{answer}<|im_end|>")["input_ids"]
        assert 20 <= len(prompt) + len(completion) <= 64, len(prompt) + len(completion)
        rows.append({"ids": prompt + completion, "mask": [0] * len(prompt) + [1] * len(completion)})
    return rows


def make_batches(rows):
    """Every row once per four steps, in another order each time: row (5 i + 3 epoch) mod 16."""
    order = [(5 * i + 3 * epoch) % len(rows) for epoch in range(5) for i in range(len(rows))]
    return [order[t * BATCH:(t + 1) * BATCH] for t in range(STEPS)]


def row_nll(model, row):
    """Summed negative log-prob of a row's completion tokens."""
    ids = torch.tensor([row["ids"]])
    log_probs = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0, :-1].float(), dim=-1)
    target = log_probs.gather(1, ids[0, 1:, None])[:, 0]
    return -(target * torch.tensor(row["mask"][1:], dtype=torch.float32)).sum()


def batch_loss(model, rows):
    """The loss of a batch with its gradients in place, and the rows' sums."""
    count = sum(sum(row["mask"]) for row in rows)
    model.zero_grad()
    sums = []
    for row in rows:
        nll = row_nll(model, row)
        (nll / count).backward()
        sums.append(float(nll.detach()))
    return sum(sums) / count, sums


def train(model, rows, batches, rates):
    parameters = [p for _, p in lora_parameters(model)]
    optimiser = torch.optim.AdamW(parameters, lr=0.0, betas=tuple(ADAMW["betas"]), eps=ADAMW["eps"],
                                  weight_decay=ADAMW["weight_decay"])
    losses, norms = [], []
    for batch, rate in zip(batches, rates):
        loss, _ = batch_loss(model, [rows[i] for i in batch])
        norms.append(float(torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
        losses.append(loss)
    return losses, norms


def gradients(model, full):
    """Per LoRA tensor: shape, L2 norm and gradient, in full or at 32 hashed places."""
    result = {}
    for number, (name, parameter) in enumerate(lora_parameters(model)):
        grad = parameter.grad.detach().flatten()
        entry = {"shape": list(parameter.shape), "norm": float(grad.double().norm())}
        assert entry["norm"] > 0, f"{name} has no gradient"
        if full:
            entry["values"] = grad
        elif number % 14 in (0, 3, 13):  # of each layer: A of q, B of k, B of down
            at = sorted({int(h) % grad.numel() for h in hashes(5, number, 12).tolist()})
            entry.update(at=at, values=grad[at])
        result[name] = entry
    return result


def final_state(model):
    """Per LoRA tensor after the last step: L2 norm, and the values at about 12 hashed places."""
    result = {}
    for number, (name, parameter) in enumerate(lora_parameters(model)):
        values = parameter.detach().flatten()
        at = sorted({int(h) % values.numel() for h in hashes(6, number, 12).tolist()})
        result[name] = {"norm": float(values.double().norm()), "at": at, "values": values[at]}
    return result


def header(name, init, rows):
    return {"version": VERSION, "made_with": made_with(), "model": name, "loss_is": LOSS,
            "adapter_init": init, "rows": rows}


def curve(make_model, golden, peak, full):
    """Adds step 0, 20 losses and the distance between two attention implementations to `golden`."""
    rows = golden["rows"]
    batches, rates = make_batches(rows), schedule(peak)
    model = make_model("eager")
    loss, sums = batch_loss(model, [rows[i] for i in batches[0]])
    golden.update(batches=batches, learning_rates=rates, adamw=ADAMW, max_grad_norm=MAX_NORM,
                  step_0={"loss": loss, "row_nll": sums, "gradients": gradients(model, full)})
    losses, norms = train(model, rows, batches, rates)
    again = make_model("sdpa")
    other, _ = train(again, rows, batches, rates)
    spread = max(abs(a - b) / a for a, b in zip(losses, other))
    drift = max(relative_error(a.detach(), b.detach())
                for (_, a), (_, b) in zip(lora_parameters(again), lora_parameters(model)))
    golden.update(losses=losses, grad_norms=norms, final=final_state(model),
                  sdpa_against_eager={"losses": spread, "final_tensors": drift})
    print(f"losses {losses[0]:.4f} to {losses[-1]:.4f}, norms {norms[0]:.3f} to {norms[-1]:.3f}, "
          f"sdpa against eager: losses {spread:.1e}, worst final tensor {drift:.1e}")
    return golden


def tiny(root):
    def make(name, init):
        def build(attention):
            base = transformers.AutoModelForCausalLM.from_pretrained(
                os.path.join(root, "models", name), dtype=torch.float32, attn_implementation=attention)
            return with_adapter(base, name, init)
        return build

    init = adapter_init(201, 4, 8, 0.25, 0.05)
    build = make("tiny-llama", init)
    save_adapter(build("eager"), f"{root}/adapters/tiny-llama-init")
    golden = curve(build, header("tiny-llama", init, hashed_rows(301, 16)), 2e-3, True)
    write_json(f"{root}/sft/tiny-llama.json", golden, digits=7)
    for seed, name in [(202, "tiny-qwen3"), (203, "tiny-gemma3")]:
        init = adapter_init(seed, 2, 4, 0.25, 0.1)
        rows = hashed_rows(seed + 100, 4)
        model = make(name, init)("eager")
        loss, sums = batch_loss(model, rows)
        print(f"{name}: loss {loss:.4f}")
        golden = header(name, init, rows)
        golden["step_0"] = {"loss": loss, "row_nll": sums, "gradients": gradients(model, True)}
        write_json(f"{root}/sft/{name}.json", golden, digits=7)


def smollm2(root, gguf):
    folder, file = os.path.split(os.path.abspath(gguf))
    name = "smollm2-135m-instruct"
    init = adapter_init(204, 2, 4, 0.08, 0.02)

    def build(attention):
        base = transformers.AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=file, dtype=torch.float32, attn_implementation=attention)
        return with_adapter(base, name, init)

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=file)
    golden = curve(build, header(name, init, text_rows(tokenizer)), 5e-4, False)
    write_json(f"{root}/sft/smollm2.json", golden, digits=7)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["tiny", "smollm2"])
    parser.add_argument("--goldens", required=True)
    parser.add_argument("--gguf", help="the SmolLM2 file (smollm2 only)")
    arguments = parser.parse_args()
    if arguments.what == "tiny":
        tiny(arguments.goldens)
    elif arguments.gguf:
        smollm2(arguments.goldens, arguments.gguf)
    else:
        parser.error("smollm2 needs --gguf")


if __name__ == "__main__":
    main()
