"""Pages of one experiment, or of several that belong together."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lps_tf import plots
from lps_tf._internal.templates import base64_of, environment
from lps_tf._version import __version__
from lps_tf.experiments.settings import TRAININGS, ClassifierSettings
from lps_tf.experiments.table import EXPERIMENTS, find
from lps_tf.experiments.training import LOG, read_log
from lps_tf.robustness.corruption_report import CorruptionReport
from lps_tf.robustness.report import summary_of

#: Data sets of the paper, by the name of the data that stand in for them offline.
STAND_INS = {
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
    first = sections[0]["m"]
    facts = {"summary": summary(first), "afterwards": afterwards(first), **facts}
    classifiers = [s["m"] for s in sections if "robustness" in s["m"]]
    if len(classifiers) > 1:
        facts["attacked"] = base64_of(plots.png(_accuracy_by_radius(classifiers)))
    return render(
        "report.html", title=title, sections=sections, version=__version__, **facts
    )


def summary(metrics: Mapping[str, Any]) -> list[str]:
    """Says in two or three sentences what came out of an experiment.

    Args:
        metrics: Content of its metrics.json; nothing is said of what is not in it.
    """
    sentences = _of_set(metrics["quality"]) if "quality" in metrics else []
    if "robustness" in metrics:
        sentences.append(summary_of(metrics["robustness"]["rows"]))
    if "corruptions" in metrics:
        sentences.append(corruption_report(metrics).summary())
    if "certified" in metrics:
        sentences.append(_of_certificates(metrics["certified"]))
    return sentences


def corruption_report(metrics: Mapping[str, Any]) -> CorruptionReport:
    """The errors under corruptions of a metrics.json."""
    found = metrics["corruptions"]
    return CorruptionReport(found["data"], found["n"], found["clean"], found["errors"])


def _of_set(quality: Mapping[str, float]) -> list[str]:
    nearest, itself = quality["pgd_ae"], quality["pair_mse"]
    verdict = (
        "the set holds most of what happens to an image"
        if nearest < itself / 2
        else "the set holds little of what happens to an image"
    )
    return [
        f"The set comes within {nearest:.4f} (mean squared error) of the perturbed "
        f"versions of {quality['pairs']} test pairs, of which the images themselves "
        f"are {itself:.4f} off: {verdict}.",
        f"A random member is {quality['eae']:.4f} off, and the furthest one that "
        f"gradient ascent finds {quality['oae']:.4f}.",
    ]


def _of_certificates(certified: Mapping[str, Any]) -> str:
    middle = len(certified["radii"]) // 2
    rate, radius = certified["certified_accuracy"][middle], certified["radii"][middle]
    return (
        f"Smoothed, {rate:.1%} of {certified['images']} are certified to be correct "
        f"within radius {radius:.3g}: no member of the learned set up to there changes "
        "the prediction."
    )


def afterwards(metrics: Mapping[str, Any]) -> list[str]:
    """The commands that go on from an experiment.

    Args:
        metrics: Content of its metrics.json.
    """
    name, scale = metrics["experiment"], metrics["scale"]
    if isinstance(find(name).paper, ClassifierSettings):
        trained = " ".join(
            other
            for other in EXPERIMENTS
            if other.rpartition("/")[0] == name.rpartition("/")[0]
            and isinstance(EXPERIMENTS[other].paper, ClassifierSettings)
        )
        return [f"python -m lps_tf compare {trained} --scale {scale}"]
    return [
        f"python -m lps_tf run {other} --scale {scale}"
        for other in EXPERIMENTS
        if EXPERIMENTS[other].settings(scale).predecessor == name
    ]


def render(template: str, **values: Any) -> str:
    """Renders one of the templates of this package."""
    html = template.endswith(".html")
    found = environment("lps_tf.experiments", autoescape=html)
    found.tests["total"] = is_total
    return found.get_template(template).render(**values)


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
        "pictures": {name: base64_of(content) for name, content in figures.items()},
    }


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
