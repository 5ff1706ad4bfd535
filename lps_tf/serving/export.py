"""SavedModels that load, sample, classify and certify with TensorFlow alone."""

import contextlib
import logging
from pathlib import Path

import keras
import tensorflow as tf

from lps_tf._internal import files, outputs
from lps_tf._internal.progress import quiet
from lps_tf.certification.smoothing import SmoothedClassifier
from lps_tf.certification.stopping import (
    FixedSamples,
    RelativeGain,
    StoppingRule,
    TargetRadius,
)
from lps_tf.robustness.classifier import RobustClassifier
from lps_tf.sets import latent
from lps_tf.sets.perturbation_set import PerturbationSet
from lps_tf.sets.protocol import LatentSet

_FLOAT, _DOUBLE = tf.TensorSpec((), tf.float32), tf.TensorSpec((), tf.float64)
_INT = tf.TensorSpec((), tf.int32)


def export(
    model: PerturbationSet | SmoothedClassifier | RobustClassifier | keras.Model,
    path: str | Path,
) -> Path:
    """Writes a SavedModel; any batch size, no lps_tf needed to load it.

    Load it with `tf.saved_model.load(path)` and call the endpoints; each is a
    signature too.

    | model | endpoint |
    |---|---|
    | PerturbationSet | perturb(x, u): images; u (batch, latent_dim) standardised |
    | | sample(x, radius, seed): images, u truncated to the ball |
    | | encode(x, x_perturbed): standardised latents |
    | | radius(): the calibrated radius, 0 if there is none |
    | classifier | serve(x): logits |
    | SmoothedClassifier | predict(x, n, alpha, seed): classes, -1 where it abstains |
    | | certify(x, n0, n, alpha, seed): dict of prediction, radius, p_lower, samples |
    | | certify_target(x, target_radius, n0, n, alpha, seed): the same, anytime |
    | | certify_share(x, share, n0, n, alpha, seed): the same, anytime |

    x is float32 (batch, height, width, channels) in [0, 1]; n, n0 and seed are
    int32 scalars, radius float32, alpha, target_radius and share float64. Numbers out
    of range give an InvalidArgumentError. Noise is fixed by the seed and an image's
    row in the batch; it is that of `SmoothedClassifier`, images having the index of
    their row, but float rounding may differ. Of a classifier with one logit z, logits
    are [0, z].

    Args:
        model: Model to export.
        path: Folder to write; one that is there is replaced.

    Returns:
        The folder.

    Raises:
        ValueError: For a model that has not seen an image yet, or of no such kind.
    """
    if isinstance(model, RobustClassifier):
        model = model.classifier
    # It saves what the endpoints use. Told of the models too, it would save all twice.
    archive = keras.export.ExportArchive()
    # Counts of predictions have no gradient, so none has to be saved.
    smoothed = isinstance(model, SmoothedClassifier)
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=not smoothed)
    with contextlib.ExitStack() as stack:
        if isinstance(model, PerturbationSet):
            _add_perturbation_set(archive, model)
        elif smoothed:
            _add_smoothed(archive, model)
        elif isinstance(model, keras.Model) and model.built:
            _add_classifier(archive, model)
        else:
            raise ValueError(
                "`model` must be a PerturbationSet, a SmoothedClassifier or a built "
                f"Keras classifier. Received: {model}"
            )
        # It would tell that it has written to a temporary folder.
        stack.enter_context(quiet("tensorflow", logging.WARNING))
        return files.atomically(
            path,
            lambda temporary: archive.write_out(
                str(temporary), options=options, verbose=False
            ),
        )


def _add_classifier(archive: keras.export.ExportArchive, model: keras.Model) -> None:
    images = tf.TensorSpec((None, *_input_shape(model)), tf.float32, name="x")

    def serve(x: tf.Tensor) -> tf.Tensor:
        return outputs.logits(model, x)

    archive.add_endpoint("serve", serve, [images])


def _input_shape(model: keras.Model) -> tuple[int | None, ...]:
    """(height, width, channels) that a model takes, None where any size will do."""
    # A subclass of keras.Model has no static shape; it has kept that of its first call.
    built = (model.get_build_config() or {}).get("input_shape")
    shape = tuple(getattr(model, "input_shape", None) or built or ())
    return shape[1:] if len(shape) == 4 else (None, None, None)


def _named(spec: tf.TensorSpec, name: str) -> tf.TensorSpec:
    return tf.TensorSpec(spec.shape, spec.dtype, name)


def _images(pset: LatentSet, name: str) -> tf.TensorSpec:
    return tf.TensorSpec((None, *pset.image_shape), tf.float32, name)


def _add_perturbation_set(
    archive: keras.export.ExportArchive, pset: PerturbationSet
) -> None:
    x = _images(pset, "x")
    u = tf.TensorSpec((None, pset.latent_dim), tf.float32, "u")

    def perturb(x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        # Plain operations, which run anywhere.
        return pset.decode(pset.condition(x), u)

    def sample(x: tf.Tensor, radius: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        radius = _require(radius, radius > 0, "`radius` must be positive. Received:")
        conditioned = pset.condition(x)
        shape = (tf.shape(x)[0], pset.latent_dim)
        u = latent.sample_truncated_normal(shape, radius, tf.stack([0, seed]))
        return pset.decode(conditioned, u)

    def encode(x: tf.Tensor, x_perturbed: tf.Tensor) -> tf.Tensor:
        return pset.encode(x, x_perturbed)

    radius = pset.radius or 0.0
    archive.add_endpoint("perturb", perturb, [x, u])
    archive.add_endpoint(
        "sample", sample, [x, _named(_FLOAT, "radius"), _named(_INT, "seed")]
    )
    archive.add_endpoint("encode", encode, [x, _images(pset, "x_perturbed")])
    archive.add_endpoint("radius", lambda: tf.constant(radius), [])


class _Smoothed:
    """The endpoints of a smoothed classifier; graph code.

    Args:
        smoothed: Smoothed classifier.
    """

    def __init__(self, smoothed: SmoothedClassifier):
        self.smoothed = smoothed
        self._fixed = smoothed.sigma, smoothed.correction

    def predict(
        self, x: tf.Tensor, n: tf.Tensor, alpha: tf.Tensor, seed: tf.Tensor
    ) -> tf.Tensor:
        """Classes, -1 where it abstains."""
        n, alpha = _count("n", n), _probability("alpha", alpha)
        return tf.map_fn(
            lambda i: self.smoothed.predict_one(x[i : i + 1], n, alpha, seed, i),
            tf.range(tf.shape(x)[0]),
            fn_output_signature=tf.int64,
        )

    def certify(
        self,
        x: tf.Tensor,
        n0: tf.Tensor,
        n: tf.Tensor,
        alpha: tf.Tensor,
        seed: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Certificates with a fixed number of samples."""
        n, alpha = _count("n", n), _probability("alpha", alpha)
        sigma, correction = self._fixed
        return self._certified(x, n0, seed, FixedSamples(sigma, n, alpha, correction))

    def certify_target(
        self,
        x: tf.Tensor,
        target_radius: tf.Tensor,
        n0: tf.Tensor,
        n: tf.Tensor,
        alpha: tf.Tensor,
        seed: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Certificates of a radius, yes or no."""
        message = "`target_radius` must be positive. Received:"
        radius = _require(target_radius, target_radius > 0, message)
        n, alpha = _count("n", n), _probability("alpha", alpha)
        sigma, correction = self._fixed
        rule = TargetRadius(sigma, n, alpha, correction, radius)
        return self._certified(x, n0, seed, rule)

    def certify_share(
        self,
        x: tf.Tensor,
        share: tf.Tensor,
        n0: tf.Tensor,
        n: tf.Tensor,
        alpha: tf.Tensor,
        seed: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Certificates until more samples would add less than a share."""
        share = _probability("share", share)
        n, alpha = _count("n", n), _probability("alpha", alpha)
        sigma, correction = self._fixed
        rule = RelativeGain(sigma, n, alpha, correction, share)
        return self._certified(x, n0, seed, rule)

    def _certified(
        self, x: tf.Tensor, n0: tf.Tensor, seed: tf.Tensor, rule: StoppingRule
    ) -> dict[str, tf.Tensor]:
        n0 = _count("n0", n0)
        # Image by image, so that the loop of one stops whenever its rule does.
        columns = tf.map_fn(
            lambda i: self.smoothed.certify_one(x[i : i + 1], n0, rule, seed, i),
            tf.range(tf.shape(x)[0]),
            fn_output_signature=(tf.int64, tf.float64, tf.float64, tf.int32),
        )
        names = ("prediction", "radius", "p_lower", "samples")
        return dict(zip(names, columns, strict=True))


def _add_smoothed(
    archive: keras.export.ExportArchive, smoothed: SmoothedClassifier
) -> None:
    x = _images(smoothed.perturbation_set, "x")
    alpha, seed = _named(_DOUBLE, "alpha"), _named(_INT, "seed")
    numbers = [_named(_INT, "n0"), _named(_INT, "n"), alpha, seed]
    target, share = _named(_DOUBLE, "target_radius"), _named(_DOUBLE, "share")
    endpoints = _Smoothed(smoothed)
    archive.add_endpoint("predict", endpoints.predict, [x, *numbers[1:]])
    archive.add_endpoint("certify", endpoints.certify, [x, *numbers])
    archive.add_endpoint(
        "certify_target", endpoints.certify_target, [x, target, *numbers]
    )
    archive.add_endpoint("certify_share", endpoints.certify_share, [x, share, *numbers])


def _require(value: tf.Tensor, condition: tf.Tensor, message: str) -> tf.Tensor:
    with tf.control_dependencies([tf.debugging.Assert(condition, [message, value])]):
        return tf.identity(value)


def _count(name: str, n: tf.Tensor) -> tf.Tensor:
    return _require(n, n > 0, f"`{name}` must be at least 1. Received:")


def _probability(name: str, value: tf.Tensor) -> tf.Tensor:
    inside = (value > 0) & (value < 1)
    return _require(
        value, inside, f"`{name}` must lie strictly between 0 and 1. Received:"
    )
