"""The page that shows what came of an experiment."""

import base64
import dataclasses
from pathlib import Path

import jinja2
from matplotlib.figure import Figure

from lps_tf import plots
from lps_tf._version import __version__
from lps_tf.experiments.settings import TRAININGS
from lps_tf.experiments.stages import Run
from lps_tf.experiments.table import EXPERIMENTS
from lps_tf.experiments.training import read_log

#: What data that need no download stand in for.
STAND_INS = {
    "digits_linf": "MNIST",
    "digits_rts": "MNIST",
    "photos": "CIFAR-10",
    "scenes": "Multi-Illumination",
}


def page(run: Run | Path, metrics: dict) -> str:
    """A self-contained page of HTML.

    Args:
        run: the folder, with its log and pictures.
        metrics: what metrics.json holds.
    """
    experiment = EXPERIMENTS[metrics["experiment"]]
    figures = {
        path.stem: path.read_bytes()
        for path in sorted((run / "pictures").glob("*.png"))
    }
    figures["training"] = plots.png(_training_curves(read_log(run / "log.csv")))
    paper = dataclasses.asdict(experiment.paper)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lps_tf.experiments"), autoescape=True
    )
    return environment.get_template("experiment.html").render(
        m=metrics,
        training=TRAININGS.get(metrics["settings"].get("training")),
        stands_in=STAND_INS.get(metrics["settings"]["data"]),
        settings={k: (v, paper[k]) for k, v in metrics["settings"].items()},
        pictures={k: base64.b64encode(v).decode() for k, v in figures.items()},
        version=__version__,
    )


def _training_curves(log: dict[str, list[tuple[int, float]]]) -> Figure:
    """The loss over the epochs, in training and validation."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axis = figure.subplots()
    for i, (name, label) in enumerate(
        (("loss", "training"), ("val_loss", "validation"))
    ):
        epochs, values = zip(*log.get(name, [(1, float("nan"))]), strict=True)
        axis.plot(epochs, values, marker="o^"[i], color=plots.COLOURS[i], label=label)
    axis.set(xlabel="epoch", ylabel="loss")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8)
    return figure
