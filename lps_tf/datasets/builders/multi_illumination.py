"""Multi-Illumination (Murmann et al. 2019), from its published folders.

1,015 indoor scenes, each under 25 flashes of fixed directions, with a map of the
materials in it. The archives are published at 1000x1500 (mip 2); each further mip
halves that.
"""

import io
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from lps_tf.datasets.builders.features import LIGHTS, scene_features

# Names by index in the palette of the label maps.
_PALETTE = (
    *("unassigned", "I can't tell", "More than one material", "Cardboard", "Ceramic"),
    *("Concrete", "Cork/corkboard", "Dirt", "Fabric/cloth", "Foliage", "Food", "Fur"),
    *("Glass", "Granite/marble", "Laminate", "Leather", "Linoleum", "Metal", "Mirror"),
    *("Not on list", "Painted", "Paper/tissue", "Plastic - clear", "Plastic - opaque"),
    *("Rubber/latex", "Sponge", "Styrofoam", "Tile", "splitshape", "Wallpaper", "Wax"),
    *("Wicker", "Wood", "Stone", "Chalkboard/blackboard", "Carpet/rug", "Brick"),
    *("Skin", "Water", "Hair", "no_consensus"),
)
# Those that are no material.
_UNKNOWN = {_PALETTE[i] for i in (0, 1, 2, 19, 28, 40)}

#: Names of the classes: 35 materials by the alphabet, then all else.
CLASSES = (*sorted(set(_PALETTE) - _UNKNOWN), "Other")
_CLASS_OF = np.array(
    [CLASSES.index("Other" if n in _UNKNOWN else n) for n in _PALETTE], np.uint8
)

#: (height, width) of the mips on offer.
SIZES = {3: (500, 750), 4: (250, 375), 5: (125, 187)}
_PUBLISHED_SIZE = (1500, 1000)  # Pillow's order: width, height
_PUBLISHED_SCENES = {"train": 960, "validation": 25, "test": 30}

#: What to do to have the data.
INSTRUCTIONS = (
    "unpack multi_illumination_train_mip2_jpg.zip and "
    "multi_illumination_test_mip2_jpg.zip (6.8 GB, from "
    "https://projects.csail.mit.edu/illumination/) in the manual directory, so that "
    "it holds multi_illumination_train_mip2_jpg/SCENE/dir_0_mip2.jpg and so on; "
    "without the archives' own folders, SCENE/dir_0_mip2.jpg, will do"
)


def scene_folders(manual_dir: str | Path) -> list[Path]:
    """The folders of scenes in a folder, or one level down, by name of the scene."""
    manual_dir = Path(manual_dir)
    levels = ("*", "*/*")
    files = [f for level in levels for f in manual_dir.glob(f"{level}/dir_*_mip2.jpg")]
    return sorted({file.parent for file in files}, key=lambda folder: folder.name)


def split_of(scene: str) -> str:
    """The paper's split of a scene, by its name."""
    for start, split in (("everett", "test"), ("main_drylab", "validation")):
        if scene.startswith(start):
            return split
    return "train"


@dataclass(kw_only=True)
class MipConfig(tfds.core.BuilderConfig):
    """The size of the images.

    Attributes:
        mip: A key of `SIZES`.
    """

    name: str = field(init=False)
    mip: int

    def __post_init__(self) -> None:
        """Names the folder."""
        self.name = f"mip{self.mip}"


class MultiIllumination(tfds.core.GeneratorBasedBuilder):
    """Multi-Illumination at mip 3, 4 or 5, with the paper's splits.

    The 30 scenes of one building, everett, are the test split, the 25 scenes
    main_drylab the validation split. The manual directory holds what the archives of
    mip 2 unpack to, one folder a scene, side by side or in the archives' folders.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [MipConfig(mip=mip) for mip in SIZES]
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Indoor scenes under 25 lights, with maps of their materials.",
            features=scene_features(*SIZES[self.builder_config.mip], "jpeg"),
            homepage="https://projects.csail.mit.edu/illumination/",
            citation=(
                "Lukas Murmann, Michael Gharbi, Miika Aittala, Fredo Durand: A "
                "Dataset of Multi-Illumination Images in the Wild. ICCV 2019."
            ),
            license="CC BY 4.0",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        splits: dict[str, list[Path]] = {split: [] for split in _PUBLISHED_SCENES}
        for folder in scene_folders(dl_manager.manual_dir):
            splits[split_of(folder.name)].append(folder)
        for split, folders in splits.items():
            published = _PUBLISHED_SCENES[split]
            found = f"{len(folders)} of the {published} {split} scenes of "
            found += f"Multi-Illumination are in {dl_manager.manual_dir}"
            if not folders:
                raise ValueError(f"{found}. To have all, {INSTRUCTIONS}.")
            if len(folders) != published:
                warnings.warn(f"{found}.", stacklevel=2)
        return {s: self._generate_examples(folders) for s, folders in splits.items()}

    def _generate_examples(self, folders: list[Path]) -> Iterator[tuple[str, dict]]:
        height, width = SIZES[self.builder_config.mip]
        # Pillow works on images in parallel; a scene at a time bounds the memory.
        with ThreadPoolExecutor() as pool:
            for folder in folders:
                files = [folder / f"dir_{i}_mip2.jpg" for i in range(LIGHTS)]
                images = pool.map(lambda file: _image(file, width, height), files)
                yield (
                    folder.name,
                    {
                        "images": list(images),
                        "materials": _materials(folder, width, height),
                        "scene": folder.name,
                    },
                )


def _image(file: Path, width: int, height: int) -> bytes:
    image = _read(file, "RGB").resize((width, height), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=95)
    return jpeg.getvalue()


def _materials(folder: Path, width: int, height: int) -> Image.Image:
    file = folder / "materials_mip2.png"
    indices = np.asarray(_read(file, "P"))
    if indices.max() >= len(_CLASS_OF):
        raise ValueError(
            f"Scene {folder.name}: {file} must hold indices of the palette from 0 to "
            f"{len(_CLASS_OF) - 1}. Received: {indices.max()}"
        )
    # Mip 5 is published one row short, so no mip but 2 is taken as it is.
    labels = Image.fromarray(_CLASS_OF[indices])
    return labels.resize((width, height), Image.Resampling.NEAREST)


def _read(file: Path, mode: str) -> Image.Image:
    try:
        with Image.open(file) as image:
            image.load()
    except (OSError, SyntaxError) as error:  # Pillow raises both for broken files
        raise ValueError(
            f"Scene {file.parent.name}: {file} is missing or broken: {error}. Unpack "
            "its archive again."
        ) from error
    if (image.mode, image.size) != (mode, _PUBLISHED_SIZE):
        raise ValueError(
            f"Scene {file.parent.name}: {file} must be as published, in Pillow's mode "
            f"{mode} and 1500x1000 pixels. Received: mode {image.mode}, "
            f"{image.width}x{image.height} pixels"
        )
    return image
