"""Folders with a model to give away, and the names by which they are found.

A preset is a folder with a file preset.json, which says what it holds:

* kind: the class that `from_preset` gives, such as "PerturbationSet";
* models: each Keras model by its name, as {"file": a .keras file of the folder},
  {"preset": another preset, beside this one or by its name}, or {"config": Keras's
  configuration, "weights": their tensors in the SavedModel of the same folder};
* arguments: the other arguments of the class.

Beside it may lie a SavedModel, for those who have TensorFlow alone, and a card.
"""

import importlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lps_tf._internal import files
from lps_tf._version import __version__

FILE = "preset.json"

#: The presets of the project, which a checkout has and an installed package has not.
PUBLISHED = Path(__file__).parents[2] / "saved_models"

#: Numbers of a model that its SavedModel has no use for, such as a count of batches,
#: stand in preset.json; of more than that many, something is missing.
_INLINE = 16


def folder(preset: str | Path) -> Path:
    """The folder of a preset.

    Args:
        preset: A folder, a name of saved_models in a checkout of the project, or
            "hf://user/name" for a repository of the Hugging Face hub.

    Raises:
        FileNotFoundError: If there is no such folder or name.
        ImportError: If huggingface_hub is needed and is not installed.
        ValueError: If an address of the hub has another form.
    """
    if str(preset).startswith("hf:"):
        return _from_hub(str(preset))
    if Path(preset).is_dir():
        return Path(preset)
    published = PUBLISHED / str(preset).replace("/", "-")
    if published.is_dir():
        return published
    if PUBLISHED.is_dir():
        names = sorted(p.name for p in PUBLISHED.iterdir() if p.is_dir())
        there = f"in this checkout there are {', '.join(names)}"
    else:
        there = (
            "the project's own are not in the installed package, which they would make "
            "60 MB larger: clone its repository, and pass the folder saved_models/NAME"
        )
    raise FileNotFoundError(
        "A preset must be a folder, a name, or 'hf://user/name'; of names, "
        f"{there}. Received: {str(preset)!r}"
    )


def _from_hub(address: str) -> Path:
    match = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)", address)
    if match is None:
        raise ValueError(
            "An address of the Hugging Face hub must be 'hf://user/name'. "
            f"Received: {address!r}"
        )
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError:
        raise ImportError(
            "Presets of the Hugging Face hub need huggingface_hub: "
            f"`pip install huggingface_hub`. Received: {address!r}"
        ) from None
    return Path(hub.snapshot_download(match[1]))


def read(preset: str | Path, *kinds: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The models of a preset by their names, and the other arguments of its class.

    Args:
        preset: Folder or name; see `folder`.
        *kinds: Names of the classes that will do.

    Raises:
        FileNotFoundError: If there is no such preset, or a SavedModel alone.
        ValueError: If it is one of another class.
    """
    path = folder(preset)
    if not (path / FILE).exists():
        raise FileNotFoundError(
            f"A preset must hold the file {FILE}, which `save_to_preset` writes. Of a "
            "set of which there is a SavedModel alone, use "
            f"`lps_tf.sets.from_saved_model`. Received: {path}"
        )
    content = json.loads((path / FILE).read_text())
    if content["kind"] not in kinds:
        raise ValueError(
            f"This is the preset of a {content['kind']}: use "
            f"`{content['kind']}.from_preset`. Received: {kinds[0]}.from_preset"
            f"({str(preset)!r})"
        )
    models = {name: _model(path, entry) for name, entry in content["models"].items()}
    return models, content["arguments"]


def _model(path: Path, entry: dict[str, Any]) -> Any:
    if "file" in entry:
        return keras.models.load_model(path / entry["file"])
    if "preset" in entry:
        beside = path.parent / entry["preset"]
        other = beside if beside.is_dir() else entry["preset"]
        return read(other, "PerturbationSet")[0]["set"]
    model = keras.saving.deserialize_keras_object(entry["config"])
    if entry["weights"]:
        # A key of the checkpoint, or numbers.
        tensors = tf.train.load_checkpoint(str(path / "variables" / "variables"))
        model.set_weights(
            [
                tensors.get_tensor(weight)
                if isinstance(weight, str)
                else np.array(weight)
                for weight in entry["weights"]
            ]
        )
    return model


def write(
    path: str | Path,
    kind: str,
    models: Mapping[str, Any],
    arguments: Mapping[str, Any],
    facts: Mapping[str, Any],
    card: Mapping[str, Any] | None = None,
) -> Path:
    """Writes preset.json, a .keras file of each model, and a card.

    What else the folder holds stays, such as a SavedModel.

    Args:
        path: Folder to write to.
        kind: Name of the class.
        models: Models by name: Keras models, or what else Keras can serialise.
        arguments: Other arguments of the class.
        facts: What the card says of the model.
        card: What the user knows of it: data, results, license. An earlier card's
            entries stay where there are no new ones.

    Returns:
        The folder.

    Raises:
        ValueError: If Keras cannot save a model.
    """
    path = Path(path)
    entries = {name: _saved(path, name, model) for name, model in models.items()}
    # Only now does the folder hold what it says.
    _write_index(path, kind, entries, arguments)
    known = {}
    if (path / "card.json").exists():
        known = json.loads((path / "card.json").read_text())
    made = {"kind": kind, "lps_tf": __version__, **facts}
    content = {"name": path.name, **known, **made, **(card or {})}
    files.write_json(path / "card.json", content)
    files.write_text(path / "README.md", _readme(content))
    return path


def _saved(path: Path, name: str, model: Any) -> dict[str, Any]:
    config = _config(model)
    if not isinstance(model, keras.Model):
        return {"config": config, "weights": []}
    # A copy, because a model that has been compiled takes its optimizer along, which
    # is twice its own size.
    copy = keras.saving.deserialize_keras_object(config)
    copy.set_weights(model.get_weights())
    files.atomically(path / f"{name}.keras", copy.save)
    return {"file": f"{name}.keras"}


def _config(model: Any) -> dict[str, Any]:
    """Keras's configuration of a model, of which it is sure to make the model again."""
    try:
        config = keras.saving.serialize_keras_object(model)
        config.pop("compile_config", None)
        keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            "A preset holds what Keras can save and load: a Keras model, or an object "
            "with `get_config` of a class with "
            f"`@keras.saving.register_keras_serializable`. Received: {model!r}"
        ) from error
    return config


def write_beside_saved_model(
    path: Path, kind: str, models: Mapping[str, Any], arguments: Mapping[str, Any]
) -> None:
    """Writes a preset whose weights are those of its SavedModel: no second copy.

    Args:
        path: Folder, with the SavedModel.
        kind: Name of the class.
        models: Keras models by name, or the name of another preset.
        arguments: Other arguments of the class.

    Raises:
        ValueError: If the SavedModel lacks weights of a model.
    """
    reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    keys = {
        _identity(reader.get_tensor(key)): key
        for key in sorted(reader.get_variable_to_shape_map())
        if key.endswith("VARIABLE_VALUE")
    }
    entries: dict[str, dict] = {}
    for name, model in models.items():
        if isinstance(model, str):
            entries[name] = {"preset": model}
            continue
        weights = model.get_weights()
        found = [keys.get(_identity(w), w.tolist()) for w in weights]
        for weight, key in zip(weights, found, strict=True):
            if not isinstance(key, str) and weight.size > _INLINE:
                raise ValueError(
                    f"The SavedModel in {path} must hold all weights of `{name}`: "
                    f"export this very model. Missing: one of shape {weight.shape}"
                )
        entries[name] = {"config": _config(model), "weights": found}
    _write_index(path, kind, entries, arguments)


def _identity(tensor: Any) -> tuple[tuple[int, ...], str, bytes]:
    array = np.asarray(tensor)
    return array.shape, str(array.dtype), array.tobytes()


def _write_index(
    path: Path, kind: str, entries: dict[str, dict], arguments: Mapping[str, Any]
) -> None:
    content = {"kind": kind, "models": entries, "arguments": dict(arguments)}
    files.write_text(path / FILE, json.dumps(content) + "\n")


def _readme(card: Mapping[str, Any]) -> str:
    """The card as a page; numbers that belong together are on one line."""
    lines = [f"# {card['name']}", ""]
    for name, value in card.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{k} {_short(v)}" for k, v in value.items())
        if name != "name" and value is not None:
            lines.append(f"- {name.replace('_', ' ')}: {_short(value)}")
    code = f'model = lps.{card["kind"]}.from_preset("{card["name"]}")'
    lines += ["", "```python", "import lps_tf as lps", "", code, "```", ""]
    return "\n".join(lines)


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
