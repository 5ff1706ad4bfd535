"""Pages of one experiment, or of several that belong together."""

import base64
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from lps_tf import plots
from lps_tf._version import __version__
from lps_tf.experiments.settings import TRAININGS
from lps_tf.experiments.table import find
from lps_tf.experiments.training import LOG, read_log

#: Data sets of the paper, by the name of the data that stand in for them offline.
STAND_INS = {
    "digits_linf": "MNIST",
    "digits_rts": "MNIST",
    "photos": "CIFAR-10",
    "scenes": "Multi-Illumination",
}


def page(experiments: Mapping[str, tuple[Path, dict]], title: str, **facts: Any) -> str:
    """Renders a self-contained page of HTML.

    Several classifiers are compared in one table; each has its training on a page of
    its own.

    Args:
        experiments: Folder and metrics.json of each experiment by name, sets first.
        title: Title of the page.
        **facts: Further values that the template uses.
    """
    sections = [_section(*experiment) for experiment in experiments.values()]
    classifiers = [s["m"] for s in sections if "robustness" in s["m"]]
    if len(classifiers) > 1:
        facts["attacked"] = _encoded(plots.png(_accuracy_by_radius(classifiers)))
    return render(
        "report.html", title=title, sections=sections, version=__version__, **facts
    )


def render(template: str, **values: Any) -> str:
    """Renders one of the templates of this package."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lps_tf.experiments"),
        autoescape=template.endswith(".html"),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["total"] = is_total
    return environment.get_template(template).render(**values)


def is_total(row: str) -> bool:
    """Tells whether a row of a robustness report is no detail of another one."""
    kind, _, which = row.partition("/")
    return kind in ("clean", "attack") or which in ("mean", "worst")


def _section(folder: Path, metrics: dict) -> dict[str, Any]:
    """Collects what the template needs of one experiment."""
    figures = {p.stem: p.read_bytes() for p in sorted(folder.glob("pictures/*"))}
    figures["training"] = plots.png(_training_curves(read_log(folder / LOG)))
    settings = metrics["settings"]
    paper = dataclasses.asdict(find(metrics["experiment"]).paper)
    return {
        "m": metrics,
        "training": TRAININGS.get(settings.get("training")),
        "stands_in": STAND_INS.get(settings["data"]),
        "settings": {name: (value, paper[name]) for name, value in settings.items()},
        "pictures": {name: _encoded(content) for name, content in figures.items()},
    }


def _encoded(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def _accuracy_by_radius(classifiers: list[dict]) -> Figure:
    """Plots accuracy under attack and certified accuracy, both from radius 0 on."""
    attacked = {m["about"].split(", ", 1)[1]: _attacked(m) for m in classifiers}
    figure = plots.curves(
        list(next(iter(attacked.values()))),
        {name: list(found.values()) for name, found in attacked.items()},
        "latent radius",
        "accuracy",
    )
    axis = figure.axes[0]
    for line, metrics in zip(axis.get_lines(), classifiers, strict=True):
        if "certified" in metrics:
            found = metrics["certified"]
            axis.plot(
                found["radii"],
                found["certified_accuracy"],
                ls="--",
                color=line.get_color(),
                label=f"certified, sigma {metrics['resolved']['sigma']:.3g}",
            )
    axis.legend(frameon=False, fontsize=8)
    return figure


def _attacked(metrics: dict) -> dict[float, float]:
    """Returns accuracies by the radius of the attack; 0 is the image itself."""
    rows = metrics["robustness"]["rows"]
    attacks = [row["accuracy"] for name, row in rows.items() if "attack/" in name]
    radii = [0.0, *metrics["resolved"]["radii"]]
    return dict(zip(radii, [rows["clean"]["accuracy"], *attacks], strict=True))


def _training_curves(log: dict[str, list[tuple[int, float]]]) -> Figure:
    """Plots the loss in training and validation over the epochs."""
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
