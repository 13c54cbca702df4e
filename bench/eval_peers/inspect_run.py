"""The samples and checks of task.toml with Inspect AI, its whole `eval`: dataset, a mock model that gives the outputs, ten
scorers, log written. See docs/evaluation-speed.md.

    pip install inspect-ai==0.3.285 rouge-score==0.1.2 jsonschema==4.26.0
    python bench/eval_peers/inspect_run.py rows.jsonl LOG_FOLDER

The scorers are the shortest that give the same verdicts as ours, two excepted: `number` and `fields` give 0 to samples
whose expected answer has no number or no fields, which ours leave out. The means that are printed show it.
"""

import json
import re
import string
import sys
import time
from collections import Counter

from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Score, mean, scorer
from inspect_ai.solver import generate
from jsonschema import Draft202012Validator
from rouge_score.rouge_scorer import RougeScorer

FIELDS = ["company", "date", "address", "total"]
SCHEMA = Draft202012Validator({
    "type": "object",
    "required": FIELDS,
    "additionalProperties": False,
    "properties": {name: {"type": "string"} for name in FIELDS},
})
DATE = re.compile(r"\d{2}/\d{2}/\d{4}")
NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")
ARTICLES = re.compile(r"\b(a|an|the)\b")
MARKS = str.maketrans("", "", string.punctuation)
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


def words(text):
    return ARTICLES.sub(" ", text.lower().translate(MARKS)).split()


def token_f1(a, b):
    a, b = words(a), words(b)
    if not a or not b:
        return float(a == b)
    return 2 * sum((Counter(a) & Counter(b)).values()) / (len(a) + len(b))


CHECKS = {
    "exact": lambda text, target: text.strip() == target.strip(),
    "regex": lambda text, target: DATE.search(text) is not None,
    "number": lambda text, target: close(number_of(text), number_of(target)),
    "length": lambda text, target: len(text.split()) <= 60,
    "contains": lambda text, target: "total" in text or "the" in text,
    "valid": lambda text, target: parsed(text) is not None,
    "schema": lambda text, target: SCHEMA.is_valid(parsed(text)),
    "fields": lambda text, target: fields(parsed(text), parsed(target)),
    "token_f1": token_f1,
    "rouge_l": lambda text, target: ROUGE.score(target, text)["rougeL"].fmeasure,
}


def check(name):
    @scorer(metrics=[mean()], name=name)
    def build():
        async def score(state, target):
            return Score(value=float(CHECKS[name](state.output.completion, target.text)))

        return score

    return build()


def main():
    started = time.perf_counter()
    outputs, samples = {}, []
    for line in open(sys.argv[1], encoding="utf-8"):
        row = json.loads(line)
        expected = row["expected"]
        target = expected if isinstance(expected, str) else json.dumps(expected, ensure_ascii=False)
        outputs[row["input"]] = row["meta"]["output"]
        samples.append(Sample(input=row["input"], target=target, id=row["id"]))

    def answer(messages, tools, choice, config):
        output = ModelOutput.from_content("mockllm", outputs[messages[-1].text])
        # Without it the mock counts tokens with a tokenizer that it fetches.
        output.usage = ModelUsage(input_tokens=2, output_tokens=len(output.completion), total_tokens=2)
        return output

    model = get_model("mockllm/model", custom_outputs=answer)
    task = Task(dataset=MemoryDataset(samples), solver=generate(), scorer=[check(name) for name in CHECKS])
    # What makes it fastest: no display, no log while it runs, many samples at a time. The log is written at the end.
    quick = {"display": "none", "score_display": False, "log_realtime": False, "log_model_api": False}
    log = eval(task, model=model, log_dir=sys.argv[2], max_samples=100, max_connections=100, **quick)[0]
    seconds = time.perf_counter() - started
    used = time.process_time()
    means = {score.name: score.metrics["mean"].value for score in log.results.scores}
    print(" ".join(f"{name} {value:.4f}" for name, value in means.items()))
    print(f"inspect-ai, {log.status}: {len(samples)} samples, 10 checks, {seconds:.2f} s, {len(samples) / seconds:.0f} samples/s, {used:.1f} s of CPU")


main()
