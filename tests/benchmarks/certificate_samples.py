"""How many samples certificates take, and what radii: the tables of the documentation.

    python -m tests.benchmarks.certificate_samples [--saved-model FOLDER]

Samples of noise are independent, so a certificate depends on the classifier through the
probability p of the class alone: runs are simulated, for given p, or for those that a
saved smoothed classifier has on test digits. Everything at the same alpha, and after a
selection that is simulated, too.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import scipy.stats
import tensorflow as tf

from lps_tf.certification import evidence, statistics
from lps_tf.certification.stopping import Prior, RelativeGain

ALPHA, N0, N = 1e-3, 100, 10_000
EVIDENCE = ("fixed prior", "Jeffreys' prior", "prior of the selection")


def main() -> None:
    """Prints the tables, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="of each line")
    parser.add_argument("--saved-model", help="folder of a smoothed classifier")
    parser.add_argument("--images", type=int, default=40, help="of the saved model")
    options = parser.parse_args()
    radii_of_fixed_samples(options.runs)
    samples_to_a_target(options.runs)
    if options.saved_model:
        p = probabilities(options.saved_model, options.images)
        real(np.repeat(p, max(1, options.runs // len(p))))


def show(*cells: object) -> None:
    """Prints a line of a table."""
    text = (f"{c:.4g}" if isinstance(c, float) else str(c) for c in cells)
    print("|", " | ".join(text), "|", flush=True)


def heading(*cells: str) -> None:
    """Prints the head of a table."""
    print()
    show(*cells)
    print("|" + "---|" * len(cells))


def radii(k: np.ndarray, n: int, w: np.ndarray | float) -> np.ndarray:
    """Radii of k successes in n samples, in units of sigma; usual bound for w of 1."""
    w = np.broadcast_to(w, k.shape)[:, None]
    bound = statistics.randomised_clopper_pearson_lower(k, n, ALPHA, w)
    return statistics.unit_radius(bound).numpy()


def radii_of_fixed_samples(runs: int) -> None:
    """Mean radii by both bounds."""
    random = np.random.default_rng(0)
    heading("p", "n", "usual bound", "randomised bound", "gain")
    for p in (0.8, 0.95, 0.99, 0.999, 1.0):
        for n in (100, 1000, 10_000):
            k, w = random.binomial(n, p, runs), 1 - random.random(runs)
            usual, ours = radii(k, n, 1.0).mean(), radii(k, n, w).mean()
            show(p, n, f"{usual:.3f}", f"{ours:.3f}", f"{ours / usual - 1:+.1%}")


def checks() -> np.ndarray:
    """After how many samples the anytime rules decide."""
    rule = RelativeGain(1.0, N, ALPHA, "none", 0.1)
    times = [int(rule.next_check(0))]
    while times[-1] < N:
        times.append(int(rule.next_check(times[-1])))
    return np.array(times)


def evidences(k: np.ndarray, n: np.ndarray, p: float, k0: np.ndarray) -> list:
    """Log evidence for each of `EVIDENCE`."""
    rate = k / n
    jeffreys = scipy.special.betaln(k + 0.5, n - k + 0.5) - np.log(np.pi)
    jeffreys -= k * np.log(p) + (n - k) * np.log1p(-p)
    return [
        evidence.log_evidence(k, n, p).numpy(),
        np.where(rate > p, jeffreys, -np.inf),
        evidence.informed_log_evidence(k, n, p, k0, N0).numpy(),
    ]


def stopped(
    p: np.ndarray, target: float, random: np.random.Generator
) -> list[tuple[float, float]]:
    """Mean samples, and share of runs certified, for each of `EVIDENCE`."""
    times = checks()
    steps = np.diff(times, prepend=0)[:, None]
    k = random.binomial(steps, p, (len(times), len(p))).cumsum(0)
    k0 = random.binomial(N0, p)
    failures = evidence.log_evidence(times[:, None] - k, times[:, None], 1 - target)
    given_up = failures.numpy() >= -np.log(evidence.GIVE_UP)
    found = []
    for log_e in evidences(k, times[:, None], target, k0):
        certain = log_e >= -np.log(ALPHA)
        stop = certain | given_up
        stop[-1] = True
        first = stop.argmax(0)
        certified = certain[first, np.arange(len(p))].mean()
        found.append((float(times[first].mean()), float(certified)))
    return found


def samples_to_a_target(runs: int) -> None:
    """Mean samples to a share of the radius that p has."""
    random = np.random.default_rng(0)
    heading("p", "target", "fixed n", *EVIDENCE)
    for p in (0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999):
        for share in (0.5, 0.75, 0.9):
            radius = share * scipy.stats.norm.ppf(p)
            target = scipy.stats.norm.cdf(radius)
            found = stopped(np.full(runs, p), target, random)
            cells = [f"{mean:.0f} ({certified:.0%})" for mean, certified in found]
            needed = statistics.least_samples(partial(nine_of_ten, p, target))
            show(p, f"{share} of the radius", needed if needed < 1e6 else "-", *cells)


def nine_of_ten(p: float, target: float, n: int) -> bool:
    """Whether n samples are enough to certify with probability 0.9; usual bound."""
    needed = scipy.stats.binom.isf(ALPHA, n, target) + 1
    return bool(scipy.stats.binom.sf(needed - 1, n, p) >= 0.9)


def probabilities(folder: str, images: int) -> np.ndarray:
    """How often a saved smoothed classifier's noise gives the class, of test digits."""
    import lps_tf as lps

    data = lps.datasets.mnist5k_rts(batch_size=images)
    x, _ = next(iter(data.test))
    n = 1000
    model = tf.saved_model.load(folder)
    bound = model.certify(tf.constant(x), N0, n, ALPHA, 0)["p_lower"].numpy()
    # Back to the counts of successes, of which there is one for each bound.
    table = statistics.clopper_pearson_lower(np.arange(n + 1), n, ALPHA).numpy()
    return np.abs(bound[:, None] - table).argmin(1) / n


def real(p: np.ndarray) -> None:
    """Certificates of images whose probabilities are p."""
    random = np.random.default_rng(0)
    print("\nProbabilities, deciles:", np.quantile(p, np.linspace(0, 1, 11)).round(4))
    heading("target radius, in sigma", "fixed n", *EVIDENCE)
    for radius in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0):
        found = stopped(p, scipy.stats.norm.cdf(radius), random)
        k, w = random.binomial(N, p), 1 - random.random(len(p))
        fixed = (radii(k, N, w) >= radius).mean()
        cells = [f"{mean:.0f} ({certified:.1%})" for mean, certified in found]
        show(radius, f"{N} ({fixed:.1%})", *cells)
    heading("rule", "mean radius, in sigma", "mean samples")
    bounds: dict[str, Callable[[int], tuple[float, float]]] = {
        "usual bound": lambda n: (
            float(radii(random.binomial(n, p), n, 1.0).mean()),
            n,
        ),
        "randomised bound": lambda n: (
            float(radii(random.binomial(n, p), n, 1 - random.random(len(p))).mean()),
            n,
        ),
    }
    for n in (1000, N):
        for name, bound in bounds.items():
            show(f"n = {n}, {name}", *bound(n))
    for share in (0.05, 0.1, 0.2):
        show(f"share = {share}", *anytime(p[::4], share, random))


def anytime(
    p: np.ndarray, share: float, random: np.random.Generator
) -> tuple[float, float]:
    """Mean radius and mean samples of the rule that stops at a share."""
    rule = RelativeGain(1.0, N, ALPHA, "none", tf.constant(share, tf.float64))
    # Each image on its own: the rule sums over the pixels of one.
    decide = tf.function(rule.decide, autograph=False)
    prior, times = Prior(0, 0, 1.0), checks()
    successes, going = np.zeros(len(p), int), np.arange(len(p))
    found, samples = np.zeros(len(p)), np.full(len(p), N)
    for n, step in zip(times, np.diff(times, prepend=0), strict=True):
        successes[going] += random.binomial(step, p[going])
        k, index = np.unique(successes[going], return_inverse=True)
        each = [decide(tf.constant(c), tf.constant(n), prior) for c in k]
        radius = np.array([float(d.radius) for d in each])[index]
        stop = np.array([bool(d.stop) for d in each])[index] | (n == N)
        found[going[stop]], samples[going[stop]] = radius[stop], n
        going = going[~stop]
        if not going.size:
            break
    return float(found.mean()), float(samples.mean())


if __name__ == "__main__":
    main()
