"""The experiments of the paper (section 6), at its scale and at that of a laptop."""

from lps_tf._internal import names
from lps_tf.experiments.classifier_table import CLASSIFIERS, DEMO
from lps_tf.experiments.set_table import SETS
from lps_tf.experiments.settings import Experiment

#: All experiments by name, those of the demo among them.
EXPERIMENTS = {**SETS, **CLASSIFIERS, **DEMO}

#: The experiments whose models come with the package, in saved_models/.
PUBLISHED = (
    "mnist_rts",
    "mnist_linf_conv",
    "mnist_rts_classifier/smooth_adv",
    "cifar10c_from_original",
    "mi_mip5",
    "cifar10c_classifier/adversarial",
    "cifar10c_classifier/smoothing_50",
    "mi_segmentation/adversarial",
    "mi_segmentation/smoothing",
)


def find(name: str) -> Experiment:
    """Returns the experiment of a name.

    Raises:
        ValueError: If there is no such experiment, or several of this family.
    """
    family = [full for full in EXPERIMENTS if full.startswith(f"{name}/")]
    if family:
        raise ValueError(
            f"{name} is a family of experiments: name one of {', '.join(family)}. "
            f"Received: {name}"
        )
    names.known("name", name, EXPERIMENTS)
    return EXPERIMENTS[name]


def list_experiments(family: str = "") -> str:
    """Lists the experiments with their descriptions and settings at two scales.

    Args:
        family: What the names begin with, such as "cifar10c_classifier".

    Raises:
        ValueError: If no name begins so.
    """
    found = {n: e for n, e in EXPERIMENTS.items() if n.startswith(family)}
    if not found:
        names.known("family", family, {name.split("/")[0] for name in EXPERIMENTS})
    lines = []
    for name, experiment in found.items():
        lines.append(f"{name}: {experiment.about}")
        for scale in ("paper", "laptop"):
            s = experiment.settings(scale)
            lines.append(
                f"    {scale:6}  {s.source}, {s.network}, {s.epochs} epochs, "
                f"batches of {s.batch_size}"
            )
        if experiment.paper.predecessor:
            lines.append(f"    runs {experiment.paper.predecessor} first")
    return "\n".join(lines)
