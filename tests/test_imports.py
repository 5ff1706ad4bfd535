"""Imports point one way, and another Keras backend is refused at the first one."""

import ast
import graphlib
import os
import pathlib
import subprocess
import sys

import pytest

import lps_tf

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "lps_tf"

# A room imports from its own floor or from those above it in this list.
FLOORS = [
    {"_internal", "_version"},
    {"corruptions", "networks", "training"},
    {"datasets", "sets"},
    {"certification", "perturbations"},
    {"robustness"},
    {"plots", "serving"},
    {"__init__", "_public"},  # `import lps_tf` brings all of the above
    {"experiments"},
    {"__main__"},
]
# The perturbation is injected into the classifier: it must not know any of them.
BELOW_THEIR_ROOM = {
    "robustness/classifier.py": 2,
    "robustness/objectives.py": 1,
    "robustness/metrics.py": 1,
}


def module_file(name):
    """The file of a dotted module name, None if it names no module of ours."""
    path = ROOT.joinpath(*name.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.exists():
            return file
    return None


def imported_files(file):
    """The files of this package that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively, line {node.lineno}"
            # `from lps_tf import latent` takes a module, others a name out of one.
            names = [
                submodule if module_file(submodule) else node.module
                for submodule in (f"{node.module}.{alias.name}" for alias in node.names)
            ]
        else:
            continue
        found |= {module_file(name) for name in names if name.split(".")[0] == "lps_tf"}
    return found - {None}


def room(file):
    """The name under which a file stands in FLOORS: its own, or its folder's."""
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def source_files():
    return [f for f in sorted(PACKAGE.rglob("*.py")) if f.parent.name != "templates"]


def floor(file):
    found = [i for i, rooms in enumerate(FLOORS) if room(file) in rooms]
    assert len(found) == 1, f"give {room(file)} its place in FLOORS"
    return found[0]


def name_of(file):
    return str(file.relative_to(PACKAGE))


@pytest.mark.parametrize("file", source_files(), ids=name_of)
def test_imports_come_from_the_same_or_a_lower_floor(file):
    allowed = BELOW_THEIR_ROOM.get(name_of(file), floor(file))
    wrong = [
        name_of(other)
        for other in imported_files(file)
        if floor(other) > allowed and other.parent != file.parent
    ]
    assert not wrong, f"{name_of(file)} must not import {wrong}"


def test_the_floors_name_only_rooms_that_are_there():
    assert {room(f) for f in source_files()} == set.union(*FLOORS)


def test_the_reader_of_imports_sees_them():
    # Without it, a test of imports that finds none would pass.
    for importer, imported in (
        ("sets/quality.py", "sets/latent.py"),
        ("__main__.py", "experiments/demo.py"),
        ("experiments/demo.py", "__init__.py"),
        ("datasets/mnist5k.py", "datasets/base.py"),
    ):
        assert PACKAGE / imported in imported_files(PACKAGE / importer)


def test_no_module_imports_itself_by_way_of_others():
    graph = {
        file: {f for f in imported_files(file) if f.name != "__init__.py"}
        for file in source_files()
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_the_tests_mirror_the_rooms():
    rooms = {room(f) for f in source_files() if f.parent != PACKAGE}
    folders = {f.parent.name for f in (ROOT / "tests").rglob("test_*.py")}
    others = {"tests", "benchmarks", "contracts", "tutorials"}
    assert folders - others == rooms


def test_the_check_of_exported_models_imports_nothing_of_ours():
    script = PACKAGE / "experiments" / "templates" / "check_saved_models.py"
    assert imported_files(script) == set()


def test_one_module_imports_tensorflow_probability():
    users = {f for f in source_files() if "tensorflow_probability" in f.read_text()}
    assert {name_of(file) for file in users} == {"_internal/probability.py"}


def test_every_public_name_is_there():
    assert len(set(lps_tf.__all__)) == len(lps_tf.__all__)
    for name in lps_tf.__all__:
        assert getattr(lps_tf, name) is not None


def test_the_package_shows_its_public_names_alone():
    assert set(dir(lps_tf)) == {*lps_tf.__all__, "experiments"}
    with pytest.raises(AttributeError, match="has no attribute 'experiment'"):
        _ = lps_tf.experiment


def run(code):
    """What a new process prints."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        check=True,
        capture_output=True,
        text=True,
    )
    return result.stdout


def test_corruptions_need_neither_tensorflow_nor_keras_nor_plots():
    code = """
import sys
import numpy as np
import lps_tf
from lps_tf.corruptions import corrupt
images = np.full((2, 16, 16, 1), 0.5, np.float32)
print(lps_tf.corruptions.corrupt is corrupt, corrupt(images, "fog").shape)
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""
    done, modules = run(code).splitlines()
    assert done == "True (2, 16, 16, 1)"
    assert {"numpy", "scipy", "lps_tf"} <= {*modules.split()}
    heavy = {"tensorflow", "keras", "tensorflow_datasets", "tensorflow_probability"}
    heavy |= {"tf_keras", "matplotlib", "skimage", "sklearn", "pandas", "mlxtend"}
    assert not heavy & {*modules.split()}


# Keras has to know the classes whether it is imported after lps_tf or before it, and
# TensorFlow, which imports Keras, too.
@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    [
        "import lps_tf; import keras",
        "import keras; import lps_tf",
        "import lps_tf; import tensorflow; import keras",
        "import lps_tf.corruptions; import keras",
        "from lps_tf import sets; import keras",
        "import lps_tf.experiments.comparison; import keras",
    ],
)
def test_saved_files_load_whatever_is_imported_first(imports):
    saved = ROOT / "tests" / "golden" / "saved" / "robust_classifier.keras"
    code = f"{imports}; print(type(keras.models.load_model({str(saved)!r})).__module__)"
    assert run(code) == "lps_tf.robustness.classifier\n"


@pytest.mark.essential
def test_experiments_are_imported_on_use():
    code = (
        "import sys, lps_tf as lps; before = 'lps_tf.experiments' in sys.modules; "
        "print(before, 'mnist_rts' in lps.experiments.EXPERIMENTS, lps.experiments.run)"
    )
    assert run(code).startswith("False True <function run")


@pytest.mark.slow
@pytest.mark.parametrize(
    "first",
    [
        "import lps_tf; lps_tf.experiments.compare",
        "import lps_tf; lps_tf.experiments.run",
        "import lps_tf.experiments.comparison",
        "from lps_tf._internal import checks",
        "from lps_tf._internal import progress",
    ],
)
def test_what_imports_keras_first_is_imported_whole(first):
    assert run(f"{first}; import lps_tf; print(lps_tf.sets.__name__)") == (
        "lps_tf.sets\n"
    )


# Which of Keras's other backends load depends on what is installed: even the one of
# NumPy needs JAX. So Keras only says that it runs on another one.
OTHER_BACKEND = """
import keras
keras.backend.backend = lambda: "{backend}"
try:
    import lps_tf
except ImportError as error:
    print(error)
"""


@pytest.mark.essential
@pytest.mark.parametrize("backend", ["jax"])
def test_another_backend_gives_a_clear_error(backend):
    printed = run(OTHER_BACKEND.format(backend=backend))
    assert "needs Keras's TensorFlow backend" in printed
    assert f"Received: backend '{backend}'" in printed
    assert "KERAS_BACKEND=tensorflow" in printed
