"""Attacks at full strength on many examples, each for as long as it holds out."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import tensorflow as tf

from lps_tf._internal import checks, outputs, xla
from lps_tf._internal.outputs import Classifier
from lps_tf.perturbations.losses import (
    all_wrong,
    cross_entropy,
    likeliest_others,
    over_image,
)
from lps_tf.perturbations.protocol import NAME, AttackResult, Searches
from lps_tf.sets.protocol import Conditioned, LatentSet
from lps_tf.sets.search import (
    Problem,
    search,
)


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
    """One example under attack: at which radius, in which of its searches.

    Attributes:
        batch: Batch of its result.
        row: Row of it there.
        targets: Wrong classes that searches aim at in turns, (targets,).
        end: Index of the first radius at which it is known to be misclassified.
        radius: Index of the radius at which it is attacked.
        search: Number of its searches there that are over.
    """

    batch: _Batch
    row: int
    targets: np.ndarray
    end: int
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
        self._searches = 1  # of a restart, once the number of classes is known
        self._tensors: Any = None  # (conditioned, y) of what is in the slots
        self._slots: list[_Example | None] = []
        self._state: dict[str, np.ndarray] = {}

    def run(
        self, batches: Iterable[tuple[Any, Any, Any, AttackResult | None]]
    ) -> Iterator[tuple[np.ndarray, AttackResult]]:
        """Yields (index, AttackResult) of each batch, in order.

        Args:
            batches: Batches (index, x, y, before): `before` is what an earlier attack
                found at the same radii, and only what survived it is attacked.
        """
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
        for index, x, y, before in batches:
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
            if before is None:
                wrong = all_wrong(logits, y).numpy()[:rows]
                loss = over_image(cross_entropy(logits, y)).numpy()[:rows]
                before = self._unattacked(wrong, loss)
            # Success goes on to larger radii: the first of them is where to end.
            ends = (~before.success).sum(0)
            copied = AttackResult(*(value.copy() for value in before))
            batch = _Batch(index, copied, int((ends > 0).sum()))
            open_batches.append(batch)
            targets = self._targets(logits, y)
            pset = self._attack.perturbation_set
            tensors = xla.graph_of(_condition, pset)(pset, x), y
            for row in np.flatnonzero(ends).tolist():
                yield tensors, row, _Example(batch, row, targets[row], int(ends[row]))

    def _targets(self, logits: tf.Tensor, y: tf.Tensor) -> np.ndarray:
        """Classes that searches aim at, (rows, targets); one class 0 if at none."""
        self._searches = self._attack.searches_a_restart(logits.shape[-1])
        if self._attack.targets is None:
            return np.zeros((len(logits), 1), np.int32)
        return likeliest_others(logits, y, self._attack.targets).numpy()

    def _predict(self, x: tf.Tensor) -> tf.Tensor:
        can = outputs.compiles(self._classifier, tuple(x.shape[1:]))
        return xla.graph_of(outputs.logits, self._classifier, can)(self._classifier, x)

    def _unattacked(self, wrong: np.ndarray, loss: np.ndarray) -> AttackResult:
        shape = (len(self._radii), len(wrong))
        # An image that needs no perturbation is misclassified at every radius.
        dim = self._attack.perturbation_set.latent_dim
        return AttackResult(
            np.broadcast_to(np.where(wrong, loss, -np.inf), shape),
            np.broadcast_to(wrong, shape),
            np.zeros((*shape, dim), np.float32),
            np.broadcast_to(np.where(wrong, "clean", "").astype(NAME), shape),
        )

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
        if self._attack.from_zero and example.search < self._searches:
            return np.zeros(dim)
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
        turns = [e.search % self._searches if e else 0 for e in self._slots]
        targets = [
            e.targets[min(turn, len(e.targets) - 1)] if e else 0
            for e, turn in zip(self._slots, turns, strict=True)
        ]
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
                "limit": tf.constant(self._radii[-1]),
                "loss_index": tf.constant(turns),
                "target": tf.constant(targets, tf.int32),
                **self._fixed,
            },
            tf.constant(self._steps),
            attack.uses_gradient,
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
        if not np.isfinite([state["loss"][slot], *state["u"][slot]]).all():
            raise ValueError(
                "An attack says nothing of a loss or gradient that is not finite, as "
                f"found around image {example.batch.index[example.row]}."
            )
        wrong = bool(state["misclassified"][slot])
        self._note(example, slot, wrong)
        example.search += 1
        if self._attack.minimum_norm:
            self._note_nearest(example, slot)
            wrong = example.end == 0
        searches = self._attack.restarts * self._searches
        over = example.search == searches
        if over or wrong:
            self._carry_on(example, wrong)
            example.radius, example.search = example.radius + 1, 0
            settles = wrong or self._attack.minimum_norm
            if settles or example.radius == example.end:
                example.batch.attacked -= 1
                return False
        return True

    def _carry_on(self, example: _Example, wrong: bool) -> None:
        """Keeps what was found in a ball in the larger ones too, which hold it.

        Where an earlier attack has settled a radius, what it found first stays, and
        elsewhere what is worse.
        """
        at, result = (example.radius, example.row), example.batch.result
        for radius in range(example.radius, example.end):
            there = radius, example.row
            if wrong or result.loss[at] > result.loss[there]:
                for value in result:
                    value[there] = value[at]

    def _note(self, example: _Example, slot: int, wrong: bool) -> None:
        """Keeps what a search found at its radius, if it is worse than before."""
        result, at = example.batch.result, (example.radius, example.row)
        loss = self._state["loss"][slot]
        if wrong or loss > result.loss[at]:
            self._keep(example, at, loss, wrong, self._state["worst"][slot])

    def _note_nearest(self, example: _Example, slot: int) -> None:
        """Keeps the misclassified latents of least norm at all radii above theirs."""
        radii = np.asarray(self._radii, np.float32)
        first = int(np.searchsorted(radii, self._state["nearest_norm"][slot]))
        loss, u = self._state["nearest_loss"][slot], self._state["nearest"][slot]
        for radius in range(first, example.end):
            self._keep(example, (radius, example.row), loss, True, u)
        example.end = min(example.end, first)

    def _keep(
        self,
        example: _Example,
        at: tuple[int, int],
        loss: np.ndarray,
        wrong: bool,
        u: np.ndarray,
    ) -> None:
        result, names = example.batch.result, self._attack.names
        result.loss[at], result.success[at], result.u[at] = loss, wrong, u
        result.found_by[at] = names[example.search % len(names)]


def _condition(perturbation_set: LatentSet, x: tf.Tensor) -> Conditioned:
    return perturbation_set.condition(x)
