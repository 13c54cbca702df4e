"""Writes the data files of the built-in tasks that are slices of larger sets, and prints the table of each SOURCE.md.

python reference/task_slices.py DATA [TASK ...]

DATA is a folder with SET/train.jsonl and SET/dev.jsonl as the SOURCE.md files describe them. The files of tasks/TASK are written
anew, the same bytes each time. Rows are drawn by the sha256 of their id (or group), so no generator is involved. Of the published rows only
those of DATA's train.jsonl become training or test rows, and those of dev.jsonl validation rows. A training row that shares 60 % or more of
its runs of eight words with a test or validation row is dropped, and so is a validation row that shares them with a test row.
"""

import functools
import hashlib
import json
import pathlib
import re
import sys
import tomllib

TASKS = pathlib.Path(__file__).resolve().parent.parent / "tasks"
RUN = 8
SHARED = 0.6


def text(value):
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def rank(key):
    return hashlib.sha256(key.encode()).hexdigest()


def always(row):
    return row


def short_note(row):
    fits = len(row["input"]) <= 4000 and len(text(row["expected"])) <= 1200
    return row if fits else None


def short_clause(row):
    if len(row["input"]) > 3000 or len(row["expected"]) > 500:
        return None
    # Clauses of one service resemble each other: they stay on one side, and count together in comparisons.
    row["meta"]["group"] = row["meta"].pop("service")
    return row


def without_conclusion(row):
    del row["meta"]["long_answer"]
    return row


def plain(words):
    return re.sub(r"\s+", " ", words.lower()).strip()


def stands_alone(words, wanted):
    before = r"(?<!\w)" if re.match(r"\w", wanted[0]) else ""
    after = r"(?!\w)" if re.match(r"\w", wanted[-1]) else ""
    return re.search(before + re.escape(wanted) + after, words) is not None


@functools.cache
def phrases():
    task = tomllib.loads((TASKS / "product-copy" / "task.toml").read_text())
    return next(check for check in task["check"] if check["kind"] == "facts")["phrases"]


def whole_copy(row):
    """Only rows whose own text states every fact, as the check `facts` of the task sees it, in one paragraph without a colon."""
    # The set has commas set off as words; its texts were joined again, its facts were not.
    row["input"] = row["input"].replace(" ,", ",")
    facts = {name: value.replace(" ,", ",") for name, value in row["meta"]["facts"].items()}
    row["meta"] = {"domain": row["meta"]["domain"], "style": row["meta"]["style"], "facts": facts}
    if not 40 <= len(row["expected"]) <= 400 or re.search(r"[:\n]", row["expected"]):
        return None
    words = plain(row["expected"])
    for name, value in facts.items():
        wanted = phrases().get(f"{name}={value}", []) + phrases().get(value, [])
        if value not in ("true", "false", "none", "yes", "no"):
            wanted = [*wanted, value]
        if not any(stands_alone(words, plain(phrase)) for phrase in wanted):
            return None
    return row


# Task: set, what is kept of a row, test rows, most training rows, the field of meta whose rows stay together.
SLICES = {
    "complaints": ("support_complaint5", always, 250, 900, None),
    "clinic-notes": ("clinical_note_sections", short_note, 200, 2000, None),
    "emotions": ("emotions_multilabel", always, 400, 2000, None),
    "plain-english": ("legal_plain_english", short_clause, 300, 2000, "group"),
    "product-copy": ("product_copy", whole_copy, 300, 2000, None),
    "rationale": ("rationale_intent", always, 400, 2000, None),
    "medqa": ("medqa_yesno", without_conclusion, 100, 2000, None),
}


def read(path, keep):
    rows = [json.loads(line) for line in path.read_text().rstrip("\n").split("\n")]
    return [row for row in map(keep, rows) if row is not None], len(rows)


def draw(rows, test_rows, train_rows, group):
    """Test rows, then training rows: whole groups in the order of their rank until there are enough."""
    groups = {}
    for row in rows:
        groups.setdefault(row["meta"][group] if group else row["id"], []).append(row)
    test, train = [], []
    for key in sorted(groups, key=rank):
        (test if len(test) < test_rows else train).extend(groups[key])
    return test, train[:train_rows]


def runs(row):
    words = re.findall(r"\w+", row["input"].lower())
    return {tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1)}


def without_near_copies(rows, others):
    """`rows` without those that share most of their runs of words with one of `others`."""
    where = {}
    for index, other in enumerate(others):
        for run in runs(other):
            where.setdefault(run, []).append(index)
    kept = []
    for row in rows:
        mine, counts = runs(row), {}
        for run in mine:
            for index in where.get(run, []):
                counts[index] = counts.get(index, 0) + 1
        if not mine or max(counts.values(), default=0) < SHARED * len(mine):
            kept.append(row)
    return kept


def write(task, data):
    name, keep, test_rows, train_rows, group = SLICES[task]
    published, n_published = read(data / name / "train.jsonl", keep)
    dev, n_dev = read(data / name / "dev.jsonl", keep)
    test, train = draw(published, test_rows, train_rows, group)
    clean_dev = without_near_copies(dev, test)
    clean_train = without_near_copies(train, test + clean_dev)
    print(f"{task}: kept {len(published)} of {n_published} and {len(dev)} of {n_dev}; "
          f"near copies dropped: train {len(train) - len(clean_train)}, dev {len(dev) - len(clean_dev)}")
    for file, split, rows in [("train", "train", clean_train), ("dev", "validation", clean_dev), ("test_public", "test", test)]:
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        (TASKS / task / f"{file}.jsonl").write_bytes(content)
        print(f"| `{file}.jsonl` | {split} | {len(rows)} | {hashlib.sha256(content).hexdigest()} |")


if __name__ == "__main__":
    for wanted in sys.argv[2:] or SLICES:
        write(wanted, pathlib.Path(sys.argv[1]))
