"""What latent attacks share: starts, restarts, and the two ways to run them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from lps_tf._internal import checks, outputs
from lps_tf._internal.fixed import Adjustable
from lps_tf._internal.outputs import Classifier, required
from lps_tf.perturbations import scheduler
from lps_tf.perturbations.losses import (
    Loss,
    cross_entropy,
    likeliest_others,
    predictions,
)
from lps_tf.perturbations.of_set import OfSet
from lps_tf.perturbations.protocol import AttackResult
from lps_tf.sets import latent
from lps_tf.sets.protocol import (
    Conditioned,
    LatentSet,
    decode_compiled,
    require_radius,
)
from lps_tf.sets.search import (
    AttackObjective,
    Parameters,
    Problem,
    State,
    UpdateRule,
    initial,
    search,
)


class LatentAttack(OfSet):
    """A search of the latent ball for what a classifier gets wrong.

    Subclasses set `rule` and `losses`, and may give `objective`, `parameters`, `begin`
    and `chosen`.

    The radius may be set at any time, for instance by `RadiusSchedule` while training
    goes on; everything else is fixed.
    """

    FIXED: ClassVar[tuple[str, ...]] = (*OfSet.FIXED, "steps", "restarts")

    adversarial = True
    #: How latents move; a function, so that attacks of one kind share what compiles.
    rule: UpdateRule | None = None
    #: Each restart takes the next of them. The first one is the cross-entropy.
    losses: tuple[Loss, ...] = (cross_entropy,)
    #: What searches on each of the losses are called in reports.
    names: tuple[str, ...] = ("search",)
    #: Number of likeliest wrong classes that a restart aims at, one search for each;
    #: None aims at none.
    targets: int | None = None
    #: Whether the rule needs gradients.
    uses_gradient = True
    #: Whether the first restart begins at u = 0 instead of a random member.
    from_zero = False
    #: Whether a search looks for the misclassified latent of least norm, which settles
    #: all radii at once. Its state has "nearest", "nearest_norm" and "nearest_loss".
    minimum_norm = False

    #: Radius of the ball.
    radius = Adjustable()

    def __init__(
        self,
        perturbation_set: LatentSet,
        radius: float | None,
        steps: int,
        restarts: int,
        seed: int,
    ):
        super().__init__(perturbation_set, seed)
        self.radius = require_radius(perturbation_set, radius)
        self.steps = steps
        self.restarts = checks.count("restarts", restarts)

    @property
    def objective(self) -> AttackObjective:
        """What the search raises; see `lps_tf.sets.search`."""
        return predictions(self.losses)

    def searches_a_restart(self, num_classes: int) -> int:
        """Searches of each restart: one for each loss, or each target there is."""
        if self.targets is None:
            return len(self.losses)
        return min(self.targets, num_classes - 1)

    def parameters(self) -> Parameters:
        """What the rule needs to know beside each example's radius."""
        return {}

    def begin(self, u: tf.Tensor, radius: tf.Tensor) -> State:
        """The state at starts u, (batch, latent_dim), in balls of radius (batch,)."""
        return initial(u)

    # In a graph, for training.

    def __call__(
        self,
        classifier: Classifier,
        x: tf.Tensor,
        y: tf.Tensor,
        key: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The worst perturbation found, for each image.

        Args:
            classifier: Classifier (batch, classes) or segmenter (batch, height, width,
                classes).
            x: Images, (batch, height, width, channels).
            y: Labels, (batch,) or (batch, height, width), -1 where void; or
                probabilities of the shape of the logits, from which to move the
                prediction away.
            key: Key of the starts, two int32; None takes the attack's next one.

        Returns:
            Perturbed images of the shape of x.
        """
        conditioned = self.perturbation_set.condition(x)
        u = self.find(classifier, conditioned, checked_targets(y), key)
        return decode_compiled(self.perturbation_set, conditioned, u)

    def find(
        self,
        classifier: Classifier,
        conditioned: Conditioned,
        y: tf.Tensor,
        key: tf.Tensor | None = None,
        parameters: Parameters | None = None,
    ) -> tf.Tensor:
        """The latents to train on, (batch, latent_dim).

        Args:
            classifier: Classifier or segmenter under attack.
            conditioned: Images, as the set's `condition` gives them.
            y: Labels or probabilities.
            key: Key of the starts; None takes the attack's next one.
            parameters: What the objective needs beside the attack's own.
        """
        key = self._keys(key)
        radius = tf.convert_to_tensor(Adjustable.tensor(self, "radius"))
        numbers = {"limit": radius, **(parameters or {})}
        result = self.searched(classifier, conditioned, y, key, numbers)
        return tf.stop_gradient(self.chosen(result))

    def searched(
        self,
        classifier: Classifier,
        conditioned: Conditioned,
        y: tf.Tensor,
        key: tf.Tensor,
        parameters: Parameters,
        found: tf.Tensor | None = None,
    ) -> State:
        """The state of the worst of all searches; see `find`.

        Args:
            classifier: Classifier or segmenter under attack.
            conditioned: Images, as the set's `condition` gives them.
            y: Labels or probabilities.
            key: Key of the starts.
            parameters: What the objective needs beside the attack's own, and "limit",
                the radius.
            found: Examples to leave alone, bool (batch,).
        """
        rows, dim = tf.shape(conditioned.mean)[0], conditioned.mean.shape[1]
        radius = tf.fill((rows,), parameters["limit"])
        targets = self._targets(classifier, conditioned, y)  # (batch, targets)
        number_of_them = self.searches_a_restart(1 + targets.shape[1])
        result: State = {}
        for number in range(self.restarts * number_of_them):
            u = latent.sample_uniform_radius(
                (rows, dim), parameters["limit"], latent.fold_in(key, number)
            )
            if self.from_zero and number < number_of_them:
                u = tf.zeros_like(u)
            turn = number % number_of_them
            numbers = {
                "radius": radius,
                "loss_index": tf.fill((rows,), turn),
                "target": targets[:, min(turn, targets.shape[1] - 1)],
                **self.parameters(),
                **parameters,
            }
            problem = Problem(
                self.rule,
                self.objective,
                self.perturbation_set,
                classifier,
                conditioned,
                y,
                numbers,
                tf.constant(max(1, self.steps)),
                self.uses_gradient,
            )
            start = self.begin(u, radius)
            if found is not None:
                start["misclassified"] = found
            state = search(problem, rows, start)
            result = worse(result, state) if result else state
        return result

    def _targets(
        self, classifier: Classifier, conditioned: Conditioned, y: tf.Tensor
    ) -> tf.Tensor:
        """Likeliest wrong classes at u = 0, int32 (batch, targets); zeros for none."""
        if self.targets is None:
            return tf.zeros((tf.shape(conditioned.mean)[0], 1), tf.int32)
        images = decode_compiled(
            self.perturbation_set, conditioned, tf.zeros_like(conditioned.mean)
        )
        logits = outputs.logits(classifier, images)
        return likeliest_others(logits, y, self.targets)

    def chosen(self, state: State) -> tf.Tensor:
        """Which latents of a finished search to train on."""
        return state["worst"]

    # For evaluation.

    def run(
        self,
        classifier: Classifier,
        x: Any,
        y: Any,
        radii: Sequence[float] | None = None,
        index: Any = None,
        batch_size: int = 32,
        ignore_class: int | None = None,
    ) -> AttackResult:
        """Attacks images at full strength and says what became of each.

        Args:
            classifier: Classifier or segmenter.
            x: Images, (batch, height, width, channels).
            y: Labels, (batch,) or (batch, height, width), or one-hot.
            radii: Radii of the balls to search, ascending; default the attack's own.
                They share work: an example misclassified at one radius counts as
                misclassified at every larger one.
            index: Index of each image in its data set, default 0, 1, ...; with the
                attack's seed it fixes the starts.
            batch_size: Number of images attacked at once.
            ignore_class: Label of void pixels, such as 255; None if there are none.

        Returns:
            An `AttackResult`.

        Raises:
            ValueError: If radii do not ascend from above 0, images are out of [0, 1],
                the classifier does not have a label, or there are not as many labels
                as images.
        """
        classifier = required(classifier)
        x = checks.images("x", x)
        y = y if tf.is_tensor(y) else np.asarray(y)
        index = np.arange(len(x)) if index is None else np.asarray(index)
        if not len(x) == len(y) == len(index):
            raise ValueError(
                "`x`, `y` and `index` must be equally long. "
                f"Received: lengths {len(x)}, {len(y)} and {len(index)}"
            )
        pieces = [slice(i, i + batch_size) for i in range(0, len(x), batch_size)]
        batches = ((index[p], x[p], y[p]) for p in pieces)
        found = self.stream(classifier, batches, radii, ignore_class)
        parts = [part for _, part in found]
        return AttackResult(*(np.concatenate(p, 1) for p in zip(*parts, strict=True)))

    def stream(
        self,
        classifier: Classifier,
        batches: Iterable[tuple[Any, Any, Any]],
        radii: Sequence[float] | None = None,
        ignore_class: int | None = None,
    ) -> Iterator[tuple[np.ndarray, AttackResult]]:
        """`run` for any number of images, in memory for a few batches.

        An example that is misclassified leaves, and one of a later batch takes its
        place: it costs nothing more.

        Args:
            classifier: Classifier or segmenter.
            batches: Batches (index, x, y); the size of the first one is how many images
                are attacked at once.
            radii: Radii of the balls; see `run`.
            ignore_class: Label of void pixels; None if there are none.

        Yields:
            (index, AttackResult) of each batch, in order.
        """
        radii = scheduler.check_radii(radii, self.radius)
        evaluation = scheduler.Evaluation(self, classifier, radii, ignore_class)
        return evaluation.run((index, x, y, None) for index, x, y in batches)


def checked_targets(y: Any) -> tf.Tensor:
    """Labels of a direct call as int64; probabilities, as float32, stay as they are."""
    y = y if tf.is_tensor(y) else tf.convert_to_tensor(np.asarray(y))
    probabilities = y.dtype.is_floating and y.shape.rank in (2, 4) and y.shape[-1] != 1
    return tf.cast(y, tf.float32) if probabilities else checks.classes(y)


def worse(one: State, other: State) -> State:
    """Of two searches, the one that misclassifies, or has the larger loss.

    Args:
        one: State of a finished search; the result has what this one has.
        other: State of another one of the same examples.
    """
    better = other["misclassified"] & ~one["misclassified"]
    same = other["misclassified"] == one["misclassified"]
    better |= (other["loss"] > one["loss"]) & same
    return {k: latent.where(better, other[k], one[k]) for k in one}
