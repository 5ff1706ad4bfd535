"""Settings of experiments: those of the paper, and what differs at other scales."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lps_tf._internal import numbers

#: (epochs, values): a value at each of these epochs, straight lines between them.
Schedule = tuple[tuple[float, ...], tuple[float, ...]]

#: A number, or the quantile of the latent norms of validation pairs, such as "50%".
Radius = float | str

#: From the settings and data of the paper to a run that only shows that it works.
SCALES = ("paper", "laptop", "quick")

_Settings = TypeVar("_Settings", bound="Training")


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings that sets and classifiers have in common.

    Attributes:
        data: Name of a function of `lps_tf.datasets`.
        options: Arguments of that function beyond batch_size and data_dir.
        batch_size: Number of examples in a batch of training.
        network: Name of the network: for a set, one that
            `PerturbationSet.from_network` knows, for a classifier, a function of
            `lps_tf.networks.classifiers`.
        sizes: Arguments of the network.
        epochs: Number of epochs of training.
        learning_rate: Schedule of the learning rate.
        seed: Seed of initial weights, order of batches and random numbers, but not of
            the splits of the data.
    """

    data: str
    options: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int
    network: str
    sizes: Mapping[str, Any] = field(default_factory=dict)
    epochs: int
    learning_rate: Schedule
    seed: int = 0

    def __post_init__(self):
        for name in ("batch_size", "epochs"):
            numbers.count(name, getattr(self, name))

    @property
    def source(self) -> str:
        """The data with their options, such as "mnist_rts(limited=1)"."""
        options = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.data}({options})"


@dataclass(frozen=True, kw_only=True)
class SetSettings(Training):
    """How a perturbation set is learned and measured.

    Attributes:
        start: Name of the experiment whose weights training starts from; None starts
            from random ones.
        likelihood: Name of a likelihood of `lps_tf.sets.likelihoods`.
        beta: Schedule of the weight of the KL term.
        weight_decay: Weight decay of Adam. Keras decouples it from the gradient, which
            PyTorch did not; at the paper's 5e-7 neither has an effect that shows.
        radius: Radius of the ball that is measured; None for the calibrated one, the
            largest norm of a validation pair.
        steps: Number of steps of the attacks that measure it. The length of each is a
            twentieth of the radius.
        num_samples: Number of samples of each pair that the expected approximation
            error is estimated from.
        limit: Number of test pairs that are measured, evenly spaced; None for all.
    """

    start: str | None = None
    likelihood: str
    beta: Schedule
    weight_decay: float = 0.0
    radius: float | None = None
    steps: int = 50
    num_samples: int = 5
    limit: int | None = None

    @property
    def predecessor(self) -> str | None:
        """Name of the experiment that has to be run first, if there is one."""
        return self.start


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings(Training):
    """How a classifier or segmenter is trained, attacked and certified.

    Attributes:
        perturbation_set: Name of the experiment that learns the perturbation set.
        training: Kind of training, one of `TRAININGS`.
        optimizer: "sgd", with momentum 0.9, or "adam".
        radius: Radius of the ball that "augmentation", "encoded", "adversarial" and
            "mixture" train in, and of that around each noise of "smooth_adv" and
            "hybrid".
        attack_steps: Number of steps of the attack in training.
        attack_relative_step: Length of these steps as a fraction of the radius.
        clean_fraction: Fraction of each batch of a "mixture" that is not attacked, or
            of a "hybrid" that is truly perturbed instead.
        sigma: Standard deviation of the noise of "smoothing", "smooth_adv" and
            "hybrid", with which the classifier is certified. A quantile stands for the
            sigma at which that quantile is the largest radius that n samples can
            certify, which is how the paper's values follow from its quantiles.
        radii: Radii of the attacks that measure it.
        attack: Name of these attacks: "pgd", with steps of a twentieth of the radius,
            or "apgd", which is stronger.
        steps: Number of steps of these attacks.
        limit: Number of test images that are attacked; None for all.
        certify_limit: Number of test images that are certified; None for `limit`.
        n0: Number of noise samples that select the class to certify.
        n: Number of noise samples that certify it.
        alpha: Probability that a certificate is wrong.
    """

    perturbation_set: str
    training: str
    optimizer: str = "sgd"
    radius: Radius | None = None
    attack_steps: int = 7
    attack_relative_step: float = 0.2
    clean_fraction: float = 0.0
    sigma: Radius | None = None
    radii: tuple[Radius, ...]
    attack: str = "pgd"
    steps: int = 50
    limit: int | None = None
    certify_limit: int | None = None
    n0: int = 100
    n: int = 10_000
    alpha: float = 1e-3

    def __post_init__(self):
        super().__post_init__()
        for name, known in (
            ("training", TRAININGS),
            ("optimizer", ("sgd", "adam")),
            ("attack", ("pgd", "apgd")),
        ):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(
                    f"`{name}` must be one of {tuple(known)}. Received: {name}={value}"
                )

    @property
    def predecessor(self) -> str:
        """Name of the experiment that has to be run first."""
        return self.perturbation_set


#: What a classifier may be trained on, in words.
TRAININGS = {
    "plain": "on images as they are",
    "perturbed": "on images and their true perturbations",
    "augmentation": "on random members of the learned set",
    "encoded": "on members of the learned set that latents of training pairs name",
    "adversarial": "on the worst members of the learned set that an attack finds",
    "mixture": "on images and their true perturbations, a part of them attacked",
    "augmix": "on images, and to predict AugMix's mixtures of them alike",
    "prime": "on images, and to predict PRIME's mixtures of them alike",
    "smoothing": "on Gaussian noise in the latent of the learned set",
    "hybrid": "on true perturbations, and on the worst members around random ones",
    "smooth_adv": "on the worst members around random ones that an attack finds",
}


# Settings of "laptop" that "quick" replaces.
_QUICK: dict[type, dict[str, Any]] = {
    SetSettings: {"epochs": 1, "steps": 3, "num_samples": 1, "limit": 8},
    ClassifierSettings: {
        "epochs": 1,
        "attack_steps": 2,
        "steps": 3,
        "limit": 4,
        "certify_limit": None,
        "n0": 10,
        "n": 100,
    },
}
_QUICK_DATA: dict[str, dict[str, Any]] = {
    "photos": {"patches": (24, 4, 4)},
    "scenes": {"train": 8, "val": 2, "test": 2},
}
# At this scale, compiling a large network would take longer than everything else.
_QUICK_SIZES: dict[str, dict[str, Any]] = {
    "mnist_stn": {"latent_dim": 8, "transformers": 1, "localisation": (16, 8)},
    "small_cnn": {"filters": (8,), "units": 16},
    "mi_unet": {"channels": (8, 16), "latents": (8, 4), "pool": ((15, 23), (7, 11))},
    "Unet": {"channels": (8, 16)},
}


@dataclass(frozen=True)
class Experiment:
    """A row of the paper's tables.

    Attributes:
        about: Description in a few words.
        paper: Settings of the paper.
        laptop: Settings that differ at the scale of a few minutes on a laptop, with
            data that need no download.
        published: Results that the paper reports, by the names that ours have.
    """

    about: str
    paper: SetSettings | ClassifierSettings
    laptop: Mapping[str, Any]
    published: Mapping[str, float] = field(default_factory=dict)

    def settings(self, scale: str) -> SetSettings | ClassifierSettings:
        """Returns the settings at one of `SCALES`; "quick" is every stage, but short.

        Raises:
            ValueError: If there is no such scale.
        """
        if scale not in SCALES:
            raise ValueError(
                f"`scale` must be one of {SCALES}. Received: scale={scale!r}"
            )
        if scale == "paper":
            return self.paper
        laptop = changed(self.paper, **self.laptop)
        if scale == "laptop":
            return laptop
        options = {**laptop.options, **_QUICK_DATA.get(laptop.data, {})}
        for side in {"height", "width"} & options.keys():
            options[side] //= 2
        return changed(
            laptop,
            **_QUICK[type(laptop)],
            options=options,
            sizes=_QUICK_SIZES.get(laptop.network, laptop.sizes),
        )


def changed(settings: _Settings, **changes: Any) -> _Settings:
    """Returns the settings with some of them replaced.

    Schedules keep their form: where `epochs` is replaced and a schedule is not, the
    epochs of the schedule are scaled in proportion.

    Raises:
        ValueError: If there is no such setting.
    """
    names = {f.name for f in dataclasses.fields(settings)}
    unknown = sorted(changes.keys() - names)
    if unknown:
        raise ValueError(
            f"There are no settings {unknown}; there are: {sorted(names)}."
        )
    factor = changes.get("epochs", settings.epochs) / settings.epochs
    for name in {"learning_rate", "beta"} & names - changes.keys():
        epochs, values = getattr(settings, name)
        changes[name] = tuple(epoch * factor for epoch in epochs), values
    return dataclasses.replace(settings, **changes)
