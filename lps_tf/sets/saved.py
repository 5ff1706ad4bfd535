"""Sets of which there is only a SavedModel, as `lps_tf.export` writes it."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from lps_tf._internal import checks, files, presets
from lps_tf._internal.describing import described
from lps_tf._internal.fixed import Fixed
from lps_tf._internal.progress import quiet
from lps_tf.sets.protocol import Conditioned, PerturbsByDecoding


def from_saved_model(preset: str | Path) -> "SavedSet":
    """A set to attack, augment, smooth and certify with, from its SavedModel alone.

    It passes for any other set (`lps_tf.sets.protocol.LatentSet`), and gradients go
    through its `perturb`. It cannot be trained further or calibrated. Because
    `perturb(x, u)` is one function there, `decode` repeats what depends on x alone:
    where there is a .keras file, `PerturbationSet.from_preset` is faster.

    Example:
        pset = lps.sets.from_saved_model("saved_models/mnist_rts")
        attack = lps.LatentAPGD(pset, steps=20)

    Args:
        preset: Folder of the SavedModel, a name of saved_models/ in a checkout of the
            project, or "hf://user/name".

    Returns:
        The set, with `encode` if the SavedModel has it.

    Raises:
        FileNotFoundError: If there is no such folder or name.
        ValueError: If it is no SavedModel, or one of something else than a set.
    """
    path = presets.folder(preset)
    if not tf.saved_model.contains_saved_model(str(path)):
        raise ValueError(
            "A set's SavedModel must be a folder with saved_model.pb, as "
            f"`lps_tf.export` writes it. Received: {path}"
        )
    # Gradients of gradients are not saved, of which it would warn: nobody needs them.
    with quiet("absl", logging.ERROR):
        loaded = tf.saved_model.load(str(path))
    if "perturb" not in loaded.signatures:
        raise ValueError(
            "The SavedModel must be of a perturbation set, with the signature "
            f"perturb(x, u). Received: {path}, with {sorted(loaded.signatures)}"
        )
    encodes = "encode" in loaded.signatures
    return (EncodingSavedSet if encodes else SavedSet)(loaded, path)


class SavedSet(Fixed, PerturbsByDecoding):
    """A set behind the endpoints of a SavedModel; `from_saved_model` makes it.

    Args:
        loaded: What `tf.saved_model.load` returns.
        path: Folder that it was loaded from.
    """

    FIXED = ("image_shape", "latent_dim", "radius", "path")

    def __init__(self, loaded: Any, path: Path):
        signature = loaded.signatures["perturb"].structured_input_signature[1]
        self._loaded = loaded
        self.path = path
        self.image_shape: tuple[int | None, int | None, int] = tuple(
            signature["x"].shape[1:]
        )
        self.latent_dim = int(signature["u"].shape[1])
        # Zero stands for none there.
        radius = float(loaded.radius()) if "radius" in loaded.signatures else 0.0
        self.radius: float | None = radius or None

    def __repr__(self) -> str:
        facts = {"latent_dim": self.latent_dim, "radius": self.radius}
        return described(self, self.path.name, **facts)

    def condition(self, x: tf.Tensor) -> Conditioned:
        """The images, checked: a SavedModel's `perturb` takes them as they are.

        Raises:
            ValueError: If they are no images in [0, 1] of the set's shape.
        """
        x = checks.of_shape("x", checks.images("x", x), self.image_shape)
        zeros = tf.zeros((tf.shape(x)[0], self.latent_dim))
        return Conditioned(zeros, tf.ones_like(zeros), x)

    def decode(self, conditioned: Conditioned, u: tf.Tensor) -> tf.Tensor:
        """Images for standardised latents u (batch, latent_dim)."""
        return self._loaded.perturb(conditioned.features, tf.cast(u, tf.float32))

    def digest(self) -> str:
        """A hash of the SavedModel's graph and weights."""
        parts = [self.path / "saved_model.pb"]
        parts += sorted((self.path / "variables").glob("variables.data*"))
        return files.digest(*(np.fromfile(part, np.uint8) for part in parts))


class EncodingSavedSet(SavedSet):
    """A `SavedSet` that has learned the latent of a perturbed image."""

    def encode(self, x: tf.Tensor, x_perturbed: tf.Tensor) -> tf.Tensor:
        """Standardised latents of pairs, (batch, latent_dim)."""
        x, x_perturbed = (
            checks.images("x", x),
            checks.images("x_perturbed", x_perturbed),
        )
        checks.same_shape("x", x, "x_perturbed", x_perturbed)
        return self._loaded.encode(x, x_perturbed)
