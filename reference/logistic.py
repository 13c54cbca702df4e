"""Expected probabilities for crates/eval/src/baseline/logistic.rs, from scikit-learn's LogisticRegression.

Run: python reference/logistic.py > crates/eval/tests/data/logistic.json
Made with scikit-learn 1.9.1. `c` is the inverse of the penalty as scikit-learn has it: the loss is the sum over the rows,
the penalty |W|² / (2c), the intercept free. The rows come from the hash of common.py.
"""

import json
import sys

from common import hashed_values, hashes

import numpy
import sklearn
from sklearn.linear_model import LogisticRegression

ROWS, TEST, WIDTH, CLASSES = 120, 12, 8, 5


def rows():
    x = hashed_values(7, 0, (ROWS + TEST, WIDTH), 2.0)
    return x[:ROWS].astype(numpy.float64), x[ROWS:].astype(numpy.float64)


def fit(x, y, c):
    return LogisticRegression(C=c, tol=1e-10, max_iter=100_000, solver="lbfgs").fit(x, y)


def main():
    train, test = rows()
    centres = hashed_values(7, 1, (CLASSES, WIDTH), 2.0).astype(numpy.float64)
    noise = hashed_values(7, 2, (ROWS, CLASSES), 2.0).astype(numpy.float64)
    classes = numpy.argmax(train @ centres.T + noise, axis=1)
    sets = (hashes(7, 3, ROWS * 3).reshape(ROWS, 3) % numpy.uint64(3) == 0) | (train[:, :3] > 0.6)
    softmax = [{"c": c, "probabilities": fit(train, classes, c).predict_proba(test).tolist()}
               for c in (0.1, 1.0, 100.0)]
    two = numpy.minimum(classes, 1)
    sigmoid = [{"c": c, "probabilities": numpy.stack(
        [fit(train, sets[:, label], c).predict_proba(test)[:, 1] for label in range(3)], axis=1).tolist()}
        for c in (0.1, 10.0)]
    binary = [{"c": c, "probabilities": fit(train, two, c).predict_proba(test).tolist()} for c in (1.0, 10.0)]
    assert len(set(classes.tolist())) == CLASSES and 0.1 < sets.mean() < 0.9
    json.dump({
        "version": 1, "made_with": {"scikit-learn": sklearn.__version__, "numpy": numpy.__version__},
        "train": train.tolist(), "test": test.tolist(),
        "classes": classes.tolist(), "two_classes": two.tolist(), "sets": sets.astype(int).tolist(),
        "softmax": softmax, "binary": binary, "sigmoid": sigmoid,
    }, sys.stdout, indent=None)
    print()


if __name__ == "__main__":
    main()
