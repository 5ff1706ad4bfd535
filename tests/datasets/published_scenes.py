"""Scenes of Multi-Illumination in the published layout, small in number."""

import numpy as np
from PIL import Image

# Folders in the published layout.
TRAIN, TEST = "multi_illumination_train_mip2_jpg", "multi_illumination_test_mip2_jpg"
FOLDERS = (
    f"{TRAIN}/kingston_dining10",
    f"{TRAIN}/main_experiment120",
    f"{TRAIN}/main_drylab7",
    f"{TEST}/everett_kitchen2",
)
# By hand: where the names of palette entries 0 to 40 stand in the alphabet.
CLASS_OF = [35, 35, 35, 1, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 18, 19, 35]
CLASS_OF += [20, 21, 22, 23, 24, 26, 28, 29, 35, 30, 32, 33, 34, 27, 4, 2, 0, 25, 31]
CLASS_OF += [14, 35]


def palette_map(scene):
    """A map of blocks of 125x125 pixels, in which each palette entry occurs."""
    random = np.random.RandomState(sum(map(ord, scene)))
    blocks = random.permutation(np.arange(96) % 41).reshape(8, 12)
    return np.kron(blocks, np.ones((125, 125), int)).astype(np.uint8)


def write_scene(folder):
    """A scene whose red tells the class, and red minus green four times the light."""
    folder.mkdir(parents=True)
    indices = palette_map(folder.name)
    level = 100 + 4 * np.array(CLASS_OF, np.uint8)[indices]
    for light in range(25):
        photo = np.stack([level, level - np.uint8(4 * light), level], -1)
        Image.fromarray(photo).save(folder / f"dir_{light}_mip2.jpg", quality=90)
    labels = Image.fromarray(indices).convert("P")
    # Colours that tell nothing about the indices.
    labels.putpalette(np.random.RandomState(0).randint(0, 256, 768).tolist())
    labels.save(folder / "materials_mip2.png")
