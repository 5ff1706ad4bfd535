"""SavedModels that load, sample, classify and certify with TensorFlow alone.

Networks also for programs without TensorFlow, as ONNX and LiteRT.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from lps_tf._internal import checks, files, outputs
from lps_tf._internal.progress import quiet
from lps_tf.certification.smoothing import SmoothedClassifier
from lps_tf.certification.stopping import (
    FixedSamples,
    RelativeGain,
    StoppingRule,
    TargetRadius,
)
from lps_tf.robustness.classifier import RobustClassifier
from lps_tf.serving import targets
from lps_tf.sets import latent
from lps_tf.sets.protocol import EncodingSet, LatentSet

_FLOAT, _DOUBLE = tf.TensorSpec((), tf.float32), tf.TensorSpec((), tf.float64)
_INT = tf.TensorSpec((), tf.int32)


def export(
    model: LatentSet | SmoothedClassifier | RobustClassifier | keras.Model,
    path: str | Path,
    format: Literal["saved_model", "onnx", "litert"] = "saved_model",
    *,
    image_shape: Sequence[int] | None = None,
) -> Path:
    """Writes a model for other programs; no lps_tf needed to load it.

    A SavedModel takes any batch size. Load it with `tf.saved_model.load(path)` and call
    the endpoints; each is a signature too.

    | model | endpoint |
    |---|---|
    | set | perturb(x, u): images; u (batch, latent_dim) standardised |
    | | sample(x, radius, seed): images, u truncated to the ball |
    | | encode(x, x_perturbed): standardised latents, of a learned set |
    | | radius(): the set's radius, 0 if there is none |
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
    are [0, z]. Of noise with a sigma for each dimension, radius is that of the largest
    ball in the certified ellipsoid, and target_radius likewise.

    "onnx" and "litert" hold `perturb` of a set or `serve` of a classifier, as plain
    operations; inputs have the names x and u, the output is output_0. ONNX takes any
    batch size, LiteRT one image at a time. All five networks of `lps_tf.networks` and
    the classifiers `small_cnn`, `mnist_conv`, `wide_resnet` and `Unet` were tried in
    onnxruntime 1.32 and ai-edge-litert 2.3: outputs differ by less than 1e-4, and
    LiteRT needs its built-in operations alone. Certificates are SavedModels alone,
    because no other format has the noise and the bounds.

    Args:
        model: Model to export.
        path: Folder to write; one that is there is replaced. Of the other formats, a
            file that ends in .onnx or .tflite.
        format: One of "saved_model", "onnx" and "litert". To write ONNX,
            `pip install 'lps_tf[export]'`.
        image_shape: (height, width, channels), for ONNX and LiteRT, of a model that
            takes images of any size: there, they are of one.

    Returns:
        The folder or file.

    Raises:
        ImportError: If tf2onnx is needed and is not installed.
        ValueError: For a model that has not seen an image yet, or of no such kind; for
            certificates as anything but a SavedModel; for another ending of the path.
    """
    checks.known("format", format, ("saved_model", *targets.ENDINGS))
    if isinstance(model, RobustClassifier):
        model = model.classifier
    if format != "saved_model":
        return _export_network(model, Path(path), format, image_shape)
    if image_shape is not None:
        raise ValueError(
            "`image_shape` is for ONNX and LiteRT: a SavedModel takes all sizes that "
            f"the model takes. Received: image_shape={tuple(image_shape)}"
        )
    # It saves what the endpoints use. Told of the models too, it would save all twice.
    archive = keras.export.ExportArchive()
    # Counts of predictions have no gradient, so none has to be saved.
    smoothed = isinstance(model, SmoothedClassifier)
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=not smoothed)

    def write(temporary: Path) -> None:
        archive.write_out(str(temporary), options=options, verbose=False)
        _forget_unsaved_gradients(temporary / "saved_model.pb")

    # It would tell that it has written to a temporary folder.
    with quiet("tensorflow", logging.WARNING):
        if isinstance(model, LatentSet):
            _add_perturbation_set(archive, model)
        elif isinstance(model, SmoothedClassifier):
            _add_smoothed(archive, model)
        elif isinstance(model, keras.Model) and model.built:
            _add_classifier(archive, model)
        else:
            raise _no_such_kind(model)
        return files.atomically(path, write)


def _no_such_kind(model: object) -> ValueError:
    return ValueError(
        "`model` must be a perturbation set, a SmoothedClassifier or a built Keras "
        f"classifier. Received: {model}"
    )


def _forget_unsaved_gradients(path: Path) -> None:
    """Has the operations whose own gradients are not saved differentiated as written.

    They are the gradients of gradients, and those of a smoothed classifier. TensorFlow
    would warn of each of them whenever the SavedModel is loaded.
    """
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in saved.meta_graphs:
        library = graph.graph_def.library
        known = {g.registered_op_type.encode() for g in library.registered_gradients}
        for function in library.function:
            for node in function.node_def:
                calls = node.op in ("PartitionedCall", "StatefulPartitionedCall")
                kind = node.attr.get("_gradient_op_type")
                if kind is not None and not calls and kind.s not in known:
                    del node.attr["_gradient_op_type"]
    path.write_bytes(saved.SerializeToString(deterministic=True))


def _export_network(
    model: object,
    path: Path,
    target: str,
    image_shape: Sequence[int] | None,
) -> Path:
    """Writes the one function of a set or classifier as ONNX or LiteRT."""
    if isinstance(model, SmoothedClassifier):
        raise ValueError(
            "Certificates can be exported as a SavedModel alone: no other format has "
            "the noise and the bounds. Export its `classifier` and its "
            f"`perturbation_set` by themselves. Received: format={target!r}"
        )
    if path.suffix != targets.ENDINGS[target]:
        raise ValueError(
            f"`path` must end in {targets.ENDINGS[target]!r} for format={target!r}. "
            f"Received: path={str(path)!r}"
        )
    function: Callable[..., tf.Tensor]
    if isinstance(model, LatentSet):
        shape = _one_size(model.image_shape, image_shape)
        u = tf.TensorSpec((None, model.latent_dim), tf.float32, "u")
        name, function, rest = "perturb", _perturb(model), [u]
    elif isinstance(model, keras.Model) and model.built:
        shape = _one_size(outputs.image_shape(model), image_shape)
        name, function, rest = "serve", _serve(model), []
    else:
        raise _no_such_kind(model)
    x = tf.TensorSpec((None, *shape), tf.float32, "x")
    return targets.write(path, target, name, function, [x, *rest])


def _one_size(
    known: tuple[int | None, ...], image_shape: Sequence[int] | None
) -> tuple[int | None, ...]:
    """(height, width, channels), all of them numbers, of a model or as it was asked."""
    shape = known if image_shape is None else tuple(image_shape)
    if None in shape or not tf.TensorShape(shape).is_compatible_with(known):
        raise ValueError(
            "`image_shape` must be (height, width, channels) of the images, which the "
            f"model takes as {known}, None being any. Received: "
            f"image_shape={image_shape}"
        )
    return shape


def _perturb(pset: LatentSet) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    def perturb(x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        # Plain operations, which run anywhere.
        return pset.decode(pset.condition(x), u)

    return perturb


def _serve(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    def serve(x: tf.Tensor) -> tf.Tensor:
        return outputs.logits(model, x)

    return serve


def _add_classifier(archive: keras.export.ExportArchive, model: keras.Model) -> None:
    images = tf.TensorSpec((None, *outputs.image_shape(model)), tf.float32, name="x")
    archive.add_endpoint("serve", _serve(model), [images])


def _named(spec: tf.TensorSpec, name: str) -> tf.TensorSpec:
    return tf.TensorSpec(spec.shape, spec.dtype, name)


def _images(pset: LatentSet, name: str) -> tf.TensorSpec:
    return tf.TensorSpec((None, *pset.image_shape), tf.float32, name)


def _add_perturbation_set(archive: keras.export.ExportArchive, pset: LatentSet) -> None:
    x = _images(pset, "x")
    u = tf.TensorSpec((None, pset.latent_dim), tf.float32, "u")

    def sample(x: tf.Tensor, radius: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        radius = _require(radius, radius > 0, "`radius` must be positive. Received:")
        conditioned = pset.condition(x)
        shape = (tf.shape(x)[0], pset.latent_dim)
        u = latent.sample_truncated_normal(shape, radius, tf.stack([0, seed]))
        return pset.decode(conditioned, u)

    radius = pset.radius or 0.0
    archive.add_endpoint("perturb", _perturb(pset), [x, u])
    archive.add_endpoint(
        "sample", sample, [x, _named(_FLOAT, "radius"), _named(_INT, "seed")]
    )
    archive.add_endpoint("radius", lambda: tf.constant(radius), [])
    if isinstance(pset, EncodingSet):
        _add_encoder(archive, pset, x)


def _add_encoder(
    archive: keras.export.ExportArchive, pset: EncodingSet, x: tf.TensorSpec
) -> None:
    def encode(x: tf.Tensor, x_perturbed: tf.Tensor) -> tf.Tensor:
        return pset.encode(x, x_perturbed)

    archive.add_endpoint("encode", encode, [x, _images(pset, "x_perturbed")])


class _Smoothed:
    """The endpoints of a smoothed classifier; graph code.

    Args:
        smoothed: Smoothed classifier.
    """

    def __init__(self, smoothed: SmoothedClassifier):
        self.smoothed = smoothed
        self._fixed = smoothed.smallest_sigma, smoothed.correction

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
