"""Folders of trained models to give away: SavedModel, preset, card and examples."""

import logging
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import lps_tf as lps
from lps_tf._internal import files, presets
from lps_tf._internal.progress import quiet
from lps_tf._version import __version__
from lps_tf.datasets import PairData
from lps_tf.experiments.report import STAND_INS, is_total, render

#: Number of test images that go with a model.
EXAMPLES = 8

#: How these are certified: with few samples, so that anybody can do it in a minute.
CERTIFIED_WITH = {"n0": 10, "n": 100, "alpha": 0.05, "seed": 0}


def publish(
    metrics: dict, model: keras.Model, data: PairData, source: Path, path: Path
) -> Path:
    """Writes a folder with a SavedModel, preset.json, card, and examples.npz.

    The preset has no weights of its own, but those of the SavedModel.

    Args:
        metrics: Results of the experiment, as in its metrics.json.
        model: Model that the experiment has trained.
        data: Data of the experiment.
        source: Folder of the experiment's SavedModel.
        path: Folder to write; an existing one is replaced.

    Returns:
        The folder.
    """

    def write(temporary: Path) -> None:
        shutil.copytree(source, temporary)
        # It tells when it was written, so that no two folders would be the same.
        (temporary / "fingerprint.pb").unlink(missing_ok=True)
        with quiet("absl", logging.ERROR):  # of gradients that nobody asks for
            loaded = tf.saved_model.load(temporary)
        arrays = _examples(model, data)
        np.savez_compressed(temporary / "examples.npz", **arrays)
        kind = write_preset(temporary, metrics, model)
        card = {
            **_card(metrics),
            "kind": kind,
            **facts_of(data, model),
            "folder": path.name,
            "signatures": _signatures(loaded),
            "examples": {"images": EXAMPLES, **check(loaded, arrays, metrics)},
            "megabytes": _megabytes(temporary),
        }
        files.write_json(temporary / "card.json", card)
        files.write_text(temporary / "README.md", render("card.md", c=card))

    return files.atomically(path, write)


def write_preset(path: Path, metrics: dict, model: keras.Model) -> str:
    """Writes what `from_preset` reads, beside a SavedModel of the same weights.

    Args:
        path: Folder, with the SavedModel.
        metrics: Results of the experiment: what it builds on, its sigma and seed.
        model: Set or classifier; of a smoothed classifier, the classifier.

    Returns:
        The name of the class whose `from_preset` reads it.
    """
    kind, arguments = "RobustClassifier", {}
    models: dict[str, Any] = {"classifier": model}
    if isinstance(model, lps.PerturbationSet):
        kind, models = "PerturbationSet", {"set": model}
    elif "certified" in metrics:
        kind = "SmoothedClassifier"
        # By its name: a folder beside it, or one of those that come with a checkout.
        models["set"] = metrics["builds_on"].replace("/", "-")
        arguments = {
            "sigma": metrics["resolved"]["sigma"],
            "seed": metrics["settings"]["seed"],
        }
    presets.write_beside_saved_model(path, kind, models, arguments)
    return kind


def facts_of(data: PairData, model: keras.Model) -> dict[str, Any]:
    """Returns what the data tell: the size of images and the names of the classes."""
    facts: dict[str, Any] = {"image_shape": list(data.image_shape)}
    if not isinstance(model, lps.PerturbationSet):
        facts["num_classes"] = data.num_classes
        facts["class_names"] = list(data.class_names)
    return facts


def check(loaded: Any, arrays: dict[str, Any], metrics: dict) -> dict:
    """Measures a SavedModel on its examples, with TensorFlow alone.

    Args:
        loaded: What `tf.saved_model.load` returns.
        arrays: Arrays x and y of examples.npz.
        metrics: Results of the experiment, which tell what kind of model it is.
    """
    x, y = arrays["x"], arrays["y"]
    if "quality" in metrics:
        u = loaded.encode(x, y)
        error = np.square(loaded.perturb(x, u).numpy() - y).mean()
        return {"encoder_ae": float(error), "pair_mse": float(np.square(x - y).mean())}
    if "certified" in metrics:
        found = loaded.certify(x, **CERTIFIED_WITH)
        correct = found["prediction"].numpy() == y
        return {
            "certified_accuracy": float(correct.mean()),
            "mean_radius": float(found["radius"].numpy().mean()),
            "certified_with": CERTIFIED_WITH,
        }
    return {"accuracy": float((loaded.serve(x).numpy().argmax(-1) == y).mean())}


def _examples(model: keras.Model, data: PairData) -> dict[str, Any]:
    """Takes test examples, evenly spaced: neighbours are alike."""
    pairs = data.test_pairs if isinstance(model, lps.PerturbationSet) else data.test
    pairs = pairs.unbatch()
    step = max(1, sum(1 for _ in pairs) // EXAMPLES)
    x, y = next(iter(pairs.shard(step, 0).batch(EXAMPLES)))
    return {"x": x.numpy(), "y": y.numpy()}


def _card(metrics: dict) -> dict:
    """Returns the part of an experiment's results that a user of the model needs."""
    settings = metrics["settings"]
    card = {
        "name": metrics["experiment"],
        "about": metrics["about"],
        "data": metrics["data"],
        "stands_in_for": STAND_INS.get(settings["data"]),
        "scale": metrics["scale"],
        "seed": settings["seed"],
        "steps": metrics["steps"],
        "parameters": metrics["parameters"],
        "network": {"name": settings["network"], **settings["sizes"]},
        "builds_on": metrics["builds_on"],
        "lps_tf": __version__,
        "command": f"python -m lps_tf publish {metrics['experiment']} "
        f"--scale {metrics['scale']}",
    }
    if "quality" in metrics:
        measures = ("pairs", "encoder_ae", "pgd_ae", "eae", "oae", "pair_mse", "kl")
        return {
            **card,
            "radius": metrics["calibration"]["radius"],
            "quantiles": metrics["calibration"]["quantiles"],
            "metrics": {name: metrics["quality"][name] for name in measures},
            "measured_with": {k: settings[k] for k in ("steps", "num_samples")},
        }
    rows = metrics["robustness"]["rows"]
    found = {name: row["accuracy"] for name, row in rows.items() if is_total(name)}
    card["metrics"] = {"test images": rows["clean"]["n"], **found}
    card["measured_with"] = {k: settings[k] for k in ("attack", "steps")}
    card["trained"] = settings["training"]
    card["radius"] = metrics["resolved"]["radius"]
    if "certified" in metrics:
        certified = metrics["certified"]
        names = ("images", "accuracy", "abstained", "average_certified_radius")
        card["sigma"] = metrics["resolved"]["sigma"]
        card["metrics"]["certified"] = {name: certified[name] for name in names}
        card["metrics"]["certified"] |= {k: settings[k] for k in ("n0", "n", "alpha")}
        card["metrics"]["certified"]["seed"] = settings["seed"]
        coverage = certified.get("coverage")  # of none where it was not asked for
        if coverage:
            card["metrics"]["certified"]["true perturbations inside"] = coverage[
                "inside"
            ]
    return card


def _signatures(loaded: Any) -> dict[str, dict]:
    """Lists inputs and outputs of each signature, as type and shape; -1 is any size."""

    def described(tensors: dict) -> dict[str, str]:
        return {
            name: f"{spec.dtype.name} {[-1 if n is None else n for n in spec.shape]}"
            for name, spec in sorted(tensors.items())
        }

    return {
        name: {
            "inputs": described(function.structured_input_signature[1]),
            "outputs": described(function.structured_outputs),
        }
        for name, function in sorted(loaded.signatures.items())
    }


def _megabytes(path: Path) -> float:
    """Returns the size of all files in a folder, in megabytes."""
    size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    return round(size / 1e6, 2)
