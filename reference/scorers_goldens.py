"""Expected numbers for the scorers of crates/eval, from rouge-score, sacrebleu, scikit-learn and scipy.

Run: python reference/scorers_goldens.py > scorers.json, which counts the texts of the committed file anew, or with DATA as
an argument, a folder of data sets (DATA/SET/dev.jsonl), which takes the texts from there. The file is
crates/eval/tests/data/scorers.json; write to another name first, since the script reads it.

Rows are taken from sets with free licences, texts are cut at 240
characters, and the "answers" are the expected texts, damaged by a seeded generator the way models damage them; hostile
texts come last. Labels of 200 rows each come from two built-in tasks, with damaged answers. Token F1 (SQuAD) is counted here, since its script is no package.
"""

import json
import random
import re
import string
import sys
from collections import Counter
from pathlib import Path

import rouge_score
import sacrebleu
import scipy
import sklearn
from rouge_score.rouge_scorer import RougeScorer
from scipy import stats
from sklearn.metrics import cohen_kappa_score, f1_score
from sklearn.preprocessing import MultiLabelBinarizer

LIMIT = 240
# Set, rows, licence of the set.
SETS = [
    ("product_copy", 40, "Apache-2.0"),
    ("spec_to_text_e2e", 40, "CC BY-SA 4.0"),
    ("legal_plain_english", 40, "Apache-2.0, CC BY-SA 3.0, CC0"),
    ("clinical_note_sections", 40, "CC BY 4.0"),
    ("rationale_intent", 40, "MIT"),
]
HOSTILE = [
    ("", "an expected text"),
    ("an answer", ""),
    ("", ""),
    ("   \n\t ", " "),
    ("the a an", "the"),
    ("<script>alert('&lt;b&gt;') & \"x\"</script>", "alert &amp; x &lt;b&gt;"),
    ("1,000.50-2 5-6 3.14, .5 well-known e.g. A.B.C -\nnew", "1,000.50 - 2 5-6 3.14 , .5 well known"),
    ("\u0130stanbul \u212aelvin \u00df \ufb01 \u03a3\u039f\u03a3", "istanbul kelvin ss fi \u03c3\u03bf\u03c2"),
    ("\u4f60\u597d\u3002\u4e16\u754c", "\u4f60\u597d\u4e16\u754c"),
    ("e\u0301a\u0300 \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u00e9\u00e0 \U0001f600"),
    ("\u0000\u0001 x\u001cy \u2028z \u00a0w", "x y z w"),
    ("word " * 60, "word"),
    ("a b c d e f g h", "h g f e d c b a"),
    ("\ufffd\ufffd not utf-8 \ufffd", "not utf-8"),
    ("<skipped> text", "text"),
    ("(((([[[[{{{{!!!!", "!!!!"),
    ("don\u2019t stop the a\u2019b", "don't stop"),
]


def damaged(text, source):
    words = text.split(" ")
    for _ in range(source.choice([0, 1, 2, 3, 5])):
        place = source.randrange(len(words)) if words else 0
        kind = source.choice(["drop", "swap", "repeat", "case", "mark", "unicode", "cut"])
        if kind == "drop" and len(words) > 1:
            del words[place]
        elif kind == "swap" and place + 1 < len(words):
            words[place], words[place + 1] = words[place + 1], words[place]
        elif kind == "repeat":
            words.insert(place, words[place])
        elif kind == "case":
            words[place] = words[place].upper()
        elif kind == "mark":
            words[place] += source.choice([",", ".", "!", " -", "'s", ")"])
        elif kind == "unicode":
            words[place] = words[place].replace("e", "\u00e9").replace("o", "\u00f6")
        elif kind == "cut":
            words = words[: max(1, place)]
    return " ".join(words)


TASKS = Path(__file__).parent.parent / "tasks"
GOLDEN = Path(__file__).parent.parent / "crates/eval/tests/data/scorers.json"


def expected_of(task):
    """What the 200 validation rows of a built-in task expect."""
    lines = (TASKS / task / "dev.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["expected"] for line in lines[:200]]


def rows(data):
    if data is None:
        texts = json.loads(GOLDEN.read_text(encoding="utf-8"))["texts"]
        return [{"answer": row["answer"], "references": row["references"]} for row in texts]
    source = random.Random(4)
    found = []
    for name, count, _ in SETS:
        lines = (data / name / "dev.jsonl").read_text(encoding="utf-8").splitlines()
        for line in lines[:count]:
            row = json.loads(line)
            expected = row["expected"]["note"] if isinstance(row["expected"], dict) else row["expected"]
            references = [text[:LIMIT] for text in row["meta"].get("references", [expected])][:3]
            found.append({"answer": damaged(references[-1], source), "references": references})
    found += [{"answer": answer, "references": [reference]} for answer, reference in HOSTILE]
    return found


def squad_words(text):
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def token_f1(answer, reference):
    a, b = squad_words(answer), squad_words(reference)
    if not a or not b:
        return float(a == b)
    same = sum((Counter(a) & Counter(b)).values())
    return 2 * same / (len(a) + len(b))


def distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def likeness(answer, reference):
    a, b = answer.strip(), reference.strip()
    return 1 - distance(a, b) / max(len(a), len(b)) if a or b else 1.0


def texts(data):
    found = rows(data)
    rouge = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    for row in found:
        answer, references = row["answer"], row["references"]
        scores = rouge.score_multi(references, answer)
        row["rouge"] = [scores[name].fmeasure for name in ("rouge1", "rouge2", "rougeL")]
        row["bleu"] = sacrebleu.sentence_bleu(answer, references).score / 100
        row["chrf"] = sacrebleu.sentence_chrf(answer, references).score / 100
        row["token_f1"] = max(token_f1(answer, reference) for reference in references)
        row["edit_distance"] = max(likeness(answer, reference) for reference in references)
    answers = [row["answer"] for row in found]
    first = [[row["references"][0] for row in found]]
    several = [[row["references"][i] if i < len(row["references"]) else None for row in found] for i in range(3)]
    corpus = {}
    for name, references in (("first", first), ("several", several)):
        corpus[name] = {
            "bleu": sacrebleu.corpus_bleu(answers, references).score / 100,
            "chrf": sacrebleu.corpus_chrf(answers, references).score / 100,
        }
    return found, corpus


def classification():
    source = random.Random(5)
    colours = ["red", "green", "blue", "grey", "white"]
    drawn = []
    for n, right in [(200, 0.7), (60, 0.2), (12, 1.0)]:
        expected = [source.choice(colours[: 4 if n < 100 else 5]) for _ in range(n)]
        drawn.append((colours, expected, [e if source.random() < right else source.choice(colours) for e in expected]))
    expected = expected_of("banking77")
    labels = sorted(set(expected))
    drawn.append((labels, expected, [e if source.random() < 0.7 else source.choice(labels) for e in expected]))
    cases = []
    for labels, expected, found in drawn:
        occurring = sorted(set(expected) | set(found))
        cases.append({
            "labels": labels,
            "found": found,
            "expected": expected,
            "macro_f1": f1_score(expected, found, labels=occurring, average="macro"),
            "micro_f1": f1_score(expected, found, labels=occurring, average="micro"),
        })
    return cases


def multi_label():
    source = random.Random(6)
    labels = list("abcdefgh")
    cases = []
    for n in (200, 30, None):
        if n is None:
            expected = [sorted(row) for row in expected_of("emotions")]
            labels = sorted(set(sum(expected, [])))
        else:
            expected = [sorted(source.sample(labels, source.choice([0, 1, 1, 2, 3]))) for _ in range(n)]
        found = [
            sorted(set(label for label in e if source.random() < 0.8) | set(source.sample(labels, source.choice([0, 0, 1]))))
            for e in expected
        ]
        occurring = sorted(set(sum(expected + found, [])))
        binary = MultiLabelBinarizer(classes=occurring)
        e, f = binary.fit_transform(expected), binary.transform(found)
        cases.append({
            "found": found,
            "expected": expected,
            "micro_f1": f1_score(e, f, average="micro"),
            "macro_f1": f1_score(e, f, average="macro"),
            "exact": float((e == f).all(axis=1).mean()),
        })
    return cases


def numbers(found_texts):
    source = random.Random(7)
    drawn = []
    for n, steps in [(200, 5), (40, 3), (200, 1000)]:
        expected = [source.randrange(steps) for _ in range(n)]
        found = [min(steps - 1, max(0, e + source.choice([-1, 0, 0, 1, 2]) * max(1, steps // 10))) for e in expected]
        drawn.append((expected, found))
    # Real rows: how many words the reference has, and how many the answer.
    real = found_texts[:200]
    drawn.append(([len(row["references"][0].split()) for row in real], [len(row["answer"].split()) for row in real]))
    cases = []
    for expected, found in drawn:
        steps = max(expected + found) + 1
        cases.append({
            "found": found,
            "expected": expected,
            "quadratic_kappa": cohen_kappa_score(expected, found, labels=list(range(steps)), weights="quadratic"),
            "pearson": stats.pearsonr(expected, found).statistic,
            "spearman": stats.spearmanr(expected, found).statistic,
            "kendall": stats.kendalltau(expected, found, variant="b").statistic,
        })
    return cases


def plain(value):
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return round(float(value), 12) if not isinstance(value, (str, int)) else value


def main():
    found, corpus = texts(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    golden = {
        "provenance": "rows of " + "; ".join(f"{name} ({licence})" for name, _, licence in SETS)
        + "; texts cut at 240 characters, answers are damaged references; made by reference/scorers_goldens.py",
        "versions": {
            "rouge-score": "0.1.2",
            "sacrebleu": sacrebleu.__version__,
            "scikit-learn": sklearn.__version__,
            "scipy": scipy.__version__,
        },
        "corpus": corpus,
        "classification": classification(),
        "multi_label": multi_label(),
        "numbers": numbers(found),
        "texts": found,
    }
    golden = plain(golden)
    parts = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in golden.items() if key != "texts"]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in golden["texts"])
    print("{" + ",\n".join(parts) + ',\n"texts": [\n' + lines + "\n]}")


main()
