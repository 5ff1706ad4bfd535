"""Other targets than TensorFlow: ONNX, and LiteRT for phones and microcontrollers."""

import importlib
import logging
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)

from lps_tf._internal import files
from lps_tf._internal.progress import quiet

#: Ending of the file of each format.
ENDINGS = {"onnx": ".onnx", "litert": ".tflite"}

#: Version of ONNX's operations: the one that tf2onnx 1.17 knows best.
_OPSET = 18


def write(
    path: Path,
    target: str,
    name: str,
    function: Callable[..., tf.Tensor],
    inputs: Sequence[tf.TensorSpec],
) -> Path:
    """Writes one function as a file that runs without TensorFlow.

    Args:
        path: File to write.
        target: Format, "onnx" or "litert".
        name: Name of the signature, which a LiteRT file has.
        function: Plain operations; float32 tensors to a float32 tensor.
        inputs: Specifications of its arguments, named, all sizes but the batch known.

    Returns:
        The file.
    """
    make = {"onnx": _onnx, "litert": _litert}[target]
    with warnings.catch_warnings(), quiet("tensorflow", logging.ERROR):
        # Of TensorFlow 1, whose graphs both converters read.
        warnings.simplefilter("ignore", DeprecationWarning)
        content = make(name, function, inputs)
    return files.write(path, content)


def _onnx(
    name: str, function: Callable[..., tf.Tensor], inputs: Sequence[tf.TensorSpec]
) -> bytes:
    converter = _tf2onnx()
    # Not Keras's exporter: it makes inputs of the constants of a `Normalization`.
    traced = tf.function(function, input_signature=inputs, autograph=False)
    frozen = convert_variables_to_constants_v2(
        traced.get_concrete_function(), lower_control_flow=False
    )
    (output,) = frozen.outputs
    names = {f"{spec.name}:0": spec.name for spec in inputs}
    with quiet("tf2onnx", logging.ERROR):
        model, _ = converter.from_graph_def(
            frozen.graph.as_graph_def(),
            input_names=list(names),
            output_names=[output.name],
            opset=_OPSET,
            tensors_to_rename={**names, output.name: "output_0"},
        )
    return model.SerializeToString()


def _tf2onnx() -> ModuleType:
    try:
        return importlib.import_module("tf2onnx.convert")
    except ImportError:
        raise ImportError(
            "`format='onnx'` needs tf2onnx: `pip install 'lps_tf[export]'`."
        ) from None


def _litert(
    name: str, function: Callable[..., tf.Tensor], inputs: Sequence[tf.TensorSpec]
) -> bytes:
    # One image: of a batch of unknown size, the reshapes of a U-Net cannot be told.
    one = [
        tf.TensorSpec((1, *spec.shape[1:]), spec.dtype, spec.name) for spec in inputs
    ]
    archive = keras.export.ExportArchive()
    archive.add_endpoint(name, function, one)
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter: Any = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=[name]
        )
        # Its own operations alone, which every interpreter has.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        return converter.convert()
