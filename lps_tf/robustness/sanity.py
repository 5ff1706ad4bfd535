"""Is a classifier robust, or does the attack fail? Checks that tell them apart.

They are those that the literature on attacks asks for: Athalye, Carlini and Wagner
(2018), "Obfuscated gradients give a false sense of security"; Carlini et al. (2019),
"On evaluating adversarial robustness".
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from lps_tf._internal import checks, outputs
from lps_tf._internal.checks import VOID
from lps_tf._internal.outputs import Classifier
from lps_tf._internal.progress import progress
from lps_tf.perturbations import AttackResult, LatentAPGD, LatentPGD, RandomSearch
from lps_tf.perturbations.losses import cross_entropy
from lps_tf.perturbations.square import LatentSquare
from lps_tf.robustness.report import Check, SanityReport
from lps_tf.robustness.scores import Scorer, attacked, decoded, scorer
from lps_tf.sets import latent
from lps_tf.sets.protocol import LatentSet

_RANDOM, _PGD, _APGD = "random search", "PGD", "APGD"
_MORE_STEPS, _MORE_RESTARTS = "PGD, 3 times the steps", "PGD, 3 restarts"
_MORE_APGD = "APGD, 3 times the steps"
_SQUARE = "Square"

#: Changes that Square tries for each step of the other attacks.
_QUERIES = 50

#: Pairs of attacks of which the first must not find less, what that is called, and
#: what it usually means if it does.
_ORDERS = (
    (
        _PGD,
        _RANDOM,
        "PGD is at least as strong as random search",
        "Gradients lead nowhere: something between the latent and the loss is flat, "
        "saturated, quantised or random (gradient masking), or the steps are too long.",
    ),
    (
        _APGD,
        _PGD,
        "APGD is at least as strong as PGD",
        "The losses or steps of one of the attacks do not suit this classifier; report "
        "the worst of both.",
    ),
    (
        _MORE_STEPS,
        _PGD,
        "more steps do not help the defender",
        "The classifier answers at random, or the attack loses what it has found.",
    ),
    (
        _MORE_RESTARTS,
        _PGD,
        "more restarts do not help the defender",
        "The classifier answers at random, or the attack loses what it has found.",
    ),
    (
        _MORE_APGD,
        _APGD,
        "more steps of APGD do not help the defender",
        "The attack has not converged: report it with more steps, and restarts.",
    ),
)


def sanity_checks(
    classifier: Classifier,
    perturbation_set: LatentSet,
    x: Any,
    y: Any,
    *,
    radii: Sequence[float],
    ignore_class: int | None = None,
    steps: int = 20,
    seed: int = 0,
    verbose: bool = True,
) -> SanityReport:
    """Looks for signs that attacks on a classifier are too weak to be believed.

    A check fails if a difference goes the wrong way by more than three standard
    deviations of what chance does to images that one attack beats and the other
    does not: a hundred images show what ten cannot.

    Passing proves nothing: no such check can.

    Args:
        classifier: Classifier or segmenter.
        perturbation_set: Set to attack in.
        x: Images, (batch, height, width, channels), no more than a classifier takes
            at once.
        y: Labels, (batch,) or (batch, height, width), or one-hot.
        radii: Radii of the balls, those that are reported.
        ignore_class: Label of void pixels, such as 255; None if there are none.
        steps: Number of steps of the attacks, and of latents of the random search;
            Square, which follows no gradient, tries 50 times as many changes.
        seed: Seed of everything random.
        verbose: Whether to show progress.

    Returns:
        A `SanityReport`.

    Raises:
        ValueError: If images or labels do not fit, or a number is bad.
    """
    x = checks.images("x", x)
    y = checks.labels_like(y, outputs.logits(classifier, x[:1]).shape, ignore_class)
    radii = sorted({checks.positive("radii", radius) for radius in radii})
    steps = checks.count("steps", steps)
    pset = perturbation_set
    fixed: dict[str, Any] = {"radius": radii[-1], "seed": seed}
    pgd: dict[str, Any] = {"steps": steps, "relative_step": 2.5 / steps, **fixed}
    attacks = {
        _RANDOM: RandomSearch(pset, num_samples=steps, **fixed),
        _PGD: LatentPGD(pset, **pgd),
        _MORE_STEPS: LatentPGD(pset, **{**pgd, "steps": 3 * steps}),
        _MORE_RESTARTS: LatentPGD(pset, restarts=3, **pgd),
        _APGD: LatentAPGD(pset, steps=steps, **fixed),
        _MORE_APGD: LatentAPGD(pset, steps=3 * steps, **fixed),
        _SQUARE: LatentSquare(pset, num_queries=_QUERIES * steps, **fixed),
    }
    # The labels have the package's own void from here on.
    score = scorer(classifier, ignore_class=VOID)
    clean = score([x], y).correct[0]
    if not (clean > 0).any():
        raise ValueError("Every image is misclassified: there is nothing to attack.")

    huge = 10 * radii[-1]
    work = [(name, r) for name in attacks for r in radii] + [(_APGD, huge)]
    results: dict[tuple[str, float], AttackResult] = {}
    single: dict[tuple[str, float], np.ndarray] = {}
    for name, r in progress(work, "sanity checks", verbose):
        # Each radius on its own: together, what one finds counts for all larger ones.
        results[name, r] = result = attacks[name].run(
            classifier, x, y, [r], ignore_class=VOID
        )
        single[name, r] = attacked(score, pset, x, y, result).correct[0]
    far = single.pop((_APGD, huge))
    correct = {name: np.stack([single[name, r] for r in radii]) for name in attacks}

    smallest = RandomSearch(pset, radius=radii[0], num_samples=1, seed=seed)
    start = smallest.run(classifier, x, y, ignore_class=VOID)
    found = (
        _falls(clean, correct),
        *(
            _order(correct[strong], correct[weak], *rest)
            for strong, weak, *rest in _ORDERS
        ),
        _unmasked(correct),
        _falls_far(clean, np.minimum(correct[_APGD].min(0), far), huge, y),
        _gradients(classifier, pset, x, y, radii[-1], seed),
        _rises(start, results[_PGD, radii[0]]),
        _is_true(score, pset, x, y, [results[_APGD, r] for r in radii], radii, clean),
    )
    accuracy = {
        name: np.nanmean(values, 1).tolist() for name, values in correct.items()
    }
    return SanityReport(found, accuracy, radii, len(x))


def _excess(correct: np.ndarray, other: np.ndarray) -> tuple[bool, float]:
    """Whether `correct` exceeds `other` beyond noise, and by how much at most.

    Args:
        correct: Share of each image that is correct, (cases, n).
        other: The same of what should be no less.
    """
    difference = np.nan_to_num(correct - other)  # images that are void
    total, noise = difference.sum(1), np.sqrt(np.square(difference).sum(1))
    # A segmenter has no noise in this sense: there, one hundredth is let pass.
    beyond = (total > 3 * noise) & (total > 0.01 * difference.shape[1])
    return bool(beyond.any()), float(difference.mean(1).max())


def _falls(clean: np.ndarray, correct: dict[str, np.ndarray]) -> Check:
    both = [np.concatenate([clean[None], correct[name]]) for name in (_PGD, _APGD)]
    beyond, most = _excess(
        np.concatenate([r[1:] for r in both]), np.concatenate([r[:-1] for r in both])
    )
    return Check(
        "accuracy falls with the radius",
        not beyond,
        {"largest change": most},
        "A larger ball holds all that is in a smaller one: the attack does not find "
        "what is there. Take more steps or restarts; look for masked gradients.",
    )


def _order(strong: np.ndarray, weak: np.ndarray, name: str, meaning: str) -> Check:
    beyond, most = _excess(strong, weak)
    return Check(name, not beyond, {"largest change of accuracy": most}, meaning)


def _unmasked(correct: dict[str, np.ndarray]) -> Check:
    """Compares what gradients find with what a search without them finds."""
    by_gradients = np.minimum(correct[_APGD], correct[_MORE_APGD])
    missed = np.nan_to_num(by_gradients - correct[_SQUARE]).clip(0)  # (radii, n)
    share = float(missed.mean(1).max())
    # One image, or two in a hundred, may be of a local optimum.
    return Check(
        "Square finds nothing that APGD does not",
        share <= max(0.02, 1 / missed.shape[1]),
        {"share found by Square alone": share},
        "Gradients are masked on some images, because a search without them finds what "
        "they miss: report the worst of both, as `LatentAutoAttack` does.",
    )


def _falls_far(clean: np.ndarray, far: np.ndarray, huge: float, y: tf.Tensor) -> Check:
    label = np.asarray(y)
    label = label[label != VOID]
    chance = np.unique(label, return_counts=True)[1].max() / label.size
    return Check(
        "accuracy falls far in a huge ball",
        bool(np.nanmean(far) <= max(chance, np.nanmean(clean) / 2)),
        {
            "radius": huge,
            "accuracy": float(np.nanmean(far)),
            "clean": float(np.nanmean(clean)),
            "chance": float(chance),
        },
        "Either the set does not reach what matters to the classifier, or the attack "
        "is stuck where it begins (masked gradients).",
    )


def _gradients(
    classifier: Classifier,
    pset: LatentSet,
    x: tf.Tensor,
    y: tf.Tensor,
    radius: float,
    seed: int,
) -> Check:
    """Compares gradients with differences, in up to 32 directions at a random latent.

    The gradients are the attack's, of float32; the differences are of a loss in
    float64, which goes on falling where that of float32 has become zero.
    """
    most, step = 32, 0.01
    x, y = x[:most], y[:most]
    conditioned = pset.condition(x)
    dim = conditioned.mean.shape[1]
    u = latent.sample_uniform_radius((len(x), dim), radius, tf.constant([seed, 0]))
    random = np.random.RandomState(seed).normal(size=(dim, min(dim, most)))
    directions = np.linalg.qr(random)[0].T.astype(np.float32)

    def loss(u: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        logits = outputs.logits(classifier, pset.decode(conditioned, u))
        losses = cross_entropy(tf.cast(logits, dtype), y)
        return tf.reduce_sum(losses, list(range(1, y.shape.rank)))

    @tf.function(autograph=False)
    def gradient(u: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(u)
            total = tf.reduce_sum(loss(u, tf.float32))
        return tape.gradient(total, u, unconnected_gradients="zero")

    precise = tf.function(lambda u: loss(u, tf.float64), autograph=False)
    numeric = np.stack(
        [precise(u + step * d) - precise(u - step * d) for d in directions], 1
    )
    full = gradient(u).numpy().astype(np.float64)
    analytic = full @ directions.T
    norms = np.linalg.norm(numeric, axis=1) * np.linalg.norm(analytic, axis=1)
    cosine = (numeric * analytic).sum(1) / np.maximum(norms, np.finfo(float).tiny)
    # Attacks take smaller gradients for zero; see `latent.unit`.
    zero = (np.linalg.norm(full, axis=1) < 1e-12).mean()
    return Check(
        "gradients agree with differences of the loss",
        bool(np.median(cosine) > 0.9 and zero < 0.1),
        {"median cosine": float(np.median(cosine)), "share of zeros": float(zero)},
        "Gradients are masked: between the latent and the loss something is cut off, "
        "flat, quantised, random or saturated. Attacks that follow them find too "
        "little; take them around it, or lower the scale of the logits.",
    )


def _rises(start: AttackResult, end: AttackResult) -> Check:
    there = ~start.success[0]  # a misclassified image is not attacked
    before, after = start.loss[0][there], end.loss[0][there]
    alive, images = ~end.success[0][there], max(1, int(there.sum()))
    stays = float((alive & ~(after > before)).sum() / images)
    falls = float((alive & (after < 0.99 * before - 0.01)).sum() / images)
    return Check(
        "PGD raises the loss",
        stays <= 0.1 and falls == 0,
        {"share not risen": stays, "share fallen": falls, "images": int(there.sum())},
        "Where the loss stays what it is at the start, its gradient is zero (masked, "
        "or a cross-entropy that has become 0); where it falls, the steps are too long "
        "or the classifier answers at random.",
    )


def _is_true(
    score: Scorer,
    pset: LatentSet,
    x: tf.Tensor,
    y: tf.Tensor,
    results: list[AttackResult],
    radii: list[float],
    clean: np.ndarray,
) -> Check:
    result = AttackResult(*(np.concatenate(p) for p in zip(*results, strict=True)))
    again = score(decoded(pset, x, result.u), y)
    labelled = np.sum(np.asarray(y) != VOID, tuple(range(1, y.shape.rank)))
    loss = result.loss / np.maximum(labelled, 1)  # summed over pixels there
    same = np.abs(again.loss - loss) <= 0.01 + 0.01 * loss
    same &= ~result.success | (again.correct == 0)
    same = same[:, clean > 0]  # the others need no perturbation
    length = np.linalg.norm(result.u, axis=-1).max(1) / radii
    return Check(
        "what is found is in the ball and as bad as reported",
        bool(same.mean() > 0.95 and length.max() <= 1.001),
        {"share confirmed": float(same.mean()), "norm / radius": float(length.max())},
        "The classifier answers the same image in different ways, or the attack is "
        "broken.",
    )
