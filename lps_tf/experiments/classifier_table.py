"""The experiments that train classifiers on the learned sets, and the demo.

One is not in the paper: training on a mixture of true and attacked perturbations.
"""

from typing import Any

from lps_tf.experiments.set_table import PATCHES, RTS, SETS, rts_laptop
from lps_tf.experiments.settings import ClassifierSettings, Experiment, SetSettings

# The radii of the paper are these quantiles of the latent norms of its set.
_CIFAR10C_QUANTILES = {2.7: "25%", 3.9: "50%", 10.2: "75%"}
_MI_QUANTILES = {7.35: "50%", 8.81: "75%", 17: "max"}


# Within minutes, nothing is learned against attacks that go through the whole set:
# those of photographs go a short way from wherever in it they start.
_ATTACKED_PHOTOS = {"attack_steps": 3, "attack_relative_step": 0.06}
# In scenes it is a matter of the ball: noise or attacks of half its radius.
_SCENES = {"adversarial": {"radius": "50%"}, "smoothing": {"sigma": "50%"}}


def _classifier(about: str, training: str, **more: Any) -> Experiment:
    """A classifier of small photographs; `more` are the paper's settings."""
    quantiles = {28: "max", 0.84: "25%", 1.22: "50%", 3.19: "75%"}
    attacked = training in ("adversarial", "mixture")
    epochs = 24 if training == "mixture" else 12  # an attack on few of a batch is quick
    return Experiment(
        f"classifier of small photographs, {about}",
        ClassifierSettings(
            perturbation_set="cifar10c_from_original",
            training=training,
            data="cifar10_corrupted",
            batch_size=128,
            network="wide_resnet",
            sizes={"depth": 28, "width": 10},
            epochs=100,
            learning_rate=((0, 40, 100), (0, 0.2, 0)),
            radii=tuple(_CIFAR10C_QUANTILES),
            **more,
        ),
        {
            "data": "photos",
            "options": PATCHES,
            "batch_size": 32,
            "network": "small_cnn",
            "sizes": {"filters": (32, 64)},
            "optimizer": "adam",
            "epochs": epochs,
            "learning_rate": ((0, epochs * 2 / 5, epochs), (0, 2e-3, 0)),
            "radii": tuple(_CIFAR10C_QUANTILES.values()),
            "attack": "apgd",
            "steps": 20,
            "n": 1000,
            **{k: quantiles[v] for k, v in more.items() if v in quantiles},
            **(_ATTACKED_PHOTOS if attacked else {}),
        },
    )


def _segmenter(about: str, training: str, **more: Any) -> Experiment:
    """A segmenter of scenes; `more` are the paper's settings."""
    return Experiment(
        f"segmenter of scenes, {about}",
        ClassifierSettings(
            perturbation_set="mi_mip5",
            training=training,
            data="multi_illumination",
            options={"mip": 5},
            batch_size=128,
            network="Unet",
            optimizer="adam",
            epochs=400,
            learning_rate=((0, 160, 400), (0, 0.01, 0)),
            radii=tuple(_MI_QUANTILES),
            n=1000,
            **more,
        ),
        {
            "data": "scenes",
            "options": SETS["mi_mip5"].laptop["options"],
            "batch_size": 8,
            "sizes": {"channels": (8, 16, 32, 64, 128)},
            "epochs": 10,
            "radii": tuple(_MI_QUANTILES.values()),
            "attack": "apgd",
            "steps": 20,
            # All of them follow from the largest norm in the paper.
            **dict.fromkeys(more, "max"),
            **_SCENES.get(training, {}),
        },
    )


CLASSIFIERS = {
    "cifar10c_classifier/plain": _classifier("trained on clean images", "plain"),
    "cifar10c_classifier/perturbed": _classifier(
        "trained on their corruptions too", "perturbed"
    ),
    "cifar10c_classifier/augmentation": _classifier(
        "trained on random members of the learned set", "augmentation", radius=28
    ),
    "cifar10c_classifier/adversarial": _classifier(
        "trained against latent attacks", "adversarial", radius=28
    ),
    "cifar10c_classifier/mixture": _classifier(
        "trained on their corruptions too, a quarter of them attacked; not the paper's",
        "mixture",
        radius=28,
        clean_fraction=0.75,
    ),
    "cifar10c_classifier/smoothing_25": _classifier(
        "for certificates up to the 25% quantile of latent norms",
        "smoothing",
        sigma=0.84,
    ),
    "cifar10c_classifier/smoothing_50": _classifier(
        "for certificates up to the median of latent norms", "smoothing", sigma=1.22
    ),
    "cifar10c_classifier/smoothing_75": _classifier(
        "for certificates up to the 75% quantile of latent norms",
        "smoothing",
        sigma=3.19,
    ),
    "mi_segmentation/first_light": _segmenter("trained on the first light", "plain"),
    "mi_segmentation/all_lights": _segmenter("trained on all 25 lights", "perturbed"),
    "mi_segmentation/augmentation": _segmenter(
        "trained on random members of the learned set", "augmentation", radius=17
    ),
    "mi_segmentation/adversarial": _segmenter(
        "trained against latent attacks", "adversarial", radius=17
    ),
    "mi_segmentation/smoothing": _segmenter(
        "for certificates of each pixel", "smoothing", sigma=6.9
    ),
}


def _digits(about: str, training: str, **more: Any) -> Experiment:
    """A classifier of the demo; `more` are settings at every scale."""
    return Experiment(
        f"classifier of digits, {about}",
        ClassifierSettings(
            perturbation_set="demo/set",
            training=training,
            data="mnist_rts",
            batch_size=64,
            network="small_cnn",
            optimizer="adam",
            epochs=30,
            learning_rate=((0, 12, 30), (0, 2e-3, 0)),
            radii=("25%", "50%", "75%", "max"),
            attack="apgd",
            steps=20,
            n=1000,
            **more,
        ),
        {"data": _DEMO_DATA, "options": {"group_size": 10}},
    )


#: The data of the demo.
_DEMO_DATA = "digits_rts"
#: What `python -m lps_tf demo` runs, in this order.
DEMO = {
    "demo/set": Experiment(
        "digits rotated, translated and scaled",
        SetSettings(**{**RTS, "radius": None}),
        {
            **rts_laptop(200),
            "data": _DEMO_DATA,
            "learning_rate": ((0, 80, 200), (0, 1e-3, 0)),
            "limit": None,
        },
    ),
    "demo/plain": _digits("trained on clean images", "plain"),
    "demo/perturbed": _digits("trained on true perturbations too", "perturbed"),
    "demo/augmentation": _digits(
        "trained on random members of the learned set", "augmentation", radius="max"
    ),
    "demo/adversarial": _digits(
        "trained against latent attacks", "adversarial", radius="50%"
    ),
    "demo/smoothing": _digits(
        "trained on latent noise, for certificates", "smoothing", sigma=0.5
    ),
}
