"""What a classifier answers under noise: draws of many images share batches."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lps_tf.certification.statistics import Rule
from lps_tf.sets import latent
from lps_tf.sets.perturbation_set import PerturbationSet
from lps_tf.sets.protocol import Conditioned

#: Noise comes in blocks of this many draws, each with a seed of its own, and whether
#: to stop is decided at multiples of it. It divides the usual numbers of draws.
BLOCK = 20

#: The two streams of an image's noise: what chooses the class must not bound it.
SELECTION, ESTIMATION = 0, 1

#: `Rule.decide`, as a graph.
Decide = Callable[[Rule, np.ndarray, int], tuple]


def next_check(rule: Rule, drawn: Any) -> Any:
    """After how many draws to decide next; the gaps grow by an eighth."""
    return drawn + BLOCK * (2 + drawn // (8 * BLOCK)) if rule.anytime else rule.n


class Job:
    """An image whose draws are under way.

    Attributes:
        place: of the image among those given to `Draws.run`.
        counts: how often each class was answered in selection, (..., classes).
        drawn: draws of estimation so far.
        conclusion: p_lower and radius, once it is done.
        done: whether there is nothing more to draw.
    """

    def __init__(
        self,
        place: int,
        index: int,
        conditioned: Conditioned,
        unit: int,
        n0: int,
        rule: Rule | None,
        decide: Decide,
    ):
        self.place, self.index, self.conditioned = place, index, conditioned
        self.counts = self._hits = self.drawn = 0
        self.conclusion: tuple = ()
        self.done = False
        self._n0, self._rule, self._decide = n0, rule, decide
        # Each unit is a stream, the number of its first draw and how many count.
        lengths = [(SELECTION, n0)] + ([(ESTIMATION, rule.n)] if rule else [])
        self._units = [
            (stream, start, min(unit, length - start))
            for stream, length in lengths
            for start in range(0, length, unit)
        ]
        self._asked = 0
        self._check = min(next_check(rule, 0), rule.n) if rule else 0

    def ask(self, ahead: bool) -> tuple[int, int, int] | None:
        """The next unit to draw, None if there is none.

        Args:
            ahead: whether to go beyond what the next decision needs.
        """
        if self._asked == len(self._units):
            return None
        stream, start, _ = unit = self._units[self._asked]
        if stream == ESTIMATION and start >= self._check and not ahead:
            return None
        self._asked += 1
        return unit

    def add(self, unit: tuple[int, int, int], counts: np.ndarray) -> None:
        """Takes in the counts (..., classes) of a unit, in the order of asking."""
        stream, start, used = unit
        if self.done:
            return
        if stream == SELECTION:
            self.counts = self.counts + counts
            self.done = self._rule is None and start + used == self._n0
            return
        best = self.counts.argmax(-1)[..., None]
        self._hits = self._hits + np.take_along_axis(counts, best, -1)[..., 0]
        self.drawn = start + used
        if self.drawn < self._check:
            return
        drawn = tf.constant(self.drawn)
        stop, *conclusion = self._decide(self._rule, tf.constant(self._hits), drawn)
        self._check = min(next_check(self._rule, self.drawn), self._rule.n)
        self.done = bool(stop) or self.drawn == self._rule.n
        self.conclusion = tuple(value.numpy() for value in conclusion)


class Draws:
    """Counts the classes that a classifier answers on g(x, sigma * n), n from N(0, I).

    A device batch always has the same shape, so that an image's counts do not depend
    on its company, not even by rounding.

    Args:
        classifier: Keras model from images to logits (batch, ..., classes).
        perturbation_set: the set g, anything that can condition and decode.
        sigma: standard deviation of the noise.
        batch_size: the most draws in a batch.
    """

    def __init__(
        self,
        classifier: keras.Model,
        perturbation_set: PerturbationSet,
        sigma: float,
        batch_size: int,
    ):
        self.classifier, self.perturbation_set = classifier, perturbation_set
        self.sigma = sigma
        # A batch is several units, each a part of a block: the largest part with which
        # the batch is nearly full.
        parts = [p for p in range(BLOCK, 0, -1) if BLOCK % p == 0]
        self.unit = next(p for p in parts if batch_size // p * p >= 0.875 * batch_size)
        self.units = batch_size // self.unit
        self._condition = tf.function(
            lambda images: perturbation_set.condition(images), autograph=False
        )
        # Like decoding, which the set compiles.
        compiled = tf.function(
            self._logits,
            jit_compile=getattr(classifier, "supports_jit", True),
            autograph=False,
        )
        self._tally = tf.function(partial(self.tally, compiled), autograph=False)
        # Endpoints of a SavedModel share this one, in which nothing is compiled.
        self._exported_tally = tf.function(
            partial(self.tally, self._logits), autograph=False
        )

    def _logits(self, images: tf.Tensor) -> tf.Tensor:
        return self.classifier(images, training=False)

    def tally(
        self,
        logits: Callable[[tf.Tensor], tf.Tensor],
        conditioned: Conditioned,
        numbers: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Counts of answers in a batch of units; graph code.

        Args:
            logits: the classifier.
            conditioned: the image of each unit, (units, ...).
            numbers: int32 (units, 4): index of the image, stream, number of the first
                draw, how many draws count. What is beyond is drawn, but not counted.
            seed: int32 scalar.

        Returns:
            Counts, int32 (units, ..., classes). A draw whose logits hold NaN counts
            for no class.
        """
        dim = conditioned.mean.shape[1]
        noise = [self._noise(n, seed, dim) for n in tf.unstack(numbers, self.units)]
        many = tf.nest.map_structure(lambda t: tf.repeat(t, self.unit, 0), conditioned)
        images = self.perturbation_set.decode(many, self.sigma * tf.concat(noise, 0))
        return self._count(logits(images), numbers[:, 3])

    def _noise(self, numbers: tf.Tensor, seed: tf.Tensor, dim: int) -> tf.Tensor:
        """The noise of one unit, (unit, dim)."""
        index, stream, start, _ = tf.unstack(numbers)
        key = tf.stack([0, seed])
        for number in (index, stream, start // BLOCK):
            key = latent.fold_in(key, number)
        block = latent.standard_normal((BLOCK, dim), key)
        return tf.slice(block, [start % BLOCK, 0], [self.unit, dim])

    def _count(self, logits: tf.Tensor, used: tf.Tensor) -> tf.Tensor:
        """Counts (units, ..., classes) of the first `used` draws of each unit."""
        pixels, num_classes = tf.shape(logits)[1:-1], tf.shape(logits)[-1]
        grid = (self.units, self.unit, -1)
        answers = tf.reshape(tf.argmax(logits, -1, tf.int32), grid)
        broken = tf.reshape(tf.reduce_any(tf.math.is_nan(logits), -1), grid)
        counted = tf.range(self.unit) < used[:, None]
        # Each unit, pixel and class has a place in a long vector; a draw that does not
        # count is sent to -1, where it is dropped. One-hot vectors would take as much
        # memory as the logits.
        size = tf.reduce_prod(pixels)
        place = tf.range(self.units)[:, None] * size + tf.range(size)
        place = place[:, None] * num_classes + answers
        place = tf.where(counted[..., None] & ~broken, place, -1)
        counts = tf.math.unsorted_segment_sum(
            tf.ones_like(place), place, self.units * size * num_classes
        )
        return tf.reshape(counts, tf.concat([[self.units], pixels, [num_classes]], 0))

    def run(
        self,
        images: tf.Tensor,
        index: np.ndarray,
        seed: int,
        n0: int,
        rule: Rule | None,
        decide: Decide,
    ) -> Iterator[Job]:
        """Draws for every image until it is done; yields the jobs as they are.

        Images whose rule has stopped leave the batches and later ones take their
        place.

        Args:
            images: (batch, height, width, channels).
            index: number of each image in its data set.
            seed: of the noise.
            n0: draws of selection.
            rule: of estimation, None for selection alone.
            decide: `Rule.decide`.
        """
        waiting = list(range(len(images)))
        active: list[Job] = []
        while True:
            batch: list[tuple[Job, tuple]] = []
            self._fill(batch, active, ahead=False)
            while waiting and len(batch) < self.units:
                chunk, waiting = waiting[: self.units], waiting[self.units :]
                conditioned = self._conditioned(images, chunk)
                new = [
                    Job(i, index[i], one, self.unit, n0, rule, decide)
                    for i, one in zip(chunk, conditioned, strict=False)
                ]
                self._fill(batch, new, ahead=False)
                active += new
            # Places that would stay empty go to what may be needed later.
            self._fill(batch, active, ahead=True)
            if not batch:
                return
            all_counts = self._counts(batch, seed)[: len(batch)]
            for (job, unit), counts in zip(batch, all_counts, strict=True):
                job.add(unit, counts)
            yield from (job for job in active if job.done)
            active = [job for job in active if not job.done]

    def _fill(self, batch: list, jobs: list[Job], ahead: bool) -> None:
        """Adds units to the batch, those of the first jobs first."""
        for job in jobs:
            while len(batch) < self.units and (unit := job.ask(ahead)):
                batch.append((job, unit))

    def _conditioned(self, images: tf.Tensor, places: list[int]) -> list[Conditioned]:
        # The last chunk is filled up, to keep its shape.
        places = (places + [places[-1]] * self.units)[: self.units]
        conditioned = self._condition(tf.gather(images, places))
        return [
            tf.nest.map_structure(lambda t, i=i: t[i : i + 1], conditioned)
            for i in range(self.units)
        ]

    def _counts(self, batch: list, seed: int) -> np.ndarray:
        numbers = np.zeros((self.units, 4), np.int32)
        numbers[: len(batch)] = [(job.index, *unit) for job, unit in batch]
        jobs = [job for job, _ in batch] + [batch[0][0]] * (self.units - len(batch))
        conditioned = tf.nest.map_structure(
            lambda *rows: tf.concat(rows, 0), *(job.conditioned for job in jobs)
        )
        return self._tally(conditioned, numbers, tf.constant(seed)).numpy()

    # Graph code for one image, what SavedModels run.

    def batch(
        self, conditioned: Conditioned, n: tf.Tensor, i: tf.Tensor, *key: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The i-th batch of n draws of one image.

        Args:
            conditioned: the image, once for each unit.
            n: draws in all.
            i: number of the batch.
            *key: seed, index of the image, and stream.

        Returns:
            Counts, int32 (units, ..., classes), and the draws of each unit, (units,).
        """
        seed, index, stream = key
        start = (i * self.units + tf.range(self.units)) * self.unit
        used = tf.clip_by_value(n - start, 0, self.unit)
        same = [tf.fill((self.units,), value) for value in (index, stream)]
        numbers = tf.stack([*same, start, used], 1)
        return self._exported_tally(conditioned, numbers, seed), used

    def count(self, conditioned: Conditioned, n: tf.Tensor, *key: Any) -> tf.Tensor:
        """How often each class is answered in n draws of one image, as in `batch`."""

        def add(i: tf.Tensor, counts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            more, _ = self.batch(conditioned, n, i, *key)
            return i + 1, counts + tf.reduce_sum(more, 0)

        first = add(tf.constant(0), tf.constant(0))
        size = self.units * self.unit
        return tf.while_loop(lambda i, _: i * size < n, add, first)[1]

    def estimate(
        self, conditioned: Conditioned, best: tf.Tensor, rule: Rule, *key: Any
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Draws of one image until the rule stops, as in `batch`.

        Args:
            conditioned: the image, once for each unit.
            best: the class to count, of the shape of an answer.
            rule: when to stop.
            *key: seed, index of the image, and stream.

        Returns:
            p_lower and radius, of the shape of `best`, and draws.
        """

        def body(i: tf.Tensor, *state: Any) -> tuple:
            counts, used = self.batch(conditioned, rule.n, i, *key)
            chosen = tf.one_hot(best, tf.shape(counts)[-1], dtype=tf.int32)
            hits = tf.reduce_sum(counts * chosen, -1)

            def add(
                j: tf.Tensor, total: tf.Tensor, drawn: tf.Tensor, *rest: Any
            ) -> Any:
                total, drawn = total + hits[j], drawn + used[j]
                check, *before = rest

                def decide() -> tuple:
                    stop, *conclusion = rule.decide(total, drawn)
                    stop |= drawn == rule.n
                    check = tf.minimum(next_check(rule, drawn), rule.n)
                    return check, stop, *conclusion

                after = tf.cond(drawn < check, lambda: (check, *before), decide)
                return j + 1, total, drawn, *after

            return i + 1, *tf.while_loop(
                lambda j, _, __, ___, stop, *____: (j < self.units) & ~stop,
                add,
                (0, *state),
            )[1:]

        none = tf.zeros(tf.shape(best), tf.float64)
        check = tf.minimum(next_check(rule, 0), rule.n)
        hits = tf.zeros(tf.shape(best), tf.int32)
        start = (0, hits, 0, check, tf.constant(False), none, none)
        end = tf.while_loop(lambda i, _, __, ___, stop, *____: ~stop, body, start)
        return *end[-2:], end[2]
