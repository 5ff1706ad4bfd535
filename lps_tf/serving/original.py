"""Weights of the paper's released PyTorch code, read into our models.

PyTorch is needed to open a checkpoint's file, not for what is in it: a state dict is
a mapping of names to arrays.
"""

import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from lps_tf._internal import checks
from lps_tf.networks import classifiers
from lps_tf.sets.perturbation_set import PerturbationSet

#: An original layer's name, and the layer of ours that holds it; two layers share
#: one whose input is [x, latent].
Assignment = tuple[str, Any]
#: Turns a tensor of the original into variables of ours and their values.
Split = Callable[[np.ndarray], list[tuple[Any, np.ndarray]]]

# What the original trained on decides what a dense layer's size means.
_SETS = {
    "cifar10_residual": (32, 32, 3),
    "mi_unet": (125, 187, 3),
    "mnist_conv": (28, 28, 1),
    "mnist_fc": (28, 28, 1),
    "mnist_stn": (42, 42, 1),
}
_CLASSIFIERS: dict[str, Callable[..., keras.Model]] = {
    "classifier_mnist_conv": classifiers.mnist_conv,
    "classifier_wide_resnet": classifiers.wide_resnet,
    "segmenter_unet": classifiers.Unet,
}
#: Every name that `from_state_dict` and `load_checkpoint` know.
NETWORKS = (*_SETS, *_CLASSIFIERS)


def load_checkpoint(
    path: str | Path, network: str, **sizes: Any
) -> PerturbationSet | keras.Model:
    """Reads a perturbation set or a classifier from a checkpoint of the original.

    The file is read as tensors only: one that holds code does not get to run it.

    Args:
        path: File that the original wrote with `torch.save`: a state dict, or a
            dict that has one as "model_state_dict".
        network: Name of the network, as in `from_state_dict`.
        **sizes: Sizes of the network, if not the paper's.

    Returns:
        The model, built; a set is without a radius: the original keeps none.

    Raises:
        ImportError: If PyTorch is not installed.
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not such a checkpoint, or not of this network.
    """
    checks.known("network", network, NETWORKS)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint file {path}.")
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "Reading a PyTorch checkpoint needs PyTorch: install it with "
            "`pip install 'lps_tf[original]'`, or call `original.from_state_dict` "
            "with the arrays."
        ) from error
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError) as error:
        raise ValueError(
            f"{path} is not a PyTorch checkpoint of tensors alone; nothing in it was "
            f"run. PyTorch says: {str(error).splitlines()[0]}"
        ) from error
    state = checkpoint
    if isinstance(checkpoint, Mapping):
        state = checkpoint.get("model_state_dict", checkpoint)
    if not isinstance(state, Mapping) or not all(
        isinstance(value, torch.Tensor) for value in state.values()
    ):
        found = list(state) if isinstance(state, Mapping) else type(state).__name__
        raise ValueError(
            f"{path} must hold a mapping of names to tensors, by itself or as "
            f"`model_state_dict`. Received: {found}"
        )
    return from_state_dict(
        {name: value.float().numpy() for name, value in state.items()}, network, **sizes
    )


def from_state_dict(
    state: Mapping[str, Any], network: str, **sizes: Any
) -> PerturbationSet | keras.Model:
    """Makes a perturbation set or a classifier with the original's weights.

    Args:
        state: The original's parameter names to arrays, in PyTorch's layout; the
            "module." that DataParallel puts into names is understood.
        network: Name of a set's network, as in `PerturbationSet.from_network`; or
            "classifier_mnist_conv", "classifier_wide_resnet", "segmenter_unet".
        **sizes: Sizes of the network, if not the paper's.

    Returns:
        The model, built; a set is without a radius.

    Raises:
        ValueError: Unless every tensor is used exactly once: the message lists what
            is missing, unexpected or of the wrong shape.
    """
    checks.known("network", network, NETWORKS)
    arrays = {_plain(name): np.asarray(value) for name, value in state.items()}
    if network == "classifier_wide_resnet":
        # The normalisation is an argument of ours, not a weight.
        for name, size in (("0.mu", "mean"), ("0.std", "std")):
            if name in arrays:
                sizes[size] = arrays.pop(name).ravel().tolist()
    if network in _SETS:
        model = PerturbationSet.from_network(network, **sizes)
        model.build((None, *_SETS[network]))
    else:
        checks.sizes(_CLASSIFIERS[network], sizes)
        model = _CLASSIFIERS[network](**sizes)
        if not model.built:
            model.build((None, *_SETS["mi_unet"]))
    _assign(arrays, _LAYERS[network](model))
    return model


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != "module")


def _assign(state: dict[str, np.ndarray], layers: Iterator[Assignment]) -> None:
    """Sets all layers' weights, or none and raises."""
    # A counter of batches, which no output depends on.
    rest = {k: v for k, v in state.items() if not k.endswith(".num_batches_tracked")}
    missing, wrong, found = [], [], []
    for name, layer in layers:
        for tensor, shape, split in _tensors(layer):
            value = rest.pop(f"{name}.{tensor}", None)
            if value is None:
                missing.append(f"{name}.{tensor}")
            elif value.shape != shape:
                wrong.append(f"{name}.{tensor}: {value.shape} instead of {shape}")
            else:
                found += split(value)
    problems = {
        "missing": missing,
        "unexpected": sorted(rest),
        "of another shape": wrong,
    }
    if any(problems.values()):
        lists = [f"{what}: {', '.join(v)}" for what, v in problems.items() if v]
        raise ValueError(
            "These are not the weights of this network in these sizes. "
            + "; ".join(lists)
        )
    for variable, value in found:
        variable.assign(value)


def _tensors(layer: Any) -> Iterator[tuple[str, tuple[int, ...], Split]]:
    """Name, shape and use of each tensor that the original keeps for a layer."""
    if isinstance(layer, keras.layers.BatchNormalization):
        for suffix, variable in {
            "weight": layer.gamma,
            "bias": layer.beta,
            "running_mean": layer.moving_mean,
            "running_var": layer.moving_variance,
        }.items():
            yield suffix, tuple(variable.shape), _whole(variable)
        return
    parts = layer if isinstance(layer, tuple) else (layer,)
    inputs = [part.kernel.shape[-2] for part in parts]
    *window, _, outputs = parts[0].kernel.shape

    def kernels(value: np.ndarray) -> list[tuple[Any, np.ndarray]]:
        # (out, in, ...) -> (..., in, out), and the inputs to each of the parts
        value = np.moveaxis(value, (0, 1), (-1, -2))
        divided = np.split(value, np.cumsum(inputs)[:-1], axis=-2)
        return [(p.kernel, k) for p, k in zip(parts, divided, strict=True)]

    yield "weight", (outputs, sum(inputs), *window), kernels
    if parts[0].use_bias:
        yield "bias", (outputs,), _whole(parts[0].bias)


def _whole(variable: keras.Variable) -> Split:
    return lambda value: [(variable, value)]


def _encoders(pset: PerturbationSet) -> Iterator[tuple[str, Any]]:
    yield "prior", pset.prior_network
    yield "recognition", pset.recognition_network


def _mnist_fc(pset: PerturbationSet) -> Iterator[Assignment]:
    for part, encoder in _encoders(pset):
        yield f"{part}.fc1", encoder.hidden
        yield f"{part}.fc21", encoder.mean
        yield f"{part}.fc22", encoder.log_variance
    generator = pset.generator
    yield "generator.fc3", (generator.from_image, generator.from_latent)
    yield "generator.fc4", generator.to_image


def _mnist_conv(pset: PerturbationSet) -> Iterator[Assignment]:
    for part, encoder in _encoders(pset):
        for i, layer in enumerate(encoder.layers):
            yield f"{part}.conv{i + 1}", layer
        yield f"{part}.conv31", encoder.mean
        yield f"{part}.conv32", encoder.log_variance
    generator = pset.generator
    for i, layer in enumerate(generator.reduce):
        yield f"generator.downsample{i + 3}", layer
    pairs = zip(generator.from_image, generator.from_map, strict=True)
    for i, pair in enumerate(pairs):
        yield f"generator.conv{i + 3}", pair


def _mnist_stn(pset: PerturbationSet) -> Iterator[Assignment]:
    def block(name: str, layer: Any) -> Iterator[Assignment]:
        for i in range(2):
            yield f"{name}.bn{i + 1}", layer.norms[i]
            yield f"{name}.conv{i + 1}", layer.convs[i]

    for part, encoder in _encoders(pset):
        yield from block(f"{part}.block", encoder.block)
        yield f"{part}.fc31", encoder.mean
        yield f"{part}.fc32", encoder.log_variance
    generator = pset.generator
    yield "generator.fc", generator.latent_map
    for i, locate in enumerate(generator.locators):
        names = ("localization.1", "localization.3", "fc")
        for name, layer in zip(names, locate.layers, strict=True):
            yield f"generator.stns.{i}.{name}", layer
    yield from block("generator.block", generator.block)
    yield "generator.conv", generator.to_image


def _cifar10_residual(pset: PerturbationSet) -> Iterator[Assignment]:
    def blocks(name: str, network: Any) -> Iterator[Assignment]:
        pairs = zip(network.squeeze, network.expand, strict=True)
        for i, pair in enumerate(pairs):
            for j, layer in enumerate(pair):
                yield f"{name}.{i + 1}.bn{j + 1}", layer.norm
                yield f"{name}.{i + 1}.conv{j + 1}", layer.conv

    for part, encoder in _encoders(pset):
        name, after = f"{part}.encoder", len(encoder.squeeze) + 1
        yield f"{name}.0", encoder.first
        yield from blocks(name, encoder)
        yield f"{name}.{after}", encoder.last.norm
        yield f"{name}.{after + 2}", encoder.last.conv
        yield f"{name}.{after + 3}", encoder.norm
        yield f"{part}.fc1", encoder.mean
        yield f"{part}.fc2", encoder.log_variance
    generator = pset.generator
    name, after = "generator.decoder", len(generator.squeeze) + 1
    yield "generator.fc", generator.latent_map
    yield f"{name}.0", (generator.first, generator.from_map)
    yield from blocks(name, generator)
    yield f"{name}.{after}", generator.last.norm
    yield f"{name}.{after + 2}", generator.last.conv


def _mi_unet(pset: PerturbationSet) -> Iterator[Assignment]:
    for part, encoder in _encoders(pset):
        yield from _unet(f"{part}.", encoder.unet)
        for i in range(len(encoder.latents)):
            yield f"{part}.conv.{i}", encoder.squeeze[i]
            yield f"{part}.fc1.{i}", encoder.means[i]
            yield f"{part}.fc2.{i}", encoder.log_variances[i]
    generator = pset.generator
    yield from _unet("generator.", generator.unet)
    for i, layer in enumerate(generator.latent_maps):
        yield f"generator.fc.{i}", layer
    yield from _decoder("generator.", generator.decoder)


def _double_conv(name: str, layer: Any) -> Iterator[Assignment]:
    for i in range(2):
        yield f"{name}.double_conv.{3 * i}", layer.convs[i]
        yield f"{name}.double_conv.{3 * i + 1}", layer.norms[i]


def _unet(prefix: str, encoder: Any) -> Iterator[Assignment]:
    first, *others = encoder.levels
    yield from _double_conv(f"{prefix}inc", first)
    for i, level in enumerate(others):
        yield from _double_conv(f"{prefix}down{i + 1}.maxpool_conv.1", level)


def _decoder(prefix: str, decoder: Any) -> Iterator[Assignment]:
    for i, step in enumerate(decoder.steps):
        yield from _double_conv(f"{prefix}up{i + 1}.conv", step)
    yield f"{prefix}outc.conv", decoder.last


def _segmenter(model: keras.Model) -> Iterator[Assignment]:
    yield from _unet("", model.encoder)
    yield from _decoder("", model.decoder)


def _named(prefix: str) -> Callable[[keras.Model], Iterator[Assignment]]:
    """Layers that bear the original's names, with dots for underscores."""

    def layers(model: keras.Model) -> Iterator[Assignment]:
        for layer in model.layers:
            if layer.weights and not isinstance(layer, keras.layers.Normalization):
                yield prefix + layer.name.replace("_", "."), layer

    return layers


_LAYERS = {
    "classifier_mnist_conv": _named(""),
    "classifier_wide_resnet": _named("1."),
    "segmenter_unet": _segmenter,
    "cifar10_residual": _cifar10_residual,
    "mi_unet": _mi_unet,
    "mnist_conv": _mnist_conv,
    "mnist_fc": _mnist_fc,
    "mnist_stn": _mnist_stn,
}
