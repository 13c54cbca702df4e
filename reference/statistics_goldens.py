"""Expected numbers for crates/eval/src/statistics, from scipy and statsmodels.

Run: python reference/statistics_goldens.py > crates/eval/tests/data/statistics.json
Made with scipy 1.17 and statsmodels 0.15; any version with these functions gives the same numbers.
"""

import functools
import json
import random

import numpy
import scipy
import statsmodels
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import (
    proportion_confint,
    proportion_effectsize,
    samplesize_proportions_2indep_onetail,
)


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


def cluster_bootstrap():
    """Whole clusters redrawn with numpy, with the percentiles moved out as Hesterberg's expanded interval does."""
    rows = []
    for seed, count in [(8, 12), (9, 40)]:
        source = random.Random(seed)
        clusters = [
            [min(1.0, max(0.0, 0.2 * source.randrange(-2, 3) + base)) for _ in range(source.randrange(1, 8))]
            for base in [source.choice([0.2, 0.5, 0.9]) for _ in range(count)]
        ]
        sums = numpy.array([sum(c) for c in clusters])
        sizes = numpy.array([len(c) for c in clusters])
        picked = numpy.random.default_rng(0).integers(0, count, (200_000, count))
        means = sums[picked].sum(axis=1) / sizes[picked].sum(axis=1)
        tail = stats.norm.cdf(numpy.sqrt(count / (count - 1)) * stats.t.ppf(0.025, count - 1))
        low, high = numpy.quantile(means, [tail, 1 - tail])
        rows.append({"clusters": clusters, "low": float(low), "high": float(high)})
    return rows


def t_test():
    rows = []
    for values, margin in [(differences(60, 0.5, 10), 0.05), (differences(40, -0.5, 11), 0.02)]:
        test = stats.ttest_1samp(values, -margin, alternative="greater")
        rows.append({"differences": values, "margin": margin, "p": float(test.pvalue)})
    return rows


def tango():
    """Tango's score statistic from its definition: the likelihood of the table is maximised under the hypothesis by a
    numerical search, not by the closed form that the program uses."""
    from scipy.optimize import minimize_scalar

    rows = []
    for gained, lost, n, margin in [(10, 12, 200, 0.05), (0, 0, 200, 0.02), (30, 10, 100, 0.1), (3, 9, 150, 0.1), (0, 4, 60, 0.1)]:
        d = -margin  # rate gained minus rate lost under the hypothesis

        def minus_log_likelihood(q):
            cells = [(gained, q + d), (lost, q), (n - gained - lost, 1 - 2 * q - d)]
            return -sum(count * numpy.log(max(p, 1e-300)) for count, p in cells if count)

        q = minimize_scalar(minus_log_likelihood, bounds=(margin, (1 + margin) / 2), method="bounded", options={"xatol": 1e-13}).x
        statistic = (gained - lost - n * d) / numpy.sqrt(n * (2 * q + d - d * d))
        rows.append({"gained": gained, "lost": lost, "n": n, "margin": margin, "p": float(stats.norm.sf(statistic))})
    return rows


def effects():
    rows = []
    for lost, gained, both, neither in [(5, 12, 60, 23), (1, 0, 3, 6), (40, 61, 300, 99)]:
        n = lost + gained + both + neither
        before, after = (lost + both) / n, (gained + both) / n
        rows.append(
            {"lost": lost, "gained": gained, "both": both, "neither": neither, "cohen_h": float(proportion_effectsize(after, before))}
        )
    return rows


def standardised():
    rows = []
    for values in [differences(50, 0.5, 12), differences(30, -0.25, 13)]:
        # Student's t of the differences is the standardised difference times the root of n.
        d = stats.ttest_1samp(values, 0).statistic / numpy.sqrt(len(values))
        rows.append({"differences": values, "d": float(d)})
    return rows


def unpaired_rows():
    rows = []
    for accuracy, d, power in [(0.8, 0.05, 0.8), (0.5, 0.1, 0.9), (0.9, 0.02, 0.8)]:
        # It halves the level itself.
        n = samplesize_proportions_2indep_onetail(d, accuracy, power, ratio=1, alpha=0.05)
        rows.append({"accuracy": accuracy, "difference": d, "power": power, "n": float(n)})
    return rows


def paired_rows():
    """Rows at which the normal power of the paired test reaches the asked one: solved, not from the closed form."""
    from scipy.optimize import brentq

    rows = []
    for discordance, d, power in [(0.2, 0.05, 0.8), (0.1, 0.03, 0.9), (0.3, 0.1, 0.8)]:
        def missing(n):
            bound = stats.norm.ppf(0.975) * numpy.sqrt(discordance / n)
            return stats.norm.sf(bound, loc=d, scale=numpy.sqrt((discordance - d * d) / n)) - power

        rows.append({"discordance": discordance, "difference": d, "power": power, "n": float(brentq(missing, 2, 1e6))})
    return rows


def exact_rows():
    """The first number of rows at which the exact McNemar test finds the difference, in its direction, with the asked
    chance: every number of differing rows and of losses among them is gone through."""
    rows = []
    for discordance, d, power in [(0.2, 0.05, 0.8), (0.1, 0.03, 0.9), (0.3, 0.1, 0.8), (0.05, 0.05, 0.8)]:
        gain = (discordance + d) / (2 * discordance)

        @functools.cache
        def found(k):
            told = [g for g in range(k + 1) if 2 * g > k and stats.binomtest(g, k, 0.5).pvalue <= 0.05]
            return float(stats.binom.sf(min(told) - 1, k, gain)) if told else 0.0

        def chance(n):
            weights = stats.binom.pmf(numpy.arange(n + 1), n, discordance)
            return sum(w * found(k) for k, w in enumerate(weights) if w > 1e-14)

        n = 6
        while chance(n) < power:
            n += 1
        case = {"discordance": discordance, "difference": d, "power": power, "n": n}
        rows.append({**case, "chance": chance(n), "chance_of_one_less": chance(n - 1)})
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
            "cluster_bootstrap": cluster_bootstrap(),
            "t_test": t_test(),
            "tango": tango(),
            "effects": effects(),
            "standardised": standardised(),
            "unpaired_rows": unpaired_rows(),
            "paired_rows": paired_rows(),
            "exact_rows": exact_rows(),
        },
        indent=1,
    )
)
