"""How a generator's image G stands for a distribution of perturbed images."""

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


class Bernoulli:
    """Pixels are Bernoulli with mean G (the paper's choice for digits).

    Targets between 0 and 1 give the binary cross-entropy.
    """

    @staticmethod
    def distribution(image: tf.Tensor) -> tfd.Distribution:
        """p(x_perturbed | x, z) for images G of shape (batch, h, w, c)."""
        # A probability of exactly 0 or 1 would give an infinite loss; the bound is
        # float32's resolution below 1, times two.
        probs = tf.clip_by_value(tf.cast(image, tf.float32), 1.2e-7, 1 - 1.2e-7)
        return tfd.Independent(tfd.Bernoulli(probs=probs, dtype=tf.float32), 3)

    @staticmethod
    def reconstruction(image: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """Binary cross-entropy summed over pixels, (batch,), in nats."""
        return -Bernoulli.distribution(image).log_prob(target)


class Gaussian:
    """Pixels are normal with mean G and variance 1 (the paper's choice for photos)."""

    @staticmethod
    def distribution(image: tf.Tensor) -> tfd.Distribution:
        """p(x_perturbed | x, z) for images G of shape (batch, h, w, c)."""
        return tfd.Independent(tfd.Normal(tf.cast(image, tf.float32), 1.0), 3)

    @staticmethod
    def reconstruction(image: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """Sum of squared errors over pixels, (batch,).

        Without the factor 1/2 and the constant of the log-likelihood, as in the
        original code: published beta and learning rates belong to this scale.
        """
        error = tf.square(tf.cast(target, tf.float32) - tf.cast(image, tf.float32))
        return tf.reduce_sum(error, (1, 2, 3))


LIKELIHOODS = {"bernoulli": Bernoulli, "gaussian": Gaussian}
