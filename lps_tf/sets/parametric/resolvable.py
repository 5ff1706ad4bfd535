"""Sets in which perturbing twice is perturbing once, by the sum."""

import tensorflow as tf

from lps_tf.sets.parametric.base import ParametricSet

# Images are float32 in [0, 1]: two perturbations round a few times in the 24th bit.
_ROUNDING = 1e-5


class ResolvableSet(ParametricSet):
    """A set with perturb(perturb(x, u), v) = perturb(x, u + v) where nothing is lost.

    What may be lost is what is clipped, what leaves the image, or what is smoothed
    between two pixels: `resolves` says where nothing is. There the image x can be had
    back from the perturbed one, and all else follows, for every v.
    """

    def resolves(self, x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """Whether perturbing perturb(x, u) by any v is perturbing x by u + v.

        It is, where perturb(perturb(x, u), -u) is x, up to rounding.

        Args:
            x: Images, (batch, height, width, channels).
            u: Standardised latents, (batch, latent_dim).

        Returns:
            Booleans, (batch,).
        """
        back = self.perturb(self.perturb(x, u), -tf.convert_to_tensor(u, tf.float32))
        lost = tf.reduce_max(tf.abs(back - tf.cast(x, tf.float32)), (1, 2, 3))
        return lost <= _ROUNDING
