"""An image whose certificate is under way: which samples it needs, what they say."""

from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from lps_tf.certification.stopping import Prior, StoppingRule
from lps_tf.sets.protocol import Conditioned

#: The two streams of an image's noise: what chooses the class must not bound it.
SELECTION, ESTIMATION = 0, 1


class Block(NamedTuple):
    """Consecutive samples of an image's noise, a part of a device batch.

    Attributes:
        stream: SELECTION or ESTIMATION.
        start: Number of the first sample in its stream.
        used: How many samples count; the last block of a stream may be cut short.
    """

    stream: int
    start: int
    used: int


class Estimate(NamedTuple):
    """What the samples of an image say so far; p_lower and radius of the last check.

    Attributes:
        successes: How often the chosen class was predicted, int32.
        num_samples: Out of how many samples, int32 scalar.
        next_check: After how many samples to decide, int32 scalar.
        stop: Whether to take no more, boolean scalar.
        p_lower: Lower bounds, float64 of the shape of the successes.
        radius: Radii of the same shape.
    """

    successes: tf.Tensor
    num_samples: tf.Tensor
    next_check: tf.Tensor
    stop: tf.Tensor
    p_lower: tf.Tensor
    radius: tf.Tensor


def first_estimate(rule: StoppingRule, shape: Any) -> Estimate:
    """The estimate before any sample, for predictions of a shape."""
    return Estimate(
        successes=tf.zeros(shape, tf.int32),
        num_samples=tf.constant(0),
        next_check=tf.convert_to_tensor(rule.next_check(0)),
        stop=tf.constant(False),
        p_lower=tf.zeros(shape, tf.float64),
        radius=tf.zeros(shape, tf.float64),
    )


def advance(
    rule: StoppingRule,
    prior: Prior,
    estimate: Estimate,
    successes: tf.Tensor,
    used: tf.Tensor,
) -> Estimate:
    """Takes in an image's blocks of a device batch, in order, until the rule stops.

    The one stopping loop: eager certificates and SavedModels run it. A block after the
    stop is left out, so that the result is that of the blocks one by one.

    Args:
        rule: When to stop.
        prior: What the rule may use of the image besides.
        estimate: Estimate from the blocks before.
        successes: Successes of each block, int32 (blocks, ...).
        used: How many samples of each block count, int32 (blocks,); 0 adds nothing.
    """

    def add(i: tf.Tensor, before: Estimate) -> tuple[tf.Tensor, Estimate]:
        now = before._replace(
            successes=before.successes + successes[i],
            num_samples=before.num_samples + used[i],
        )

        def decided() -> Estimate:
            decision = rule.decide(now.successes, now.num_samples, prior)
            return now._replace(
                next_check=tf.convert_to_tensor(rule.next_check(now.num_samples)),
                stop=decision.stop | (now.num_samples >= rule.n),
                p_lower=decision.p_lower,
                radius=decision.radius,
            )

        return i + 1, tf.cond(
            now.num_samples >= before.next_check, decided, lambda: now
        )

    return tf.while_loop(
        lambda i, estimate: (i < tf.size(used)) & ~estimate.stop,
        add,
        (tf.constant(0), estimate),
    )[1]


#: `advance` as a graph, which all samplers share.
advance_compiled = tf.function(advance, autograph=False)


class DeviceBatch(Protocol):
    """The shape of a device batch; `NoiseSampler` has it."""

    @property
    def block_size(self) -> int:
        """Number of samples of a block."""
        ...

    @property
    def num_blocks(self) -> int:
        """Number of blocks of a batch."""
        ...


class CertificationTask:
    """An image whose samples are under way.

    Args:
        row: Row of the image in the batch that it came in.
        index: Index of the image in its data set.
        conditioned: The image as the set has conditioned it, a batch of one.
        batch: Shape of the device batches that draw its samples.
        n0: Number of samples of selection.
        rule: When estimation stops; None for selection alone.
        uniform: The image's own number in (0, 1], which a rule may use.

    Attributes:
        counts: How often each class was predicted in selection, (..., classes).
        estimate: What estimation says; None before its first samples.
        done: Whether it needs no more samples.
    """

    def __init__(
        self,
        row: int,
        index: int,
        conditioned: Conditioned,
        batch: DeviceBatch,
        n0: int,
        rule: StoppingRule | None,
        uniform: float = 1.0,
    ):
        self.row, self.index, self.conditioned = row, index, conditioned
        self.counts: Any = 0
        self.estimate: Estimate | None = None
        self.done = False
        self._batch, self._rule = batch, rule
        self._n0, self._uniform = n0, uniform
        lengths = [(SELECTION, n0)] + ([(ESTIMATION, rule.n)] if rule else [])
        size = batch.block_size
        self._blocks = [
            Block(stream, start, min(size, length - start))
            for stream, length in lengths
            for start in range(0, length, size)
        ]
        self._asked = self._recorded = 0
        self._needed = int(rule.next_check(0)) if rule else 0

    def next_block(self, ahead: bool) -> Block | None:
        """The next block to draw, None if there is none.

        Args:
            ahead: Whether to go beyond what the next decision needs.
        """
        if self._asked == len(self._blocks):
            return None
        block = self._blocks[self._asked]
        if block.stream == ESTIMATION and block.start >= self._needed and not ahead:
            return None
        self._asked += 1
        return block

    def record(self, blocks: list[Block], counts: np.ndarray) -> None:
        """Takes in the counts of its blocks of a device batch, in order of asking.

        Args:
            blocks: What `next_block` gave.
            counts: Counts of each block, (blocks, ..., classes).
        """
        self._recorded += len(blocks)
        selects = np.array([block.stream == SELECTION for block in blocks])
        self.counts = self.counts + counts[selects].sum(0)
        if self._rule is None:
            self.done = self._recorded == len(self._blocks)
        elif not selects.all():
            used = np.array([block.used for block in blocks], np.int32)
            self._estimate(self._rule, used[~selects], counts[~selects])

    def _estimate(
        self, rule: StoppingRule, used: np.ndarray, counts: np.ndarray
    ) -> None:
        """Takes in blocks of estimation: used samples (blocks,), and their counts."""
        # (blocks, ..., 1): of each pixel the class that selection has chosen. All of
        # its blocks came before.
        chosen = self.counts.argmax(-1)[None, ..., None]
        successes = np.take_along_axis(counts, chosen, -1)[..., 0]
        before = self.estimate or first_estimate(rule, successes.shape[1:])
        now = before._replace(
            successes=before.successes + successes.sum(0, dtype=np.int32),
            num_samples=before.num_samples + used.sum(dtype=np.int32),
        )
        if now.num_samples >= before.next_check:
            # Filled up to a full batch, so that it is one graph.
            missing = self._batch.num_blocks - len(used)
            rest = [(0, 0)] * (successes.ndim - 1)
            successes = np.pad(successes, [(0, missing), *rest])
            used = np.pad(used, (0, missing))
            now = advance_compiled(rule, self._prior(), before, successes, used)
        # As arrays, which are faster to add up block by block.
        self.estimate = now = tf.nest.map_structure(np.asarray, now)
        self._needed, self.done = int(now.next_check), bool(now.stop)

    def _prior(self) -> Prior:
        """What the rule may use of the image; tensors, to be of one graph."""
        # (..., classes) -> (...): how often the class that was chosen was predicted.
        successes = tf.constant(self.counts.max(-1), tf.int32)
        uniform = tf.constant(self._uniform, tf.float64)
        return Prior(successes, tf.constant(self._n0), uniform)
