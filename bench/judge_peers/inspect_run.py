"""The same samples and checks as crates/eval/examples/judge_speed.rs with Inspect AI, for a ratio in samples a second.

    cargo run --release -p underdog-eval --example judge_speed -- 2000 rows.jsonl
    pip install inspect-ai==0.3.285 rouge-score==0.1.2 jsonschema==4.26.0
    python bench/judge_peers/inspect_run.py rows.jsonl

The outputs are there already: a solver puts each into the state, and no model is asked. Inspect's own scorers are used
where it has them (exact, pattern, includes, f1); the others are the shortest that do the work. Times are of the whole
`eval`, as its user waits for it, and of the scoring alone, in one thread, without Inspect around it.
"""

import asyncio
import json
import re
import sys
import tempfile
import time

from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelName, ModelOutput
from inspect_ai.scorer import Score, Target, accuracy, exact, f1, includes, mean, pattern, scorer
from inspect_ai.solver import TaskState, solver
from jsonschema import Draft202012Validator
from rouge_score.rouge_scorer import RougeScorer

FIELDS = ["company", "date", "address", "total"]
SCHEMA = Draft202012Validator({
    "type": "object",
    "required": FIELDS,
    "additionalProperties": False,
    "properties": {name: {"type": "string"} for name in FIELDS},
})
NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")
ROUGE = RougeScorer(["rougeL"], use_stemmer=False)


def parsed(text):
    try:
        return json.loads(text)
    except ValueError:
        return None


def number_of(text):
    found = NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def close(a, b):
    return a is not None and b is not None and abs(a - b) <= 0.01 * abs(b)


def fields(a, b):
    if not isinstance(a, dict) or not isinstance(b, dict):
        return 0.0
    hit = sum(str(a.get(name)).lower().split() == str(b.get(name)).lower().split() for name in FIELDS)
    return 2 * hit / (len(a) + len(b)) if a or b else 1.0


OWN = {
    "number": lambda text, target: close(number_of(text), number_of(target)),
    "length": lambda text, target: len(text.split()) <= 60,
    "valid": lambda text, target: parsed(text) is not None,
    "schema": lambda text, target: SCHEMA.is_valid(parsed(text)),
    "fields": lambda text, target: fields(parsed(text), parsed(target)),
    "rouge_l": lambda text, target: ROUGE.score(target, text)["rougeL"].fmeasure,
}


def own(name):
    @scorer(metrics=[mean()], name=name)
    def build():
        async def score(state, target):
            return Score(value=float(OWN[name](state.output.completion, target.text)))

        return score

    return build()


@solver
def given():
    async def solve(state, generate):
        state.output = ModelOutput.from_content("given", state.metadata["output"])
        return state

    return solve


def main():
    rows = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
    samples = [
        Sample(input="i", target=row["expected"], metadata={"output": row["output"]}, id=i) for i, row in enumerate(rows)
    ]
    scorers = [exact(), pattern(r"(\d{2}/\d{2}/\d{4})"), includes(), f1(), *map(own, OWN)]

    async def bare():
        sums = [0.0] * len(scorers)
        for sample in samples:
            state = TaskState(ModelName("none/none"), sample.id, 1, "i", [])
            state.output = ModelOutput.from_content("given", sample.metadata["output"])
            for i, score in enumerate(scorers):
                value = (await score(state, Target(sample.target))).value
                sums[i] += value == "C" if isinstance(value, str) else float(value)
        return sums

    started = time.perf_counter()
    sums = asyncio.run(bare())
    seconds = time.perf_counter() - started
    names = ["exact", "pattern", "includes", "f1", *OWN]
    print(", ".join(f"{name} {total / len(rows):.4f}" for name, total in zip(names, sums)))
    print(f"scorers alone: {len(rows)} samples, {seconds:.2f} s, {len(rows) / seconds:.0f} samples/s")
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        task = Task(dataset=MemoryDataset(samples), solver=given(), scorer=scorers)
        log = eval(task, model=None, log_dir=folder, display="none", max_samples=100)[0]
        seconds = time.perf_counter() - started
    print(f"eval, {log.status}: {len(rows)} samples, {seconds:.2f} s, {len(rows) / seconds:.0f} samples/s")


main()
