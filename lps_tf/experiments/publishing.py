"""Folders of trained models to give away: SavedModel, card and examples."""

import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import lps_tf as lps
from lps_tf._internal import files
from lps_tf._version import __version__
from lps_tf.datasets import PairData
from lps_tf.experiments.report import STAND_INS, is_total, render

#: Number of test images that go with a model, and of the noise samples that certify
#: them.
EXAMPLES, NUM_SAMPLES = 8, 100


def publish(
    metrics: dict, model: keras.Model, data: PairData, source: Path, path: Path
) -> Path:
    """Writes a folder with a SavedModel, card.json, README.md and examples.npz.

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
        loaded = tf.saved_model.load(temporary)
        arrays = _examples(model, data)
        np.savez_compressed(temporary / "examples.npz", **arrays)
        card = {
            **_card(metrics),
            "folder": path.name,
            "signatures": _signatures(loaded),
            "examples": {"images": EXAMPLES, **check(loaded, arrays, metrics)},
            "megabytes": _megabytes(temporary),
        }
        files.write_json(temporary / "card.json", card)
        files.write_text(temporary / "README.md", render("card.md", c=card))

    return files.atomically(path, write)


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
        found = loaded.certify(x, NUM_SAMPLES // 10, NUM_SAMPLES, 0.05, 0)
        correct = found["prediction"].numpy() == y
        return {
            "certified_accuracy": float(correct.mean()),
            "mean_radius": float(found["radius"].numpy().mean()),
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
        }
    rows = metrics["robustness"]["rows"]
    found = {name: row["accuracy"] for name, row in rows.items() if is_total(name)}
    card["metrics"] = {"test images": rows["clean"]["n"], **found}
    card["trained"] = settings["training"]
    card["radius"] = metrics["resolved"]["radius"]
    if "certified" in metrics:
        certified = metrics["certified"]
        names = ("images", "accuracy", "abstained", "average_certified_radius")
        card["sigma"] = metrics["resolved"]["sigma"]
        card["metrics"]["certified"] = {name: certified[name] for name in names}
        card["metrics"]["certified"] |= {k: settings[k] for k in ("n0", "n", "alpha")}
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
