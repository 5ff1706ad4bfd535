"""The main job on real digits: from pairs to a robust, certified, exported classifier.

`python -m lps_tf demo` runs the rows `DEMO` of the table, checks that their SavedModels
work without this package, and reports all results on one page.
"""

import dataclasses
import json
import logging
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np

import lps_tf as lps
from lps_tf._internal import files
from lps_tf._internal.progress import quiet
from lps_tf.experiments import running
from lps_tf.experiments.classifier_table import DEMO
from lps_tf.experiments.classifiers import sigma
from lps_tf.experiments.report import page
from lps_tf.experiments.settings import ClassifierSettings
from lps_tf.experiments.stages import Stages

#: The experiments whose SavedModels are loaded again, in the order of the check.
EXPORTED = ("demo/set", "demo/adversarial", "demo/smoothing")
ABOUT = (
    "A conditional VAE saw pairs of a digit and the same digit rotated, translated and "
    "scaled, and learned a set of such perturbations. Classifiers trained on that set "
    "are attacked inside of it, and one of them is certified."
)


def run(output: str | Path, scale: str = "laptop", fresh: bool = False) -> dict:
    """Runs the demo, or what is left of it.

    Args:
        output: Folder for metrics.json, report.html and a folder of each experiment.
        scale: Scale of the experiments.
        fresh: Whether to discard the results in the folder and start over.

    Returns:
        The content of metrics.json.
    """
    settings = {k: dataclasses.asdict(row.settings(scale)) for k, row in DEMO.items()}
    folder = Stages(output, {"scale": scale, **settings}, fresh)
    # TensorFlow takes several classifiers for one function that is traced again and
    # again, and warns of it.
    with quiet("tensorflow", logging.ERROR):
        found = {name: running.run(name, scale, folder.directory) for name in DEMO}
    differences = folder.stage("reload", lambda: _reload(folder.directory, scale))
    seconds = {name: metrics["seconds"] for name, metrics in found.items()}
    metrics = {
        "data": found["demo/set"]["data"],
        "scale": scale,
        "seconds": sum(seconds.values()),
        "seconds_by_experiment": seconds,
        "experiments": found,
        "largest_difference_after_reload": differences,
    }
    files.write_json(folder / "metrics.json", metrics)
    experiments = {name: (folder / name, found[name]) for name in DEMO}
    html = page(
        experiments,
        "A learned perturbation set, from pairs to a certificate",
        about=ABOUT,
        differences=differences,
    )
    files.write_text(folder / "report.html", html)
    return metrics


def _reload(output: Path, scale: str) -> dict[str, float]:
    """Compares the outputs of the SavedModels with those of the models in memory.

    The SavedModels are loaded in a process that cannot import this package.

    Returns:
        The largest absolute difference of each output.
    """
    s = DEMO["demo/smoothing"].settings(scale)
    assert isinstance(s, ClassifierSettings)
    pset, classifier, noisy = (running.load_model(name, output) for name in EXPORTED)
    smooth = lps.SmoothedClassifier(noisy, pset, sigma(s, pset), seed=s.seed)
    x = next(iter(running.load_data("demo/set", scale).test))[0].numpy()[:4]
    u = np.random.RandomState(s.seed).randn(len(x), pset.latent_dim)
    certificate = smooth.certify(x, n0=s.n0, n=s.n, alpha=s.alpha, verbose=False)
    expected = {
        "x": x,
        "u": u.astype(np.float32),
        "perturbed": pset.perturb(x, u),
        "logits": classifier(x),
        "prediction": certificate.prediction,
        "radius": certificate.radius,
        "n": np.array([s.n0, s.n, s.seed], np.int32),
        "alpha": np.array(s.alpha),
    }
    check = files.atomically(
        output / "check.npz", lambda path: np.savez(path, **expected)
    )
    templates = resources.files("lps_tf.experiments") / "templates"
    saved = [output / name / "saved_model" for name in EXPORTED]
    paths = [str(path.resolve()) for path in (check, *saved)]
    outcome = subprocess.run(
        [sys.executable, "-I", str(templates / "check_saved_models.py"), *paths],
        capture_output=True,
        text=True,
    )
    if outcome.returncode:
        raise RuntimeError(f"The SavedModels do not reload:\n{outcome.stderr}")
    return json.loads(outcome.stdout.splitlines()[-1])
