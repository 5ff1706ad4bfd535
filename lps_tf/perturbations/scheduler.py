"""Attacks at full strength on many examples, each for as long as it holds out."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from lps_tf._internal import checks, outputs, xla
from lps_tf._internal.outputs import Classifier
from lps_tf.perturbations.losses import Loss, all_wrong, cross_entropy, over_image
from lps_tf.sets.protocol import Conditioned, LatentSet
from lps_tf.sets.search import (
    AttackObjective,
    Parameters,
    Problem,
    State,
    UpdateRule,
    search,
)


class AttackResult(NamedTuple):
    """What became of each example at each radius.

    An image counts as a member of its own set: misclassified without any
    perturbation, it counts as misclassified at every radius, and its latents are 0.

    Attributes:
        loss: Cross-entropy at the worst latents found, float32 (radii, batch); of a
            segmenter, summed over labelled pixels.
        success: Whether it was misclassified, at every labelled pixel for a segmenter,
            bool (radii, batch).
        u: These latents, float32 (radii, batch, latent_dim). Where `success`, the
            first ones that were misclassified.
    """

    loss: np.ndarray
    success: np.ndarray
    u: np.ndarray


class Searches(Protocol):
    """What an attack tells of its searches; `LatentAttack` is one."""

    @property
    def perturbation_set(self) -> LatentSet:
        """Set that is searched."""
        ...

    @property
    def rule(self) -> UpdateRule | None:
        """How latents move."""
        ...

    @property
    def objective(self) -> AttackObjective:
        """What they raise."""
        ...

    @property
    def losses(self) -> tuple[Loss, ...]:
        """Losses that searches take in turns."""
        ...

    @property
    def steps(self) -> int:
        """Steps of a search."""
        ...

    @property
    def seed(self) -> int:
        """Seed of the starts."""
        ...

    @property
    def num_searches(self) -> int:
        """Searches of one example."""
        ...

    def parameters(self) -> Parameters:
        """What the rule needs to know."""
        ...

    def begin(self, u: tf.Tensor, radius: tf.Tensor, /) -> State:
        """The state at starts."""
        ...


def check_radii(radii: Sequence[float] | None, default: float) -> tuple[float, ...]:
    """The radii to search, or the one default.

    Raises:
        ValueError: Unless they are positive, finite and ascend.
    """
    radii = (default,) if radii is None else tuple(radii)
    radii = tuple(checks.positive("radii", radius) for radius in radii)
    if not radii or not all(a < b for a, b in pairwise((*radii, np.inf))):
        raise ValueError(f"`radii` must ascend and be finite. Received: radii={radii}")
    return radii


@dataclass
class _Batch:
    """Results of a batch, and how many of its examples are still attacked."""

    index: np.ndarray
    result: AttackResult
    attacked: int = 0


@dataclass
class _Example:
    """One example under attack: at which radius, in which of its searches."""

    batch: _Batch
    row: int
    radius: int = 0
    search: int = 0


@dataclass
class _Arrivals:
    """A batch on the device, (slots, ...), and its rows that wait to be attacked."""

    tensors: Any = None
    waiting: deque = field(default_factory=deque)


class Evaluation:
    """Slots in which examples are attacked until misclassified, or out of searches.

    Slots are attacked together, with one compiled program for their number; whenever
    an eighth of them is done, the next examples take their place. What happens in one
    slot does not depend on the others.

    Args:
        attack: Attack whose searches are run.
        classifier: Classifier or segmenter.
        radii: Radii of the balls, ascending.
        ignore_class: Label of void pixels; None if there are none.
    """

    def __init__(
        self,
        attack: Searches,
        classifier: Classifier,
        radii: tuple[float, ...],
        ignore_class: int | None = None,
    ):
        self._attack, self._classifier, self._radii = attack, classifier, radii
        self._ignore_class = ignore_class
        self._steps = attack.steps + 1  # the last one looks at where the others led
        self._fixed = attack.parameters()
        self._tensors: Any = None  # (conditioned, y) of what is in the slots
        self._slots: list[_Example | None] = []
        self._state: dict[str, np.ndarray] = {}

    def run(
        self, batches: Iterable[tuple[Any, Any, Any]]
    ) -> Iterator[tuple[np.ndarray, AttackResult]]:
        """Yields (index, AttackResult) of each batch (index, x, y), in order."""
        open_batches: deque[_Batch] = deque()
        arrivals = self._arrivals(iter(batches), open_batches)
        while True:
            self._fill(arrivals)
            # In order: a batch that is done waits for those in front of it.
            while open_batches and not open_batches[0].attacked:
                batch = open_batches.popleft()
                yield batch.index, batch.result
            if not any(self._slots):
                return
            self._advance()

    def _arrivals(
        self, batches: Iterator, open_batches: deque[_Batch]
    ) -> Iterator[tuple[Any, int, _Example]]:
        """Examples to attack: tensors of some batch, the row in them, the example."""
        for index, x, y in batches:
            x, index = checks.images("x", x), np.asarray(index)
            rows = len(x)
            if not self._slots:
                self._slots = [None] * rows
            slots = len(self._slots)
            if not rows == len(y) == len(index) <= slots:
                raise ValueError(
                    f"A batch must have as many labels and numbers as images, and at "
                    f"most {slots} as the first one. Received: {rows} images, {len(y)} "
                    f"labels, {len(index)} numbers"
                )
            # Programs are compiled for one size: a small batch repeats its last image.
            fill = np.minimum(np.arange(slots), rows - 1)
            x, y = tf.gather(x, fill), tf.gather(y, fill)
            logits = self._predict(x)
            y = checks.labels_like(y, logits.shape, self._ignore_class)
            wrong = all_wrong(logits, y).numpy()[:rows]
            loss = over_image(cross_entropy(logits, y)).numpy()[:rows]
            batch = self._record(index, wrong, loss)
            open_batches.append(batch)
            pset = self._attack.perturbation_set
            tensors = xla.graph_of(_condition, pset)(pset, x), y
            # Only those that are correct need an attack.
            for row in np.flatnonzero(~wrong).tolist():
                yield tensors, row, _Example(batch, row)

    def _predict(self, x: tf.Tensor) -> tf.Tensor:
        can = outputs.compiles(self._classifier, tuple(x.shape[1:]))
        return xla.graph_of(outputs.logits, self._classifier, can)(self._classifier, x)

    def _record(self, index: np.ndarray, wrong: np.ndarray, loss: np.ndarray) -> _Batch:
        shape = (len(self._radii), len(index))
        # An image that needs no perturbation is misclassified at every radius.
        dim = self._attack.perturbation_set.latent_dim
        result = AttackResult(
            np.broadcast_to(np.where(wrong, loss, -np.inf), shape).copy(),
            np.broadcast_to(wrong, shape).copy(),
            np.zeros((*shape, dim), np.float32),
        )
        return _Batch(index, result, int((~wrong).sum()))

    def _fill(self, arrivals: Iterator[tuple[Any, int, _Example]]) -> None:
        """Puts examples into the free slots, as long as there are any."""
        # `rows` says which row of the arriving batch each slot gets. Whole batches are
        # copied at a time, because each copy goes through all tensors.
        source: Any = None
        rows: dict[int, int] = {}
        begun: list[int] = []
        while not self._slots or None in self._slots:
            tensors, row, example = next(arrivals, (None, 0, None))
            if tensors is not source:  # those of the batch before are all taken
                self._take(source, rows)
                source, rows = tensors, {}
            if example is None:
                break
            slot = self._slots.index(None)
            self._slots[slot], rows[slot] = example, row
            begun.append(slot)
        self._take(source, rows)
        self._begin(begun)

    def _take(self, source: Any, rows: dict[int, int]) -> None:
        if not rows:
            return
        if self._tensors is None:
            self._tensors = source
        slots = len(self._slots)
        # Of (2 * slots, ...), the old rows and the new ones: each slot keeps its own,
        # or takes the new row that it was given.
        which = np.arange(slots)
        for slot, row in rows.items():
            which[slot] = slots + row
        self._tensors = tf.nest.map_structure(
            lambda old, new: tf.gather(tf.concat([old, new], 0), which),
            self._tensors,
            source,
        )

    def _begin(self, slots: list[int]) -> None:
        """Starts the next search of the examples in these slots."""
        if not slots:
            return
        dim = self._attack.perturbation_set.latent_dim
        u = np.zeros((len(self._slots), dim), np.float32)
        for slot in slots:
            example = self._slots[slot]
            assert example is not None
            u[slot] = self._start(example, dim)
        # The state of all slots, (slots, ...); only those that begin take theirs.
        fresh = self._attack.begin(tf.constant(u), tf.constant(self._radius()))
        fresh = {name: value.numpy() for name, value in fresh.items()}
        if not self._state:
            # Empty slots count as misclassified: nothing is done for them.
            empty = np.ones(len(self._slots), bool)
            self._state = {**fresh, "misclassified": empty}
        for name, value in fresh.items():
            self._state[name][slots] = value[slots]

    def _radius(self) -> np.ndarray:
        return np.array([self._radii[e.radius if e else 0] for e in self._slots], "f4")

    def _start(self, example: _Example, dim: int) -> np.ndarray:
        """The start of a search, by seed, example and search alone.

        Whatever else is attacked, and in which slot, an example starts where it would
        start alone.
        """
        key = np.array([self._attack.seed, example.batch.index[example.row]])
        random = np.random.Generator(
            np.random.Philox(
                key=key.astype(np.uint64), counter=[0, 0, 0, example.search]
            )
        )
        direction = random.standard_normal(dim)
        length = random.uniform() * self._radii[example.radius]
        return length * direction / np.linalg.norm(direction)

    def _advance(self) -> None:
        """Attacks until enough slots are done, and takes in their results."""
        attack, slots = self._attack, len(self._slots)
        busy = sum(example is not None for example in self._slots)
        number = len(attack.losses)
        loss_index = [e.search % number if e else 0 for e in self._slots]
        conditioned, y = self._tensors
        problem = Problem(
            attack.rule,
            attack.objective,
            attack.perturbation_set,
            self._classifier,
            conditioned,
            y,
            {
                "radius": tf.constant(self._radius()),
                "loss_index": tf.constant(loss_index),
                **self._fixed,
            },
            tf.constant(self._steps),
        )
        state = search(
            problem,
            tf.constant(slots - busy + max(1, busy // 8)),
            {name: tf.constant(value) for name, value in self._state.items()},
        )
        self._state = {name: value.numpy().copy() for name, value in state.items()}
        done = self._state["misclassified"] | (self._state["step"] >= self._steps)
        again = []
        for slot in np.flatnonzero(done).tolist():
            if self._slots[slot] is None:
                continue
            if self._next_search(slot):
                again.append(slot)
            else:
                self._slots[slot] = None
                self._state["misclassified"][slot] = True
        self._begin(again)

    def _next_search(self, slot: int) -> bool:
        """Notes what a finished search found; whether the example has another one."""
        example, state = self._slots[slot], self._state
        assert example is not None
        loss, success, u = example.batch.result
        if not np.isfinite([state["loss"][slot], *state["u"][slot]]).all():
            raise ValueError(
                "An attack says nothing of a loss or gradient that is not finite, as "
                f"found around image {example.batch.index[example.row]}."
            )
        wrong, at = state["misclassified"][slot], (example.radius, example.row)
        if wrong or state["loss"][slot] > loss[at]:
            loss[at], success[at] = state["loss"][slot], wrong
            u[at] = state["worst"][slot]
        example.search += 1
        if example.search == self._attack.num_searches or wrong:
            # What was found in this ball is in all larger ones.
            later = (slice(example.radius, None), example.row)
            loss[later], success[later], u[later] = loss[at], success[at], u[at]
            example.radius, example.search = example.radius + 1, 0
            if wrong or example.radius == len(self._radii):
                example.batch.attacked -= 1
                return False
        return True


def _condition(perturbation_set: LatentSet, x: tf.Tensor) -> Conditioned:
    return perturbation_set.condition(x)
