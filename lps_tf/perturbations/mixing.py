"""What AugMix and PRIME share: chains of random transformations, mixed at random."""

from abc import abstractmethod
from typing import ClassVar

import tensorflow as tf

from lps_tf._internal import checks
from lps_tf._internal.describing import described
from lps_tf._internal.fixed import Fixed
from lps_tf._internal.outputs import Classifier
from lps_tf.sets import latent

#: Chains that are mixed, and the most transformations of one, as both papers train.
CHAINS, DEPTH = 3, 3


class MixedChains(Fixed):
    """Images mixed with chains of random transformations of themselves.

    m x + (1 - m) sum_i w_i g_i(x) of each image, where each of three g_i is a chain of
    one to three transformations; m from Beta(1, 1), w from Dirichlet(1, 1, 1)
    (Hendrycks et al. 2020, algorithm 1). Every image has its own numbers.

    Args:
        num_samples: Number of augmented versions of each image.
        seed: Seed of the calls that are given no key.

    Raises:
        ValueError: If there is no version.
    """

    FIXED: ClassVar[tuple[str, ...]] = ("num_samples", "seed")

    adversarial = False

    def __init__(self, *, num_samples: int = 2, seed: int = 0):
        self.num_samples = checks.count("num_samples", num_samples)
        self.seed = seed
        self._keys = latent.Keys(seed)

    def __repr__(self) -> str:
        return described(self, num_samples=self.num_samples, seed=self.seed)

    def __call__(
        self,
        classifier: Classifier,
        x: tf.Tensor,
        y: tf.Tensor,
        key: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Augmented images.

        Args:
            classifier: Not used: what is done to an image does not depend on it.
            x: Images in [0, 1], (batch, height, width, channels).
            y: Labels, (batch,), or probabilities, (batch, classes); not used.
            key: Key of the call's random numbers, two int32.

        Returns:
            Images in [0, 1], (num_samples, *shape of x); of one sample, of the shape
            of x.

        Raises:
            ValueError: If the labels are maps: transformations move pixels away from
                theirs.
        """
        if tf.convert_to_tensor(y).shape.rank > 2:
            raise ValueError(
                f"{type(self).__name__} moves pixels, and labels are to stay: use it "
                "with one label an image, and members of a perturbation set for "
                f"segmenters. Received: labels of shape {tuple(y.shape)}"
            )
        x = tf.cast(x, tf.float32)
        keys = latent.split(self._keys(key), 3 + DEPTH)
        # Samples and chains of an image are images of one batch, and are transformed
        # together: (num_samples * CHAINS * batch, height, width, channels).
        chains = tf.tile(x, (self.num_samples * CHAINS, 1, 1, 1))
        depth = latent.whole_numbers(tf.shape(chains)[:1], DEPTH, keys[0]) + 1
        for step in range(DEPTH):
            transformed = self._transformed(chains, keys[3 + step])
            chains = latent.where(step < depth, transformed, chains)
        shape = tf.shape(x)
        chains = tf.reshape(
            chains, tf.concat([[self.num_samples, CHAINS], shape], 0)
        )  # (num_samples, CHAINS, batch, height, width, channels)
        # Exponential variables over their sum are of the Dirichlet distribution.
        parts = -tf.math.log(
            latent.uniform((self.num_samples, CHAINS, shape[0]), keys[1])
        )
        weights = parts / tf.reduce_sum(parts, 1, keepdims=True)
        mixed = tf.reduce_sum(weights[..., None, None, None] * chains, 1)
        share = latent.uniform((self.num_samples, shape[0]), keys[2])
        share = share[..., None, None, None]
        # A mean of numbers in [0, 1] is there too but for rounding.
        images = tf.clip_by_value(share * x + (1 - share) * mixed, 0.0, 1.0)
        images = tf.ensure_shape(images, (self.num_samples, *x.shape))
        return images[0] if self.num_samples == 1 else images

    @abstractmethod
    def _transformed(self, x: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Images in [0, 1], each under a random transformation of its own."""
