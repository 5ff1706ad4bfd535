"""What a classifier predicts under noise: samples of many images share batches."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from lps_tf._internal import outputs
from lps_tf._internal.fixed import Fixed
from lps_tf.certification.ellipsoids import Sigma
from lps_tf.certification.stopping import STEP, Prior, StoppingRule
from lps_tf.certification.task import (
    Block,
    CertificationTask,
    Estimate,
    advance,
    first_estimate,
)
from lps_tf.sets import latent
from lps_tf.sets.protocol import (
    Conditioned,
    LatentSet,
    decode_compiled,
    require_hashable,
)


class Source(NamedTuple):
    """Which noise to draw: ints, or int32 scalars in a graph.

    Attributes:
        seed: Seed of all noise.
        index: Index of the image in its data set.
        stream: SELECTION or ESTIMATION.
    """

    seed: Any
    index: Any
    stream: Any


# A graph of its own, because a batch holds many blocks.
@tf.function(autograph=False)
def block_noise(block: tf.Tensor, seed: tf.Tensor, size: int, dim: int) -> tf.Tensor:
    """The noise of one block.

    Args:
        block: int32 (4,): index of the image, stream, number of the first sample, and
            how many count, which makes no difference here.
        seed: int32 scalar.
        size: Number of samples, a part of STEP.
        dim: Number of latent dimensions.

    Returns:
        Standard normal noise, (size, dim).
    """
    index, stream, start, _ = tf.unstack(block)
    key = tf.stack([0, seed])
    for number in (index, stream, start // STEP):
        key = latent.fold_in(key, number)
    # Always drawn STEP at a time, so that no sample depends on the size of a block.
    noise = latent.standard_normal((STEP, dim), key)
    return tf.slice(noise, [start % STEP, 0], [size, dim])


#: Stream of an image's keys after SELECTION and ESTIMATION: that of its own number.
_UNIFORM = 2


def own_uniform(seed: Any, index: Any) -> tf.Tensor:
    """A number of an image's own in (0, 1], float64; independent of its noise.

    Args:
        seed: Seed of all noise.
        index: Index of the image in its data set.
    """
    key = tf.stack([0, seed])
    for number in (index, _UNIFORM):
        # Keys of 64-bit numbers are others, and a graph has 32 bits.
        key = latent.fold_in(key, tf.cast(number, tf.int32))
    # In 64 bits: a level that many pixels share is below the steps of 32.
    return 1 - tf.random.stateless_uniform((), key, dtype=tf.float64, alg="philox")


class NoiseSampler(Fixed):
    """Counts what a classifier predicts on g(x, sigma * n), n from N(0, I).

    A device batch always has the same shape, so that an image's counts do not depend
    on the other images of the batch, not even by rounding.

    Args:
        classifier: Maps images to logits; see `outputs.logits`.
        perturbation_set: The set g.
        sigma: Standard deviation of the noise, or one for each dimension.
        batch_size: The most samples in a batch.

    Raises:
        ValueError: If the set is not hashable.
    """

    FIXED = ("classifier", "perturbation_set", "sigma", "block_size", "num_blocks")

    def __init__(
        self,
        classifier: outputs.Classifier,
        perturbation_set: LatentSet,
        sigma: Sigma,
        batch_size: int,
    ):
        self.classifier = classifier
        self.perturbation_set = require_hashable(perturbation_set)
        self.sigma = sigma
        # A batch is several blocks, each a part of STEP samples that have one key: the
        # largest part with which the batch is nearly full.
        parts = [p for p in range(STEP, 0, -1) if STEP % p == 0]
        self.block_size = next(
            p for p in parts if batch_size // p * p >= 0.875 * batch_size
        )
        self.num_blocks = batch_size // self.block_size
        self._condition = tf.function(
            lambda images: perturbation_set.condition(images), autograph=False
        )
        self._count: Callable | None = None
        # Endpoints of a SavedModel share this one, in which nothing is compiled.
        self._exported_count = tf.function(
            partial(self.count_predictions, perturbation_set.decode, self._logits),
            autograph=False,
        )

    def _logits(self, images: tf.Tensor) -> tf.Tensor:
        return outputs.logits(self.classifier, images)

    def count_predictions(
        self,
        decode: Callable[[Conditioned, tf.Tensor], tf.Tensor],
        logits: Callable[[tf.Tensor], tf.Tensor],
        conditioned: Conditioned,
        blocks: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Counts of predictions in a batch of blocks; graph code.

        Args:
            decode: The set's, compiled or not.
            logits: The classifier's, compiled or not.
            conditioned: The image of each block, (blocks, ...).
            blocks: int32 (blocks, 4): index of the image, stream, number of the first
                sample, how many samples count. Others are drawn, but not counted.
            seed: int32 scalar.

        Returns:
            Counts, int32 (blocks, ..., classes). A sample whose logits hold NaN counts
            for no class.
        """
        dim = conditioned.mean.shape[1]
        noise = [
            block_noise(block, seed, self.block_size, dim)
            for block in tf.unstack(blocks, self.num_blocks)
        ]
        # (blocks, ...) -> (blocks * block_size, ...), as the samples of a block follow
        # each other in the noise: blocks of (block_size, dim), one after the other.
        repeated = tf.nest.map_structure(
            lambda t: tf.repeat(t, self.block_size, 0), conditioned
        )
        images = decode(repeated, tf.concat(noise, 0) * np.float32(self.sigma))
        return self._sum(logits(images), blocks[:, 3])

    def _sum(self, logits: tf.Tensor, used: tf.Tensor) -> tf.Tensor:
        """Counts (blocks, ..., classes) of the first `used` samples of each block."""
        pixels, num_classes = tf.shape(logits)[1:-1], tf.shape(logits)[-1]
        # (blocks * block_size, ..., classes) -> (blocks, block_size, all pixels)
        grid = (self.num_blocks, self.block_size, -1)
        predictions = tf.reshape(tf.argmax(logits, -1, tf.int32), grid)
        broken = tf.reshape(tf.reduce_any(tf.math.is_nan(logits), -1), grid)
        counted = tf.range(self.block_size) < used[:, None]  # (blocks, block_size)
        # Each block, pixel and class has an index in a long vector; a sample that does
        # not count is sent to -1, where it is dropped. One-hot vectors would take as
        # much memory as the logits.
        size = tf.reduce_prod(pixels)
        cell = tf.range(self.num_blocks)[:, None] * size + tf.range(size)
        # (blocks, 1, pixels) + (blocks, block_size, pixels)
        index = cell[:, None] * num_classes + predictions
        index = tf.where(counted[..., None] & ~broken, index, -1)
        counts = tf.math.unsorted_segment_sum(
            tf.ones_like(index), index, self.num_blocks * size * num_classes
        )
        shape = tf.concat([[self.num_blocks], pixels, [num_classes]], 0)
        return tf.reshape(counts, shape)

    def run(
        self,
        images: tf.Tensor,
        index: np.ndarray,
        seed: int,
        n0: int,
        rule: StoppingRule | None,
    ) -> Iterator[CertificationTask]:
        """Draws for every image until it is done; yields the tasks as they are.

        Images whose rule has stopped leave the batches and later ones take their
        rows.

        Args:
            images: Images, (batch, height, width, channels).
            index: Index of each image in its data set.
            seed: Seed of the noise.
            n0: Number of samples of selection.
            rule: When estimation stops; None for selection alone.
        """
        waiting = list(range(len(images)))
        active: list[CertificationTask] = []
        while True:
            batch: list[tuple[CertificationTask, Block]] = []
            self._fill(batch, active, ahead=False)
            while waiting and len(batch) < self.num_blocks:
                rows, waiting = waiting[: self.num_blocks], waiting[self.num_blocks :]
                conditioned = self._conditioned(images, rows)
                new = [
                    CertificationTask(
                        row,
                        index[row],
                        one,
                        self,
                        n0,
                        rule,
                        float(own_uniform(seed, index[row])),
                    )
                    for row, one in zip(rows, conditioned, strict=False)
                ]
                self._fill(batch, new, ahead=False)
                active += new
            # Rows that would stay empty go to what may be needed later.
            self._fill(batch, active, ahead=True)
            if not batch:
                return
            self._draw(batch, seed)
            yield from (task for task in active if task.done)
            active = [task for task in active if not task.done]

    def _fill(self, batch: list, tasks: list[CertificationTask], ahead: bool) -> None:
        """Adds blocks to the batch, those of the first tasks first."""
        for task in tasks:
            while len(batch) < self.num_blocks and (block := task.next_block(ahead)):
                batch.append((task, block))

    def _conditioned(self, images: tf.Tensor, rows: list[int]) -> list[Conditioned]:
        # The last chunk is filled up, to keep its shape.
        rows = (rows + [rows[-1]] * self.num_blocks)[: self.num_blocks]
        conditioned = self._condition(tf.gather(images, rows))
        return [
            tf.nest.map_structure(lambda t, i=i: t[i : i + 1], conditioned)
            for i in range(self.num_blocks)
        ]

    def _draw(self, batch: list[tuple[CertificationTask, Block]], seed: int) -> None:
        """Draws a batch of blocks, and tells each task its counts."""
        blocks = np.zeros((self.num_blocks, 4), np.int32)
        blocks[: len(batch)] = [(task.index, *block) for task, block in batch]
        # Empty rows repeat an image, to keep the shape; none of their samples counts.
        tasks = [task for task, _ in batch]
        filled = tasks + tasks[:1] * (self.num_blocks - len(batch))
        conditioned = tf.nest.map_structure(
            lambda *rows: tf.concat(rows, 0), *(task.conditioned for task in filled)
        )
        if self._count is None:
            self._count = self._compiled()
        counts = self._count(conditioned, blocks, tf.constant(seed)).numpy()
        for task in dict.fromkeys(tasks):
            mine = [i for i, other in enumerate(tasks) if other is task]
            task.record([batch[i][1] for i in mine], counts[mine])

    def _compiled(self) -> Callable:
        """`count_predictions`, in which XLA compiles what it can."""

        def logits(images: tf.Tensor) -> tf.Tensor:
            can = outputs.compiles(self.classifier, images.shape[1:])
            return tf.function(self._logits, jit_compile=can, autograph=False)(images)

        decode = partial(decode_compiled, self.perturbation_set)
        return tf.function(
            partial(self.count_predictions, decode, logits), autograph=False
        )

    # Graph code for one image, what SavedModels run.

    def batch(
        self, conditioned: Conditioned, n: tf.Tensor, i: tf.Tensor, source: Source
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The i-th batch of n samples of one image.

        Args:
            conditioned: The image, once for each block.
            n: Number of samples in all.
            i: Number of the batch.
            source: Which noise to draw.

        Returns:
            Counts, int32 (blocks, ..., classes), and how many samples of each block
            count, (blocks,).
        """
        start = (i * self.num_blocks + tf.range(self.num_blocks)) * self.block_size
        used = tf.clip_by_value(n - start, 0, self.block_size)
        same = [tf.fill((self.num_blocks,), v) for v in (source.index, source.stream)]
        blocks = tf.stack([*same, start, used], 1)  # (blocks, 4)
        return self._exported_count(conditioned, blocks, source.seed), used

    def count(
        self, conditioned: Conditioned, n: tf.Tensor, source: Source
    ) -> tf.Tensor:
        """How often each class is predicted in n samples of one image; see `batch`."""

        def add(i: tf.Tensor, counts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            more, _ = self.batch(conditioned, n, i, source)
            return i + 1, counts + tf.reduce_sum(more, 0)

        first = add(tf.constant(0), tf.constant(0))
        size = self.num_blocks * self.block_size
        return tf.while_loop(lambda i, counts: i * size < n, add, first)[1]

    def estimate(
        self,
        conditioned: Conditioned,
        chosen: tf.Tensor,
        prior: Prior,
        rule: StoppingRule,
        source: Source,
    ) -> Estimate:
        """Samples of one image until the rule stops; see `batch`.

        Args:
            conditioned: The image, once for each block.
            chosen: The class whose predictions are successes, of the shape of a
                prediction.
            prior: What the rule may use of the image besides.
            rule: When to stop.
            source: Which noise to draw.
        """

        def add(i: tf.Tensor, before: Estimate) -> tuple[tf.Tensor, Estimate]:
            counts, used = self.batch(conditioned, rule.n, i, source)
            one_hot = tf.one_hot(chosen, tf.shape(counts)[-1], dtype=tf.int32)
            # (blocks, ..., classes) -> (blocks, ...)
            successes = tf.reduce_sum(counts * one_hot, -1)
            return i + 1, advance(rule, prior, before, successes, used)

        first = first_estimate(rule, tf.shape(chosen))
        return tf.while_loop(
            lambda i, estimate: ~estimate.stop, add, (tf.constant(0), first)
        )[1]
