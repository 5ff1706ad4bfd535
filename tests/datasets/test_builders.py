"""Our TFDS builders under TFDS's own test case: registered, documented, prepared."""

import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

import pytest
import tensorflow_datasets as tfds

from lps_tf.datasets.builders import corrupted, patches
from lps_tf.datasets.builders import multi_illumination as mi
from tests.datasets.published_scenes import FOLDERS, write_scene

pytestmark = pytest.mark.filterwarnings("ignore:.*scenes of Multi-Illumination are in")


@pytest.mark.slow
class MultiIlluminationTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = mi.MultiIllumination
    BUILDER_CONFIG_NAMES_TO_TEST: ClassVar = ["mip5"]
    SPLITS: ClassVar = {"train": 2, "validation": 1, "test": 1}

    @classmethod
    def setUpClass(cls):
        cls.EXAMPLE_DIR = tempfile.mkdtemp()  # the unpacked archives
        for folder in FOLDERS:
            write_scene(Path(cls.EXAMPLE_DIR) / folder)
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.EXAMPLE_DIR)


FEW = [
    corrupted.PatchSet(name=f"few_{name}", patches=(3, 1, 2), **what)
    for name, what in corrupted.SETS.items()
]


class CorruptedPhotosTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = corrupted.LpsCorruptedPhotos
    BUILDER_CONFIG_NAMES_TO_TEST: ClassVar = FEW[:1]
    SPLITS: ClassVar = {"train": 33, "validation": 11, "test": 22}
    EXAMPLE_DIR = str(Path(__file__).parent)  # it needs none

    @classmethod
    def setUpClass(cls):
        # The test case forbids np.load, and scikit-image reads a photograph with it.
        list(patches.patches("train", 1))
        super().setUpClass()


del tfds  # pytest would collect the base class through it
