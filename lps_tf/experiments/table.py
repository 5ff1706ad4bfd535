"""The experiments of the paper (section 6), at its scale and at that of a laptop."""

from lps_tf.experiments.classifier_table import CLASSIFIERS, DEMO
from lps_tf.experiments.set_table import SETS
from lps_tf.experiments.settings import Experiment

EXPERIMENTS = {**SETS, **CLASSIFIERS, **DEMO}

#: The experiments whose models come with the package, in saved_models/.
PUBLISHED = (
    "mnist_rts",
    "mnist_linf_conv",
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
        ValueError: If there is no such experiment.
    """
    if name not in EXPERIMENTS:
        raise ValueError(
            f"An experiment must be one of these: {', '.join(EXPERIMENTS)}. "
            f"Received: {name}"
        )
    return EXPERIMENTS[name]


def list_experiments() -> str:
    """Lists the experiments with their descriptions and settings at two scales."""
    lines = []
    for name, experiment in EXPERIMENTS.items():
        lines.append(f"{name}: {experiment.about}")
        for scale in ("paper", "laptop"):
            s = experiment.settings(scale)
            options = ", ".join(f"{k}={v}" for k, v in s.options.items())
            lines.append(
                f"    {scale:6}  {s.data}({options}), {s.network}, {s.epochs} epochs, "
                f"batches of {s.batch_size}"
            )
        if experiment.paper.predecessor:
            lines.append(f"    runs {experiment.paper.predecessor} first")
    return "\n".join(lines)
