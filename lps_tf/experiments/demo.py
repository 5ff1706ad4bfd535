"""The main job on real digits: from pairs to a robust, certified, exported classifier.

`python -m lps_tf demo` runs the rows `DEMO` of the table, checks that their SavedModels
work without this package, and reports all results on one page.
"""

import dataclasses
import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import numpy as np

import lps_tf as lps
from lps_tf import plots
from lps_tf._internal import files
from lps_tf._internal.progress import quiet
from lps_tf.experiments import running
from lps_tf.experiments.classifier_table import DEMO
from lps_tf.experiments.classifiers import sigma
from lps_tf.experiments.report import page
from lps_tf.experiments.settings import ClassifierSettings
from lps_tf.experiments.stages import Stages
from lps_tf.plots.page import chosen_images

#: The experiments whose SavedModels are loaded again, in the order of the check.
EXPORTED = ("demo/set", "demo/plain", "demo/robust")
ABOUT = (
    "A conditional VAE saw pairs of a digit and the same digit rotated, translated and "
    "scaled, and learned a set of such perturbations. Classifiers are attacked in it, "
    "and the one that was trained on it is certified."
)
EXPLORER = "explorer.html"
#: The latent radii of the attack and of the certificate that the summary names.
ATTACKED, CERTIFIED = 1.0, 1.5


def run(output: str | Path, scale: str = "laptop", fresh: bool = False) -> dict:
    """Runs the demo, or what is left of it.

    Args:
        output: Folder for metrics.json, report.html, the page to explore the set, and
            a folder of each experiment.
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
    folder.stage("explore", lambda: _explore(folder.directory, scale).name)
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
        summary=summary(found),
        differences=differences,
        explorer=EXPLORER,
        afterwards=[f"python -m lps_tf run mnist_rts --scale {scale}"],
    )
    files.write_text(folder / "report.html", html)
    return metrics


def summary(found: Mapping[str, dict]) -> list[str]:
    """Says in three sentences what came out.

    Args:
        found: Metrics of the experiments of the demo by name.
    """
    quality, certified = found["demo/set"]["quality"], found["demo/robust"]["certified"]
    kept = {
        row: [
            f"{found[f'demo/{name}']['robustness']['rows'][row]['accuracy']:.0%}"
            for name in ("robust", "plain", "perturbed")
        ]
        for row in ("perturbed/mean", f"attack/{ATTACKED:g}")
    }
    (ours, plain, true), (ours_2, plain_2, true_2) = kept.values()
    place = certified["radii"].index(CERTIFIED)
    coverage = certified["coverage"]
    return [
        "From pairs alone a set was learned that comes within "
        f"{quality['pgd_ae']:.4f} (mean squared error) of test digits' true rotations, "
        "translations and scalings, of which the digits themselves are "
        f"{quality['pair_mse']:.4f} off.",
        "A classifier trained against attacks in that set, which has seen no true "
        f"perturbation, is right on {ours} of truly perturbed digits (plain training: "
        f"{plain}; training on true perturbations: {true}), and under attack within "
        f"latent radius {ATTACKED:g} on {ours_2} ({plain_2}; {true_2}).",
        f"Smoothed, it is certified to be right within radius {CERTIFIED:g} on "
        f"{certified['certified_accuracy'][place]:.0%} of {certified['images']} "
        f"digits, and {coverage['inside']:.0%} of their true perturbations lie inside "
        "of such a certificate.",
    ]


def _reload(output: Path, scale: str) -> dict[str, float]:
    """Compares the outputs of the SavedModels with those of the models in memory.

    The SavedModels are loaded in a process that cannot import this package.

    Returns:
        The largest absolute difference of each output.
    """
    pset, classifier, _ = (running.load_model(name, output) for name in EXPORTED)
    smooth, s = _smoothed(output, scale, pset)
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


def _smoothed(
    output: Path, scale: str, pset: lps.PerturbationSet
) -> tuple[lps.SmoothedClassifier, ClassifierSettings]:
    """The robust classifier, smoothed as it was certified, and its settings."""
    s = DEMO["demo/robust"].settings(scale)
    assert isinstance(s, ClassifierSettings)
    classifier = running.load_model("demo/robust", output)
    return lps.SmoothedClassifier(classifier, pset, sigma(s, pset), seed=s.seed), s


def _explore(output: Path, scale: str) -> Path:
    """Writes the page to explore the set and the smoothed classifier's answers."""
    data = running.load_data("demo/set", scale)
    pset = running.load_model("demo/set", output)
    images, labels = chosen_images(data, 2 if scale == "quick" else 4)
    return plots.explorer(
        pset,
        images,
        output / EXPLORER,
        classifier=_smoothed(output, scale, pset)[0],
        labels=labels,
        pairs=data.test_pairs,
        class_names=data.class_names,
        title=f"A learned perturbation set of {data.name}",
        verbose=False,
    )
