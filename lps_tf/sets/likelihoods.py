"""How a generator's image G stands for a distribution of perturbed images."""

from typing import Protocol

import tensorflow as tf

from lps_tf._internal.probability import tfd


class Likelihood(Protocol):
    """What a set needs of a likelihood."""

    #: Whether training fits the variance of a pixel; others take no notice of it.
    fits_variance: bool

    @staticmethod
    def distribution(
        image: tf.Tensor, variance: float | tf.Tensor = 1.0
    ) -> tfd.Distribution:
        """p(x_perturbed | x, z) for images G of shape (batch, h, w, c)."""
        ...

    @staticmethod
    def reconstruction(
        image: tf.Tensor, target: tf.Tensor, variance: float | tf.Tensor = 1.0
    ) -> tf.Tensor:
        """How far G is from the target, (batch,): the first term of the objective."""
        ...


class Bernoulli:
    """Pixels are Bernoulli with mean G (the paper's choice for digits).

    Targets between 0 and 1 give the binary cross-entropy.
    """

    fits_variance = False

    @staticmethod
    def distribution(
        image: tf.Tensor, variance: float | tf.Tensor = 1.0
    ) -> tfd.Distribution:
        """p(x_perturbed | x, z) for images G of shape (batch, h, w, c)."""
        # A probability of exactly 0 or 1 would give an infinite loss; the bound is
        # float32's resolution below 1, times two.
        probs = tf.clip_by_value(tf.cast(image, tf.float32), 1.2e-7, 1 - 1.2e-7)
        return tfd.Independent(tfd.Bernoulli(probs=probs, dtype=tf.float32), 3)

    @staticmethod
    def reconstruction(
        image: tf.Tensor, target: tf.Tensor, variance: float | tf.Tensor = 1.0
    ) -> tf.Tensor:
        """Binary cross-entropy summed over pixels, (batch,), in nats."""
        return -Bernoulli.distribution(image).log_prob(target)


class Gaussian:
    """Pixels are normal with mean G and variance 1 (the paper's choice for photos)."""

    fits_variance = False

    @staticmethod
    def distribution(
        image: tf.Tensor, variance: float | tf.Tensor = 1.0
    ) -> tfd.Distribution:
        """p(x_perturbed | x, z) for images G of shape (batch, h, w, c)."""
        return tfd.Independent(tfd.Normal(tf.cast(image, tf.float32), 1.0), 3)

    @staticmethod
    def reconstruction(
        image: tf.Tensor, target: tf.Tensor, variance: float | tf.Tensor = 1.0
    ) -> tf.Tensor:
        """Sum of squared errors over pixels, (batch,).

        Without the factor 1/2 and the constant of the log-likelihood, as in the
        original code: published beta and learning rates belong to this scale.
        """
        error = tf.square(tf.cast(target, tf.float32) - tf.cast(image, tf.float32))
        return tf.reduce_sum(error, (1, 2, 3))


class OptimalGaussian:
    """Pixels are normal with mean G and the one variance that fits best.

    With the mean squared error of a batch as the variance, the summed negative
    log-likelihood is (pixels / 2) log MSE an image plus a constant: maximum likelihood
    weighs reconstruction against KL, and beta stays 1 (Rybkin et al. 2021, sigma-VAE).
    It is the "gaussian" objective with beta = 2 MSE, adapted as training goes.
    """

    fits_variance = True

    @staticmethod
    def distribution(
        image: tf.Tensor, variance: float | tf.Tensor = 1.0
    ) -> tfd.Distribution:
        """p(x_perturbed | x, z) for images G of shape (batch, h, w, c)."""
        image = tf.cast(image, tf.float32)
        return tfd.Independent(tfd.Normal(image, tf.sqrt(variance)), 3)

    @staticmethod
    def reconstruction(
        image: tf.Tensor, target: tf.Tensor, variance: float | tf.Tensor = 1.0
    ) -> tf.Tensor:
        """Negative log-likelihood, (batch,), in nats; below zero for a good fit."""
        return -OptimalGaussian.distribution(image, variance).log_prob(target)

    @staticmethod
    def variance(
        image: tf.Tensor, target: tf.Tensor, weight: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The best variance for a batch: its mean squared error, a constant.

        Through the constant the gradient is the one of (pixels / 2) log MSE: where
        the variance is optimal, its own derivative vanishes.

        Args:
            image: Images G, (batch, height, width, channels).
            target: Perturbed images, of the same shape.
            weight: Weights of the pairs, (batch,); None weighs all alike.
        """
        errors = Gaussian.reconstruction(image, target)
        if weight is None:
            error = tf.reduce_mean(errors)
        else:
            total = tf.reduce_sum(weight)
            error = tf.math.divide_no_nan(tf.reduce_sum(weight * errors), total)
        pixels = tf.cast(tf.reduce_prod(tf.shape(target)[1:]), tf.float32)
        # Overfitted images must not divide by zero: 1e-6 is far below the error that
        # 8 bits a pixel make.
        return tf.stop_gradient(tf.maximum(error / pixels, 1e-6))


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "optimal_gaussian": OptimalGaussian,
}
