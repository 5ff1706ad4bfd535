"""Sets of every kind: learned, of a formula, composed, or one's own."""

import inspect
import textwrap
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import pytest

import lps_tf as lps
from lps_tf.sets import parametric, protocol
from lps_tf.sets.protocol import LatentSet
from tests.contracts.models import pictures

GREY, COLOUR = (12, 12, 1), (12, 12, 3)


def own_set(*_):
    """The example of the protocol's docstring, word for word."""
    text = inspect.getdoc(LatentSet).split("Example:\n")[1]
    names = dict(vars(protocol))
    exec(textwrap.dedent(text), names)
    return names["Dimmed"]()


def own_weaker_set(*_):
    class Weaker(type(own_set())):
        def digest(self):
            return "dimmed by a quarter"

    return Weaker()


def relearned(tiny_set):
    other = lps.PerturbationSet.from_config(tiny_set.get_config())
    other.build((None, *GREY))
    return other  # of fresh weights


class Case(NamedTuple):
    """How to make a set, and another one that perturbs differently."""

    make: Callable
    other: Callable
    keeps: bool = True  # whether u = 0 changes nothing
    shape: tuple = GREY


P = parametric
CASES = {
    "learned": Case(lambda tiny: tiny, relearned, keeps=False),
    "own": Case(own_set, own_weaker_set),
    "affine": Case(
        lambda _: P.Affine(GREY, rotation=30, translation=2, scale=0.2, shear=0.1),
        lambda _: P.Affine(GREY, rotation=30, translation=2, scale=0.2, shear=0.2),
    ),
    "rts": Case(
        lambda _: P.Affine(GREY, rotation=45, translation=3, scale=0.3, map="uniform"),
        lambda _: P.Affine(GREY, rotation=45, translation=3, scale=0.3),
    ),
    "lopsided": Case(
        lambda _: P.Affine(GREY, rotation=(0, 40)),
        lambda _: P.Affine(GREY, rotation=(0, 41)),
        keeps=False,
    ),
    "brightness": Case(
        lambda _: P.Brightness(GREY, 0.3), lambda _: P.Brightness(GREY, 0.2)
    ),
    "contrast": Case(lambda _: P.Contrast(GREY, 2), lambda _: P.Contrast(GREY, 3)),
    "jitter": Case(
        lambda _: P.ColourJitter(
            COLOUR, brightness=0.1, contrast=1.5, saturation=2, hue=40
        ),
        lambda _: P.ColourJitter(COLOUR, brightness=0.1, contrast=1.5, hue=40),
        shape=COLOUR,
    ),
    "blur": Case(
        lambda _: P.GaussianBlur(GREY, 1.2), lambda _: P.GaussianBlur(GREY, 1.0)
    ),
    "translation": Case(
        lambda _: P.Translation(GREY, 2), lambda _: P.Translation(GREY, 2, "wrap")
    ),
    "wrapped": Case(
        lambda _: P.Translation(GREY, 2, "wrap"), lambda _: P.Translation(GREY, 3)
    ),
    "l2": Case(lambda _: P.L2(GREY, 1.0), lambda _: P.Linf(GREY, 0.1, radius=1.0)),
    "linf": Case(lambda _: P.Linf(GREY, 0.2), lambda _: P.Linf(GREY, 0.1)),
    "composed": Case(
        lambda _: P.Compose(P.Affine(GREY, rotation=30), P.Brightness(GREY, 0.2)),
        lambda _: P.Compose(P.Affine(GREY, rotation=30), P.Brightness(GREY, 0.1)),
    ),
    "formula, then learned": Case(
        lambda tiny: P.Compose(P.Affine(GREY, rotation=30), tiny),
        lambda tiny: P.Compose(tiny, P.Affine(GREY, rotation=30)),
        keeps=False,
    ),
}


def fast(*names, among=tuple(CASES)):
    """All of some cases, those of them slow that are not named."""
    marks = {name: () if name in names else (pytest.mark.slow,) for name in among}
    return [pytest.param(name, marks=mark) for name, mark in marks.items()]


def new_classifier(case):
    keras.utils.set_random_seed(4)
    return lps.networks.classifiers.small_cnn(case.shape, 3, filters=(4,), units=8)


def images(case, n=6):
    return 0.2 + 0.6 * pictures(n, case.shape, seed=2)


def latents(pset, n=6, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(n, pset.latent_dim)).astype(np.float32)
