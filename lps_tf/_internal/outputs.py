"""What a classifier predicts, in one form whatever its last layer is."""

from typing import Any, Protocol

import keras
import tensorflow as tf

from lps_tf._internal import xla


class Classifier(Protocol):
    """What attacks, evaluation and certificates need: a Keras model, for instance."""

    def __call__(self, x: Any, training: bool = False) -> Any:
        """Predictions for images (batch, height, width, channels)."""
        ...


def required(classifier: Classifier) -> Classifier:
    """Returns the classifier.

    Raises:
        ValueError: If it cannot be called, or is a class and no model.
    """
    if callable(classifier) and not isinstance(classifier, type):
        return classifier
    raise ValueError(
        "`classifier` must be a Keras model, or a function of images, that gives "
        "logits; `keras.models.load_model` reads one from a file. "
        f"Received: classifier={classifier!r}"
    )


def logits(classifier: Classifier, x: tf.Tensor, training: bool = False) -> tf.Tensor:
    """The logits of a classifier or segmenter, float32, with at least two classes.

    * One logit z, as of `Dense(1)` or a one-channel segmenter, becomes [0, z]: the
      softmax of the two is 1 - sigmoid(z) and sigmoid(z), so labels are 0 and 1.
    * Of a last layer with a softmax or sigmoid, it is what that activation was given,
      which Keras keeps beside the result: of probabilities, gradients would vanish.

    Args:
        classifier: Any Keras model from images to one tensor.
        x: Images, (batch, height, width, channels).
        training: As in Keras.

    Returns:
        (batch, classes), or (batch, height, width, classes) of a segmenter.

    Raises:
        ValueError: If the classifier gives several outputs, or another shape.
    """
    output = classifier(x, training=training)
    _require_one_tensor(output)
    # Keras's own losses read the same attribute.
    output = getattr(output, "_keras_logits", output)
    if output.shape.rank not in (2, 4):
        raise ValueError(
            "The classifier must give logits (batch, classes), or (batch, height, "
            f"width, classes) of a segmenter. Received: shape {tuple(output.shape)}. "
            "Wrap it, for instance as `keras.Sequential([model, "
            "keras.layers.Flatten()])` for a classifier's (batch, 1, 1, classes)."
        )
    output = tf.cast(output, tf.float32)
    if output.shape[-1] == 1:
        output = tf.concat([tf.zeros_like(output), output], -1)
    return output


def facts(classifier: Classifier) -> dict[str, Any]:
    """What a card says of a classifier: the sizes of its images and its parameters.

    Raises:
        ValueError: If it is a Keras model that has not seen an image yet.
    """
    if not isinstance(classifier, keras.Model):
        return {}
    if not classifier.built:
        raise ValueError(
            "This classifier has not seen an image yet. Call it on some, or "
            f"`build((None, height, width, channels))`. Received: {classifier.name}"
        )
    return {
        "image_shape": list(image_shape(classifier)),
        "parameters": classifier.count_params(),
    }


def static_shape(model: keras.Model) -> tuple[int | None, ...]:
    """(height, width, channels) that a model was built for, None where it says none.

    A subclass of keras.Model says nothing, and may take any size.
    """
    return _of_images(getattr(model, "input_shape", None))


def image_shape(model: keras.Model) -> tuple[int | None, ...]:
    """`static_shape`; of a subclass of keras.Model, that of its first call."""
    built = (model.get_build_config() or {}).get("input_shape")
    return _of_images(getattr(model, "input_shape", None) or built)


def _of_images(shape: Any) -> tuple[int | None, ...]:
    shape = tuple(shape or ())
    return shape[1:] if len(shape) == 4 else (None, None, None)


def _require_one_tensor(output: Any) -> None:
    if tf.is_tensor(output):
        return
    if isinstance(output, dict):
        found, chosen = f"a dict of {sorted(output)}", f"[{sorted(output)[0]!r}]"
    else:
        found, chosen = f"{type(output).__name__} of {len(output)} outputs", "[0]"
    raise ValueError(
        f"The classifier must have one output, its logits. Received: {found}. Choose "
        f"one, for instance `keras.Model(model.inputs, model.outputs{chosen})`, or "
        f"with a function in a layer's `call` that returns `model(x){chosen}`."
    )


def compiles(classifier: Classifier, image_shape: tuple[int | None, ...]) -> bool:
    """Whether XLA has a form of every operation of a classifier; warns if not.

    Args:
        classifier: Classifier or segmenter.
        image_shape: (height, width, channels); with a size that is not known yet, the
            answer is yes, and XLA will say.
    """
    if None in tuple(image_shape):
        return True
    spec = tf.TensorSpec((1, *image_shape), tf.float32)
    return xla.can_compile(classifier, lambda x: logits(classifier, x), spec)
