"""Attacks at full strength on many examples, each for as long as it holds out."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from lps_tf._internal import checks
from lps_tf.perturbations.losses import all_wrong, cross_entropy, over_image
from lps_tf.sets.perturbation_set import PerturbationSet
from lps_tf.sets.protocol import Conditioned
from lps_tf.sets.search import search


class AttackResult(NamedTuple):
    """What became of each example at each radius.

    An image counts as a member of its own set: misclassified without any
    perturbation, it is beaten at every radius, and its latents are 0.

    Attributes:
        loss: the cross-entropy at the worst latents found, float32 (radii, batch);
            of a segmenter, summed over pixels.
        success: whether it was misclassified, at every pixel for a segmenter, bool
            (radii, batch).
        u: these latents, float32 (radii, batch, latent_dim). Where `success`, the
            first ones that were misclassified.
    """

    loss: np.ndarray
    success: np.ndarray
    u: np.ndarray


def check_radii(radii: Sequence[float] | None, default: float) -> tuple[float, ...]:
    """The radii to search, or the one default.

    Raises:
        ValueError: unless they are positive, finite and ascend.
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
    """One example under attack: which radius and which run of the attack."""

    batch: _Batch
    row: int
    radius: int = 0
    run: int = 0


@dataclass
class _Arrivals:
    """A batch on the device, (slots, ...), and its rows that wait to be attacked."""

    tensors: Any = None
    waiting: deque = field(default_factory=deque)


class Evaluation:
    """Slots in which examples are attacked until they are beaten or hold out.

    Slots are attacked together, with one compiled program for their number; whenever
    an eighth of them is done, the next examples take their place. What happens in one
    slot does not depend on the others.

    Args:
        attack: one of those in `lps_tf.perturbations.attacks`.
        classifier: maps images to logits.
        radii: ascending.
    """

    def __init__(self, attack: Any, classifier: Any, radii: tuple[float, ...]):
        self._attack, self._classifier, self._radii = attack, classifier, radii
        self._turns = attack.steps + 1  # the last one looks at where the steps led
        self._fixed = attack.numbers()
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
            x, y = checks.images("x", x), checks.labels(y)
            index, rows = np.asarray(index), len(x)
            if not self._slots:
                self._slots = [None] * rows
            slots = len(self._slots)
            if not rows == len(y) == len(index) <= slots:
                raise ValueError(
                    f"A batch must have as many labels and numbers as images, and at "
                    f"most {slots} as the first one. Received: {rows} images, {len(y)} "
                    f"labels, {len(index)} numbers"
                )
            # Programs are compiled for one size.
            fill = np.minimum(np.arange(slots), rows - 1)
            x, y = tf.gather(x, fill), tf.gather(y, fill)
            logits = _predict(self._classifier, x)
            checks.labels(y, logits.shape[-1])
            wrong = all_wrong(logits, y).numpy()[:rows]
            loss = over_image(cross_entropy(logits, y)).numpy()[:rows]
            batch = self._record(index, wrong, loss)
            open_batches.append(batch)
            tensors = _condition(self._attack.perturbation_set, x), y
            for row in np.flatnonzero(~wrong):
                yield tensors, row, _Example(batch, row)

    def _record(self, index: np.ndarray, wrong: np.ndarray, loss: np.ndarray) -> _Batch:
        shape = (len(self._radii), len(index))
        dim = self._attack.perturbation_set.latent_dim
        result = AttackResult(
            np.broadcast_to(np.where(wrong, loss, -np.inf), shape).copy(),
            np.broadcast_to(wrong, shape).copy(),
            np.zeros((*shape, dim), np.float32),
        )
        return _Batch(index, result, int((~wrong).sum()))

    def _fill(self, arrivals: Iterator[tuple[Any, int, _Example]]) -> None:
        """Puts examples into the free slots, as long as there are any."""
        source, rows, begun = None, {}, []
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
        which = np.arange(slots)
        for slot, row in rows.items():
            which[slot] = slots + row
        self._tensors = tf.nest.map_structure(
            lambda old, new: tf.gather(tf.concat([old, new], 0), which),
            self._tensors,
            source,
        )

    def _begin(self, slots: list[int]) -> None:
        """Starts the next run of the examples in these slots."""
        if not slots:
            return
        dim = self._attack.perturbation_set.latent_dim
        u = np.zeros((len(self._slots), dim), np.float32)
        for slot in slots:
            u[slot] = self._start(self._slots[slot], dim)
        fresh = self._attack.begin(tf.constant(u), tf.constant(self._radius()))
        fresh = {name: value.numpy() for name, value in fresh.items()}
        if not self._state:
            # Empty slots count as beaten: nothing is done for them.
            self._state = {**fresh, "beaten": np.ones(len(self._slots), bool)}
        for name, value in fresh.items():
            self._state[name][slots] = value[slots]

    def _radius(self) -> np.ndarray:
        return np.array([self._radii[e.radius if e else 0] for e in self._slots], "f4")

    def _start(self, example: _Example, dim: int) -> np.ndarray:
        """Of a run: by seed, example and run alone, whatever else is attacked."""
        key = np.array([self._attack.seed, example.batch.index[example.row]])
        random = np.random.Generator(
            np.random.Philox(key=key.astype(np.uint64), counter=[0, 0, 0, example.run])
        )
        direction = random.standard_normal(dim)
        length = random.uniform() * self._radii[example.radius]
        return length * direction / np.linalg.norm(direction)

    def _advance(self) -> None:
        """Attacks until enough slots are done, and takes in their results."""
        attack, slots = self._attack, len(self._slots)
        busy = sum(example is not None for example in self._slots)
        kinds = len(attack.losses)
        kind = [example.run % kinds if example else 0 for example in self._slots]
        state = search(
            attack.rule,
            attack.objective,
            attack.perturbation_set,
            self._classifier,
            *self._tensors,
            {
                "radius": tf.constant(self._radius()),
                "kind": tf.constant(kind),
                **self._fixed,
            },
            tf.constant(self._turns),
            tf.constant(slots - busy + max(1, busy // 8)),
            {name: tf.constant(value) for name, value in self._state.items()},
        )
        self._state = {name: value.numpy().copy() for name, value in state.items()}
        done = self._state["beaten"] | (self._state["turn"] >= self._turns)
        again = []
        for slot in np.flatnonzero(done):
            if self._slots[slot] is None:
                continue
            if self._next_run(slot):
                again.append(slot)
            else:
                self._slots[slot] = None
                self._state["beaten"][slot] = True
        self._begin(again)

    def _next_run(self, slot: int) -> bool:
        """Notes what a finished run found; whether the example has another one."""
        example, state = self._slots[slot], self._state
        loss, success, u = example.batch.result
        if not np.isfinite([state["loss"][slot], *state["u"][slot]]).all():
            raise ValueError(
                "An attack says nothing of a loss or gradient that is not finite, as "
                f"found around image {example.batch.index[example.row]}."
            )
        beaten, at = state["beaten"][slot], (example.radius, example.row)
        if beaten or state["loss"][slot] > loss[at]:
            loss[at], success[at] = state["loss"][slot], beaten
            u[at] = state["worst"][slot]
        example.run += 1
        if example.run == self._attack.runs or beaten:
            # What was found in this ball is in all larger ones.
            later = (slice(example.radius, None), example.row)
            loss[later], success[later], u[later] = loss[at], success[at], u[at]
            example.radius, example.run = example.radius + 1, 0
            if beaten or example.radius == len(self._radii):
                example.batch.attacked -= 1
                return False
        return True


@tf.function(autograph=False, reduce_retracing=True, jit_compile=True)
def _predict(classifier: Any, x: tf.Tensor) -> tf.Tensor:
    return tf.cast(classifier(x, training=False), tf.float32)


@tf.function(autograph=False, reduce_retracing=True)
def _condition(perturbation_set: PerturbationSet, x: tf.Tensor) -> Conditioned:
    return perturbation_set.condition(x)
