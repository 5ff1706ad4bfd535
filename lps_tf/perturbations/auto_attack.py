"""AutoAttack in latent space: several attacks, each on what the others left."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from lps_tf._internal import checks, outputs, xla
from lps_tf._internal.fixed import Adjustable
from lps_tf._internal.outputs import Classifier
from lps_tf.perturbations import scheduler
from lps_tf.perturbations.base import LatentAttack, worse
from lps_tf.perturbations.fab import LatentFAB
from lps_tf.perturbations.losses import (
    cross_entropy,
    over_image,
    segmentation,
    targeted_difference_of_logits_ratio,
    towards_target,
)
from lps_tf.perturbations.pgd import LatentAPGD
from lps_tf.perturbations.protocol import AttackResult
from lps_tf.perturbations.square import LatentSquare
from lps_tf.sets import latent
from lps_tf.sets.protocol import Conditioned, LatentSet
from lps_tf.sets.search import Parameters, State

#: Images of a batch and what was found for them: (index, x, y, result).
_Found = tuple[Any, Any, Any, AttackResult | None]


class _CrossEntropyAPGD(LatentAPGD):
    losses = (cross_entropy,)
    names = ("APGD-CE",)


class _TargetedAPGD(LatentAPGD):
    objective = staticmethod(towards_target(targeted_difference_of_logits_ratio))
    names = ("APGD-T",)

    def __init__(self, *args: Any, targets: int, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.targets = targets


class _SegmentationAPGD(LatentAPGD):
    objective = staticmethod(segmentation)
    names = ("APGD-mask-CE", "APGD-balanced-CE", "APGD-JS")
    from_zero = True

    def searches_a_restart(self, num_classes: int) -> int:
        return len(self.names)


class LatentAutoAttack(LatentAttack):
    """AutoAttack in the latent ball: the strongest evaluation (Croce and Hein 2020).

    On a classifier, four attacks after another, each on what survives:

    1. APGD-CE: Auto-PGD on the cross-entropy.
    2. APGD-T: Auto-PGD on the targeted difference of logits ratio, towards one wrong
       class after the other, the likeliest first. The ratio needs four logits: of three
       classes the spread is the first less the third, and of two, or of one logit,
       there is no spread, and the margin is raised itself.
    3. FAB-T: the nearest misclassified latent, towards the same classes; see
       `lps_tf.perturbations.fab`.
    4. Square: random search without gradients; see `lps_tf.perturbations.square`.

    The result says which of them found what. Where Square finds what the others did
    not, gradients are masked.

    On a segmenter (labels of each pixel), Auto-PGD on three losses, from the image
    itself and then from random members; of each image the result with fewest correct
    pixels counts (the segmentation ensemble attack of Croce, Singh and Hein 2024):
    cross-entropy of the pixels that are correct, cross-entropy that balances correct
    and wrong pixels, Jensen-Shannon divergence. Their balls do not shrink from a larger
    one here, and the fourth loss of the paper's code, masked normalised logits, is left
    out. FAB and targets do not apply.

    Held against the authors' implementation (fra31/auto-attack, standard version) in
    the pixel l2 ball, `lps_tf.sets.parametric.L2`, on the first 500 test images of
    Fashion-MNIST and a small network trained against attacks: within 0.5, 1 and 1.5
    theirs leaves 73.6, 62.8 and 37.0% correct, this one 73.4, 63.0 and 37.0%.

    Args:
        perturbation_set: Set to search; calibrated, unless `radius` is given.
        radius: Radius of the ball, default that of the set; it may be set later too.
        steps: Number of steps of each search by gradients.
        targets: Number of wrong classes to aim at; there may be fewer.
        num_queries: Number of changes that a search without gradients tries.
        restarts: Number of searches of each kind.
        seed: Seed of all that is random.

    Raises:
        ValueError: If there is no radius, or a number is not positive.

    References:
        Croce and Hein (2020), "Reliable evaluation of adversarial robustness with an
        ensemble of diverse parameter-free attacks", arXiv:2003.01690.
        Croce, Singh and Hein (2024), "Towards reliable evaluation and fast training of
        robust semantic segmentation models", arXiv:2306.12941.
    """

    FIXED: ClassVar[tuple[str, ...]] = (*LatentAttack.FIXED, "targets", "num_queries")

    targets: int

    def __init__(
        self,
        perturbation_set: LatentSet,
        *,
        radius: float | None = None,
        steps: int = 100,
        targets: int = 9,
        num_queries: int = 1000,
        restarts: int = 1,
        seed: int = 0,
    ):
        steps = checks.count("steps", steps)
        super().__init__(perturbation_set, radius, steps, restarts, seed)
        self.targets = checks.count("targets", targets)
        self.num_queries = checks.count("num_queries", num_queries)
        # Each is told the radius of a search when it is run. They have seeds of their
        # own, so that they do not all start at the same members.
        common: dict[str, Any] = {"radius": self.radius, "restarts": restarts}
        pset = perturbation_set
        self._of_pixels = (_SegmentationAPGD(pset, steps=steps, seed=seed, **common),)
        self._of_images = (
            _CrossEntropyAPGD(pset, steps=steps, seed=seed, **common),
            _TargetedAPGD(pset, steps=steps, seed=seed + 1, targets=targets, **common),
            LatentFAB(pset, steps=steps, seed=seed + 2, targets=targets, **common),
            LatentSquare(pset, num_queries=num_queries, seed=seed + 3, **common),
        )

    def parts(self, y: Any) -> tuple[LatentAttack, ...]:
        """The attacks for labels of images, (batch,), or of pixels, in their order.

        Args:
            y: Labels of a classifier or a segmenter, or probabilities.
        """
        return self._of_pixels if len(y.shape) > 2 else self._of_images

    def find(
        self,
        classifier: Classifier,
        conditioned: Conditioned,
        y: tf.Tensor,
        key: tf.Tensor | None = None,
        parameters: Parameters | None = None,
    ) -> tf.Tensor:
        """The worst latents found, (batch, latent_dim); see `LatentAttack.find`."""
        key = self._keys(key)
        radius = tf.convert_to_tensor(Adjustable.tensor(self, "radius"))
        numbers = {"limit": radius, **(parameters or {})}
        result: State = {}
        for number, part in enumerate(self.parts(y)):
            state = part.searched(
                classifier,
                conditioned,
                y,
                latent.fold_in(key, number),
                numbers,
                result.get("misclassified"),
            )
            # What one attack's rule remembers is of no use to the next one.
            state = {name: state[name] for name in ("misclassified", "loss", "worst")}
            result = worse(result, state) if result else state
        return tf.stop_gradient(result["worst"])

    def stream(
        self,
        classifier: Classifier,
        batches: Iterable[tuple[Any, Any, Any]],
        radii: Sequence[float] | None = None,
        ignore_class: int | None = None,
    ) -> Iterator[tuple[np.ndarray, AttackResult]]:
        """`run` for any number of images; see `LatentAttack.stream`."""
        radii = scheduler.check_radii(radii, self.radius)
        return self._stream(classifier, iter(batches), radii, ignore_class)

    def _stream(
        self,
        classifier: Classifier,
        batches: Iterator[tuple[Any, Any, Any]],
        radii: tuple[float, ...],
        ignore_class: int | None,
    ) -> Iterator[tuple[np.ndarray, AttackResult]]:
        first = next(batches, None)
        if first is None:
            return
        batches = itertools.chain([first], batches)
        found: Iterator[_Found] = ((*batch, None) for batch in batches)
        parts = self.parts(first[2] if tf.is_tensor(first[2]) else np.asarray(first[2]))
        for part in parts:
            run = scheduler.Evaluation(part, classifier, radii, ignore_class).run
            found = _followed(found, run)
        for index, x, y, result in found:
            assert result is not None  # an attack has gone over it
            if isinstance(parts[0], _SegmentationAPGD):
                result = _with_losses(part, classifier, x, y, result, ignore_class)
            yield index, result


def _followed(found: Iterator[_Found], run: Any) -> Iterator[_Found]:
    """What was found, and after it what another attack finds for the rest."""
    taken, same = itertools.tee(found)
    for (_, result), (index, x, y, _) in zip(run(taken), same, strict=False):
        yield index, x, y, result


def _with_losses(
    attack: LatentAttack,
    classifier: Classifier,
    x: Any,
    y: Any,
    result: AttackResult,
    ignore_class: int | None,
) -> AttackResult:
    """A result compared by numbers of pixels, with its cross-entropies instead."""
    pset, x = attack.perturbation_set, checks.images("x", x)
    logits_of, loss = xla.graph_of(_logits, classifier), result.loss.copy()
    for radius, u in enumerate(result.u):
        logits = logits_of(classifier, pset, x, tf.constant(u))
        target = checks.labels_like(y, logits.shape, ignore_class)
        entropy = over_image(cross_entropy(logits, target)).numpy()
        attacked = result.found_by[radius] != "clean"
        loss[radius] = np.where(attacked, entropy, loss[radius])
    return result._replace(loss=loss)


def _logits(
    classifier: Classifier, pset: LatentSet, x: tf.Tensor, u: tf.Tensor
) -> tf.Tensor:
    return outputs.logits(classifier, pset.decode(pset.condition(x), u))
