"""The code of the README runs, and prints what the README says."""

import contextlib
import importlib.metadata
import io
import re
from pathlib import Path

import numpy as np
import pytest

import lps_tf as lps
from tests.datasets.image_folders import save

README = Path(__file__).parents[1] / "README.md"


def blocks(text):
    return [block.split("```")[0] for block in text.split("```python\n")[1:]]


PRESET, TRAINING = blocks(README.read_text())
# It goes on from the README's second block.
(CERTIFIER,) = blocks(
    (README.parent / "docs" / "data.md")
    .read_text()
    .split("\n## From two folders to a certifier\n")[1]
    .split("\n## ")[0]
)
# What makes these two short, without changing what they call.
SHORTER = {
    "image_size=(64, 64)": "image_size=(16, 16)",
    "blocks=2": "blocks=1, wide=4, narrow=4",
    "epochs=40": "epochs=1",
    "epochs=25": "epochs=1",
    "data.test_pairs)": "data.test_pairs.take(1), steps=2)",
    "LatentAPGD(pset)": "LatentAPGD(pset, steps=2)",
    "n=1000": "n0=10, n=20",
}


def run(code, **names):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), names)
    return names, printed.getvalue()


def test_pythons_are_those_of_the_package():
    classifiers = importlib.metadata.metadata("lps_tf").get_all("Classifier")
    versions = [name.split(" :: ")[-1] for name in classifiers if ":: 3." in name]
    words = f"{versions[0]} to {versions[-1]}"
    badge = README.parent / "docs" / "badges" / "python.svg"
    assert f"Python {words}, " in README.read_text()
    assert f"[![Python {words}](docs/badges/python.svg)]" in README.read_text()
    assert f">{words}</text>" in badge.read_text()


@pytest.mark.slow
def test_the_trained_set_gives_what_the_readme_shows():
    names, printed = run(PRESET)
    shown = README.read_text().split("```\nclasses ")[1].split("```")[0]
    # Processors round differently: one in a thousand samples, which bound a radius, may
    # fall on the other side. At the attack's radius no image is about to change.
    radius = re.compile(r"\d\.\d")
    assert radius.sub("r", printed) == radius.sub("r", f"classes {shown}")
    found, expected = (
        [float(r) for r in radius.findall(text)] for text in (printed, shown)
    )
    assert found == pytest.approx(expected, abs=0.11)
    assert names["members"].shape == (10, 10, 42, 42, 1)


@pytest.mark.slow
def test_two_folders_become_a_certifier(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    for i in range(24):
        pixels = random.integers(0, 256, (16, 16, 3))
        name = f"{'cats' if i % 2 else 'dogs'}/{i}.png"
        save(tmp_path / "photos" / "dry" / name, pixels)
        save(tmp_path / "photos" / "rain" / name, pixels // 2)
    code = TRAINING + CERTIFIER
    for long, short in SHORTER.items():
        assert code.count(long) == 1, long
        code = code.replace(long, short)
    monkeypatch.chdir(tmp_path)
    names, _ = run(code, lps=lps)
    assert names["pset"].radius > 0
    assert (tmp_path / "certifier" / "saved_model.pb").exists()
