"""What latent attacks share: starts, restarts, and the two ways to run them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lps_tf._internal import checks
from lps_tf.perturbations import scheduler
from lps_tf.perturbations.losses import cross_entropy, predictions
from lps_tf.perturbations.scheduler import AttackResult
from lps_tf.sets import latent
from lps_tf.sets.perturbation_set import PerturbationSet
from lps_tf.sets.protocol import Conditioned
from lps_tf.sets.search import Rule, State, initial, search


class LatentAttack:
    """A search of the latent ball for what a classifier gets wrong.

    Subclasses set `rule` and `losses`, and may give `numbers`, `begin` and `chosen`.
    """

    adversarial = True
    #: How latents move; a function, so that attacks of one kind share what compiles.
    rule: Rule | None = None
    #: Each restart takes the next of them. The first one is the cross-entropy.
    losses: tuple[Callable, ...] = (cross_entropy,)

    def __init__(
        self,
        perturbation_set: PerturbationSet,
        radius: float | None,
        steps: int,
        restarts: int,
        seed: int,
    ):
        self.perturbation_set = perturbation_set
        self.radius = perturbation_set.require_radius(radius)
        if self.radius == float("inf"):
            raise ValueError("`radius` must be finite. Received: radius=inf")
        self.steps = steps
        self.restarts = checks.count("restarts", restarts)
        self.seed = seed
        self._seeds = latent.Keys(seed)

    @property
    def objective(self) -> Callable:
        """What the search raises; see `lps_tf.perturbations.search`."""
        return predictions(self.losses)

    @property
    def runs(self) -> int:
        """Searches of one example: its restarts, for each of the losses."""
        return self.restarts * len(self.losses)

    def numbers(self) -> dict[str, Any]:
        """What the rule needs to know beside each example's radius."""
        return {}

    def begin(self, u: tf.Tensor, radius: tf.Tensor) -> State:
        """The state at starts u, (batch, latent_dim), in balls of radius (batch,)."""
        return initial(u)

    # In a graph, for training.

    def __call__(
        self,
        classifier: keras.layers.Layer,
        x: tf.Tensor,
        y: tf.Tensor,
        seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The worst perturbation found, for each image.

        Args:
            classifier: maps images to logits (batch, classes) or, for a segmenter,
                (batch, height, width, classes).
            x: images, (batch, height, width, channels).
            y: integer labels, (batch,) or (batch, height, width); or probabilities
                of the shape of the logits, from which to move the prediction away.
            seed: of the starts, two int32.

        Returns:
            Perturbed images of the shape of x.
        """
        conditioned = self.perturbation_set.condition(x)
        u = self.find(classifier, conditioned, y, seed)
        return self.perturbation_set.decode(conditioned, u)

    def find(
        self,
        classifier: keras.layers.Layer,
        conditioned: Conditioned,
        y: tf.Tensor,
        seed: tf.Tensor | None = None,
        numbers: dict[str, tf.Tensor] | None = None,
    ) -> tf.Tensor:
        """The latents to train on, (batch, latent_dim).

        Args:
            classifier: as for a call; so are y and seed.
            conditioned: the images, as the set's `condition` gives them.
            y: labels or probabilities.
            seed: of the starts.
            numbers: of the objective, if it needs more than the attack's own.
        """
        seed = self._seeds(seed)
        rows, dim = tf.shape(conditioned.mean)[0], conditioned.mean.shape[1]
        radius = tf.fill((rows,), self.radius)
        result: State = {}
        for run in range(self.runs):
            u = latent.sample_uniform_radius(
                (rows, dim), self.radius, latent.fold_in(seed, run)
            )
            kind = tf.fill((rows,), run % len(self.losses))
            state = search(
                self.rule,
                self.objective,
                self.perturbation_set,
                classifier,
                conditioned,
                y,
                {"radius": radius, "kind": kind, **self.numbers(), **(numbers or {})},
                tf.constant(max(1, self.steps)),
                rows,
                self.begin(u, radius),
            )
            result = _worse(result, state) if result else state
        return tf.stop_gradient(self.chosen(result))

    def chosen(self, state: State) -> tf.Tensor:
        """Which latents of a finished search to train on."""
        return state["worst"]

    # For evaluation.

    def run(
        self,
        classifier: keras.layers.Layer,
        x: Any,
        y: Any,
        radii: Sequence[float] | None = None,
        index: Sequence[int] | None = None,
        batch_size: int = 32,
    ) -> AttackResult:
        """Attacks images at full strength and says what became of each.

        Args:
            classifier: maps images to logits.
            x: images, (batch, height, width, channels).
            y: integer labels, (batch,) or (batch, height, width).
            radii: of the balls to search, ascending; default the attack's own. They
                share work: who is beaten in one ball is beaten in all larger ones.
            index: number of each image in its data set, default 0, 1, ...; with the
                attack's seed it fixes the starts.
            batch_size: images attacked at once.

        Returns:
            An `AttackResult`.

        Raises:
            ValueError: for radii that do not ascend from above 0, images out of
                [0, 1], labels that the classifier does not have, or if there are
                not as many of them as of images.
        """
        x, y = checks.images("x", x), checks.labels(y)
        index = np.arange(len(x)) if index is None else np.asarray(index)
        if not len(x) == len(y) == len(index):
            raise ValueError(
                "`x`, `y` and `index` must be equally long. "
                f"Received: lengths {len(x)}, {len(y)} and {len(index)}"
            )
        pieces = [slice(i, i + batch_size) for i in range(0, len(x), batch_size)]
        batches = ((index[p], x[p], y[p]) for p in pieces)
        parts = [part for _, part in self.stream(classifier, batches, radii)]
        return AttackResult(*(np.concatenate(p, 1) for p in zip(*parts, strict=True)))

    def stream(
        self,
        classifier: keras.layers.Layer,
        batches: Iterable[tuple[Any, Any, Any]],
        radii: Sequence[float] | None = None,
    ) -> Iterator[tuple[np.ndarray, AttackResult]]:
        """`run` for any number of images, in memory for a few batches.

        An example that is beaten leaves, and one of a later batch takes its place:
        what is beaten costs nothing more.

        Args:
            classifier: maps images to logits.
            batches: of (index, x, y); the first one's size is how many are attacked
                at once.
            radii: as for `run`.

        Yields:
            (index, AttackResult) of each batch, in order.
        """
        radii = scheduler.check_radii(radii, self.radius)
        return scheduler.Evaluation(self, classifier, radii).run(batches)


def _worse(one: State, other: State) -> State:
    """Of two searches, the one that beat the classifier, or has the larger loss."""
    better = other["beaten"] & ~one["beaten"]
    better |= (other["loss"] > one["loss"]) & (other["beaten"] == one["beaten"])
    return {k: latent.where(better, other[k], one[k]) for k in one}
