"""What a user tries first, with an installed wheel alone: `make package` runs it."""

import subprocess
import sys
from pathlib import Path

import lps_tf.corruptions

HEAVY = {"tensorflow", "keras", "tensorflow_datasets", "matplotlib"}
assert not HEAVY & {*sys.modules}, HEAVY & {*sys.modules}

import numpy as np

import lps_tf as lps

assert Path(lps.__file__).is_relative_to(sys.prefix), lps.__file__
images = np.full((4, 32, 32, 1), 0.5, np.float32)
assert lps.corruptions.corrupt(images, "fog", severity=3).shape == images.shape

moved = lps.sets.parametric.Translation(images.shape[1:], 3)
classifier = lps.networks.classifiers.small_cnn(images.shape[1:], 3)
attack = lps.LatentAPGD(moved, steps=2)
assert attack(classifier, images, np.zeros(4, int)).shape == images.shape
smooth = lps.SmoothedClassifier(classifier, moved, sigma=0.5)
assert len(smooth.certify(images, n0=10, n=100).radius) == 4

# Templates and the command line are installed as well.
lps.plots.explorer(moved, images, "page.html")
assert "<html" in Path("page.html").read_text()
program = Path(sys.executable).with_name("lps-tf")
printed = subprocess.run([program, "--version"], capture_output=True, text=True)
assert printed.stdout == f"lps_tf {lps.__version__}\n", printed
listed = subprocess.run([program, "list"], capture_output=True, text=True, check=True)
assert "mnist_rts" in listed.stdout
print(f"lps_tf {lps.__version__} works on Python {sys.version.split()[0]}")
