"""Patches of photographs that ship inside scikit-image: no download needed.

They are the offline stand-in for CIFAR-10: 32x32 colour patches of 11 photographs, and
the class is the photograph. Every report names them "photo patches (scikit-image)".
"""

import functools
from collections.abc import Callable, Iterator

import numpy as np
import skimage.data
from skimage.transform import resize

SOURCE = "photo patches (scikit-image)"
_PHOTOGRAPHS: dict[str, Callable[[], np.ndarray]] = {
    "astronaut": skimage.data.astronaut,
    "cat": skimage.data.cat,
    "coffee": skimage.data.coffee,
    "rocket": skimage.data.rocket,
    "motorcycle": lambda: skimage.data.stereo_motorcycle()[0],
    "galaxies": skimage.data.hubble_deep_field,
    "retina": skimage.data.retina,
    "tissue": skimage.data.immunohistochemistry,
    "grass": skimage.data.grass,
    "brick": skimage.data.brick,
    "gravel": skimage.data.gravel,
}
#: Names of the classes.
CLASSES = tuple(_PHOTOGRAPHS)
SIZE = 32
_BLOCK = 96  # least side of the blocks that a photograph is divided into
_LARGEST = 56  # side of the largest crop; it is reduced to a patch
_PLAIN = 6.0  # a standard deviation, of 255


def patches(
    split: str, per_class: int, seed: int = 0
) -> Iterator[tuple[np.ndarray, int]]:
    """Patches of one split, the classes in turn.

    A photograph is divided into blocks, and each block belongs to one split: no pixel
    is in two of them. A patch is a random square of a block, 32 to 56 pixels wide,
    reduced to 32. Squares that are nearly of one colour, such as the black around the
    retina and the sky, tell no class and are drawn again.

    Args:
        split: "train", "validation" or "test".
        per_class: Patches of each photograph.
        seed: Seed of the division and the squares.

    Yields:
        Patch (32, 32, 3) uint8 and label.
    """
    number = {"train": 0, "validation": 1, "test": 2}[split]
    sources = []
    for label, name in enumerate(CLASSES):
        photograph = _photograph(name)
        random = np.random.RandomState([seed, number, label])
        blocks = division(photograph.shape[:2], np.random.RandomState([seed, label]))
        sources.append((photograph, blocks[number], random))
    for _ in range(per_class):
        for label, source in enumerate(sources):
            yield _patch(*source), label


def division(
    shape: tuple[int, int], random: np.random.RandomState
) -> tuple[list, list, list]:
    """Blocks (top, left, height, width) for train, validation and test.

    About a sixth of the blocks each are for validation and for test.
    """
    cuts = [np.linspace(0, side, side // _BLOCK + 1).astype(int) for side in shape]
    blocks = [
        (top, left, bottom - top, right - left)
        for top, bottom in zip(cuts[0][:-1], cuts[0][1:], strict=True)
        for left, right in zip(cuts[1][:-1], cuts[1][1:], strict=True)
    ]
    order = [blocks[i] for i in random.permutation(len(blocks))]
    share = max(2, round(len(blocks) / 6))
    return order[2 * share :], order[:share], order[share : 2 * share]


@functools.cache
def _photograph(name: str) -> np.ndarray:
    image = _PHOTOGRAPHS[name]()
    return np.repeat(image[..., None], 3, 2) if image.ndim == 2 else image


def _patch(
    photograph: np.ndarray, blocks: list, random: np.random.RandomState
) -> np.ndarray:
    for _ in range(100):  # a whole block may be sky
        top, left, height, width = blocks[random.randint(len(blocks))]
        side = random.randint(SIZE, _LARGEST + 1)
        top += random.randint(height - side + 1)
        left += random.randint(width - side + 1)
        square = photograph[top : top + side, left : left + side]
        if square.std((0, 1)).max() >= _PLAIN:
            break
    if side == SIZE:
        return square
    small = resize(square, (SIZE, SIZE), anti_aliasing=True, preserve_range=True)
    return np.uint8(small.round().clip(0, 255))
