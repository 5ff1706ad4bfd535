"""One stream of random numbers for each image, the same in whatever batch it is."""

import math
import zlib
from collections.abc import Iterator

import numpy as np


class Streams:
    """Random numbers for a batch of images, each drawn from its image's own stream.

    A stream depends on (seed, name, severity, the image's index) and on nothing else.
    Philox is a function of a key and a counter, so that going to the start of a
    stream costs one assignment: the key holds seed, name and severity, and the
    counter's upper words hold the index and how many random numbers were drawn.

    Args:
        seed: A whole number of at least 0.
        name: Name of the corruption.
        severity: 1 to 5.
        index: Numbers of the images, (n,).
    """

    def __init__(self, seed: int, name: str, severity: int, index: np.ndarray):
        self._index = index
        self._draws = 0
        # Python's own hash of a string differs from process to process.
        key = (seed % 2**64, zlib.crc32(name.encode()) * 8 + severity)
        self._philox = np.random.Philox(key=np.array(key, np.uint64))
        self._generator = np.random.Generator(self._philox)
        self._start = self._philox.state

    def _each(self) -> Iterator[np.random.Generator]:
        """The generator at the start of a stream not used before, for each image."""
        self._draws += 1
        counter = self._start["state"]["counter"]
        for index in self._index:
            counter[2:] = self._draws, int(index)
            self._philox.state = self._start
            yield self._generator

    def normal(self, *shape: int) -> np.ndarray:
        """Standard normal numbers, (n, *shape) float32."""
        result = np.empty((len(self._index), math.prod(shape)), np.float32)
        for generator, place in zip(self._each(), result, strict=True):
            generator.standard_normal(out=place, dtype=np.float32)
        return result.reshape(-1, *shape)

    def uniform(self, *shape: int) -> np.ndarray:
        """Uniform numbers in [0, 1), (n, *shape) float32."""
        result = np.empty((len(self._index), math.prod(shape)), np.float32)
        for generator, place in zip(self._each(), result, strict=True):
            generator.random(out=place, dtype=np.float32)
        return result.reshape(-1, *shape)

    def poisson(self, mean: np.ndarray) -> np.ndarray:
        """Poisson numbers of the given means (n, ...), as float32."""
        result = np.empty(mean.shape, np.float32)
        for generator, place, lam in zip(self._each(), result, mean, strict=True):
            place[...] = generator.poisson(lam)
        return result
