"""Expected numbers for crates/eval/src/statistics.rs, from scipy and statsmodels.

Run: python reference/statistics_goldens.py > crates/eval/tests/data/statistics.json
Made with scipy 1.17 and statsmodels 0.15; any version with these functions gives the same numbers.
"""

import json
import random

import numpy
import scipy
import statsmodels
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportion_confint


def wilson():
    cases = [(0, 2), (1, 2), (0, 100), (100, 100), (3, 10), (87, 100), (2281, 2570)]
    return [{"passed": k, "n": n, "interval": proportion_confint(k, n, 0.05, "wilson")} for k, n in cases]


def mcnemar_p():
    cases = [(1, 0), (0, 6), (3, 3), (5, 12), (40, 61), (120, 300)]
    return [{"first": b, "second": c, "p": mcnemar([[0, b], [c, 0]], exact=True).pvalue} for b, c in cases]


def differences(n, shift, seed):
    source = random.Random(seed)
    return [source.choice([-0.5, -0.25, 0, 0, 0.25, 0.5, shift]) for _ in range(n)]


def mean(x, axis):
    return numpy.mean(x, axis=axis)


def permutation():
    rows = []
    for values in [[0.5, 0.25], [1, 1, 1, 1, 1, 1], [0.5, -0.25, 0.75, 0, 0.25, 0.5, -0.5, 1], differences(12, 0.75, 1)]:
        test = stats.permutation_test((values,), mean, permutation_type="samples", vectorized=True, n_resamples=numpy.inf)
        rows.append({"differences": values, "p": float(test.pvalue), "exact": True})
    for values in [differences(60, 0.5, 2), differences(100, 0.25, 3)]:
        generator = numpy.random.default_rng(0)
        test = stats.permutation_test(
            (values,), mean, permutation_type="samples", vectorized=True, n_resamples=200_000, rng=generator
        )
        rows.append({"differences": values, "p": float(test.pvalue), "exact": False})
    return rows


def bootstrap():
    rows = []
    for values in [differences(60, 0.5, 4), differences(200, 0.25, 5), [1.0] * 9 + [0.0]]:
        result = stats.bootstrap(
            (values,), numpy.mean, method="percentile", n_resamples=200_000, batch=10_000, rng=numpy.random.default_rng(0)
        )
        interval = result.confidence_interval
        rows.append({"values": values, "low": float(interval.low), "high": float(interval.high)})
    return rows


def holm():
    cases = [[0.01, 0.04, 0.03, 0.005], [0.5], [0.2, 0.9, 0.0001, 0.2, 0.6]]
    return [{"p": p, "adjusted": list(map(float, multipletests(p, method="holm")[1]))} for p in cases]


def rows_needed():
    rows = []
    for values in [differences(100, 0.3, 6), differences(40, 1.0, 7)]:
        effect = abs(numpy.mean(values)) / numpy.std(values, ddof=1)
        n = NormalIndPower(ddof=0).solve_power(effect, alpha=0.05, power=0.8, ratio=0, alternative="two-sided")
        rows.append({"differences": values, "n": float(n)})
    return rows


print(
    json.dumps(
        {
            "made_with": {"scipy": scipy.__version__, "statsmodels": statsmodels.__version__},
            "wilson": wilson(),
            "mcnemar": mcnemar_p(),
            "permutation": permutation(),
            "bootstrap": bootstrap(),
            "holm": holm(),
            "rows_needed": rows_needed(),
        },
        indent=1,
    )
)
