"""The experiments that train classifiers on the learned sets, and the demo.

Not in the paper are training on a mixture of true and attacked perturbations, and the
augmentations that robustness to corruptions is compared with, AugMix and PRIME.
"""

import dataclasses
from typing import Any

from lps_tf.experiments.set_table import CLOTHES, PATCHES, RTS, SETS, rts_laptop
from lps_tf.experiments.settings import ClassifierSettings, Experiment, SetSettings

# The radii of the paper are these quantiles of the latent norms of its set.
_CIFAR10C_QUANTILES = {2.7: "25%", 3.9: "50%", 10.2: "75%"}
_MI_QUANTILES = {7.35: "50%", 8.81: "75%", 17: "max"}


# Within minutes, nothing is learned against attacks that go through the whole set:
# those of photographs go a short way from wherever in it they start.
_ATTACKED_PHOTOS = {"attack_steps": 3, "attack_relative_step": 0.06}
# Radii at which digits are attacked, whatever the norms of their set.
_ROUND_RADII = (0.5, 1.0, 1.5, 2.0)
# In scenes it is a matter of the ball: noise or attacks of half its radius.
_SCENES = {"adversarial": {"radius": "50%"}, "smoothing": {"sigma": "50%"}}


def _classifier(about: str, training: str, **more: Any) -> Experiment:
    """A classifier of small photographs; `more` are the paper's settings."""
    quantiles = {28: "max", 0.84: "25%", 1.22: "50%", 3.19: "75%"}
    attacked = training in ("adversarial", "mixture")
    # Few of a mixture are attacked, and encoded pairs need no attack: quick epochs.
    epochs = 24 if training in ("mixture", "encoded") else 12
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


def _rts(
    about: str, training: str, perturbation_set: str = "mnist_rts", **more: Any
) -> Experiment:
    """A classifier of transformed digits, which the paper has none of.

    `more` are settings at every scale.
    """
    epochs = more.pop("epochs", 30)
    radii = more.pop("radii", (*_ROUND_RADII, "25%", "50%", "75%"))
    return Experiment(
        f"classifier of digits, {about}",
        ClassifierSettings(
            perturbation_set=perturbation_set,
            training=training,
            data="mnist_rts",
            batch_size=64,
            network="small_cnn",
            sizes={"filters": (32, 64)},
            optimizer="adam",
            epochs=epochs,
            learning_rate=((0, 0.3 * epochs, epochs), (0, 2e-3, 0)),
            radii=radii,
            attack="apgd",
            steps=20,
            **more,
        ),
        {"data": "mnist5k_rts"},
    )


def _on_fashion(digits: Experiment) -> Experiment:
    """The same classifier of all of Fashion-MNIST."""
    assert isinstance(digits.paper, ClassifierSettings)
    before = digits.paper.perturbation_set.replace("mnist_", "fashion_")
    paper = dataclasses.replace(
        digits.paper, perturbation_set=before, data="fashion_rts", limit=2000
    )
    # Fourteen times as many images as digits: in as many steps, fewer epochs.
    laptop = {"data": "fashion_rts", "epochs": max(1, round(paper.epochs / 14))}
    return Experiment(digits.about.replace("digits", "clothes"), paper, laptop)


def _corrupted_clothes(about: str, training: str, **more: Any) -> Experiment:
    """A classifier of corrupted clothes, which the paper has none of.

    `more` are settings at every scale.
    """
    return Experiment(
        f"classifier of corrupted clothes, {about}",
        ClassifierSettings(
            perturbation_set="fashion_corrupted",
            training=training,
            data="fashion_corrupted",
            batch_size=64,
            network="small_cnn",
            sizes={"filters": (32, 64)},
            optimizer="adam",
            epochs=20,
            learning_rate=((0, 6, 20), (0, 2e-3, 0)),
            radii=("25%", "50%", "75%"),
            attack="apgd",
            steps=20,
            limit=2000,
            **more,
        ),
        {"options": CLOTHES, "epochs": 2},
    )


# One long step from a random start, as in fast adversarial training: several times
# cheaper than seven short ones.
_FAST: dict[str, Any] = {"attack_steps": 1, "epochs": 40}
# Around random members, whose norms are those of true perturbations, the attack has
# to go less far. What is trained so can be certified.
_AROUND: dict[str, Any] = {"sigma": 1.0, "radius": 1.5}
_AROUND |= {"attack_steps": 1, "attack_relative_step": 1.0}
_SMOOTH_ADV: dict[str, Any] = {**_AROUND, "epochs": 40}
_SMOOTH_ADV |= {"n": 2000, "certify_limit": 200}

CLASSIFIERS = {
    "cifar10c_classifier/plain": _classifier("trained on clean images", "plain"),
    "cifar10c_classifier/perturbed": _classifier(
        "trained on their corruptions too", "perturbed"
    ),
    "cifar10c_classifier/augmentation": _classifier(
        "trained on random members of the learned set", "augmentation", radius=28
    ),
    "cifar10c_classifier/encoded": _classifier(
        "trained on members of the learned set, as training pairs are encoded",
        "encoded",
        radius=28,
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
    "cifar10c_classifier/augmix": _classifier(
        "trained with AugMix; not the paper's", "augmix"
    ),
    "cifar10c_classifier/prime": _classifier(
        "trained with PRIME; not the paper's", "prime"
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

CLASSIFIERS |= {
    "mnist_rts_classifier/plain": _rts("trained on clean images", "plain"),
    "mnist_rts_classifier/perturbed": _rts(
        "trained on true perturbations too", "perturbed"
    ),
    "mnist_rts_classifier/augmentation": _rts(
        "trained on random members of the learned set", "augmentation", radius="max"
    ),
    "mnist_rts_classifier/adversarial": _rts(
        "trained against latent attacks",
        "adversarial",
        radius="75%",
        attack_relative_step=1.25,
        **_FAST,
    ),
    "mnist_rts_classifier/smooth_adv": _rts(
        "trained against attacks around random members", "smooth_adv", **_SMOOTH_ADV
    ),
    "mnist_rts_classifier/hybrid": _rts(
        "trained on true perturbations, and against attacks",
        "hybrid",
        clean_fraction=0.5,
        **_SMOOTH_ADV,
    ),
    "mnist_rts_classifier/smoothing": _rts(
        "trained on latent noise, for certificates",
        "smoothing",
        sigma=1.25,
        n=2000,
        certify_limit=200,
        epochs=40,
    ),
}
CLASSIFIERS |= {
    name.replace("mnist_", "fashion_"): _on_fashion(digits)
    for name, digits in CLASSIFIERS.items()
    if name.startswith("mnist_")
}

CLASSIFIERS |= {
    "fashion_corrupted_classifier/plain": _corrupted_clothes(
        "trained on clean images", "plain"
    ),
    "fashion_corrupted_classifier/perturbed": _corrupted_clothes(
        "trained on their corruptions too", "perturbed"
    ),
    "fashion_corrupted_classifier/augmentation": _corrupted_clothes(
        "trained on random members of the learned set", "augmentation", radius="max"
    ),
    "fashion_corrupted_classifier/encoded": _corrupted_clothes(
        "trained on members of the learned set, as training pairs are encoded",
        "encoded",
        radius="max",
    ),
    "fashion_corrupted_classifier/augmix": _corrupted_clothes(
        "trained with AugMix", "augmix"
    ),
    "fashion_corrupted_classifier/prime": _corrupted_clothes(
        "trained with PRIME", "prime"
    ),
    "fashion_corrupted_classifier/smooth_adv": _corrupted_clothes(
        "trained against attacks around random members",
        "smooth_adv",
        **_AROUND,
        n=1000,
        certify_limit=50,
    ),
    "fashion_corrupted_classifier/hybrid": _corrupted_clothes(
        "trained on true corruptions, and against attacks",
        "hybrid",
        clean_fraction=0.5,
        **_AROUND,
        n=1000,
        certify_limit=50,
    ),
}

_DEMO: dict[str, Any] = {"limit": 200, "radii": _ROUND_RADII}
#: What `python -m lps_tf demo` runs, in this order.
DEMO = {
    "demo/set": Experiment(
        "digits rotated, translated and scaled",
        SetSettings(**{**RTS, "radius": None}),
        {**rts_laptop(40), "limit": 256},
    ),
    "demo/plain": _rts(
        "trained on clean images", "plain", "demo/set", epochs=15, **_DEMO
    ),
    "demo/perturbed": _rts(
        "trained on true perturbations too",
        "perturbed",
        "demo/set",
        epochs=15,
        **_DEMO,
    ),
    "demo/robust": _rts(
        "trained against attacks around random members",
        "smooth_adv",
        "demo/set",
        **{**_AROUND, **_DEMO, "sigma": 1.25, "epochs": 28},
        n=1000,
        certify_limit=100,
    ),
}
