"""Results in a folder: of one set of settings, whole or made again."""

import numpy as np
import pytest

from lps_tf._internal.store import Store, fingerprint

ARRAYS = {"radius": np.arange(3.0), "prediction": np.array([1, 2, 0])}


def test_results_are_read_as_they_were_written(tmp_path):
    folder = tmp_path / "not" / "there"
    store = Store(folder, {"sizes": (1, 2)})
    assert store.read_json("a.json") is None and store.read_arrays("a.npz") is None
    assert not folder.exists()  # nothing is written before the first result
    store.write_json("stages/a.json", {"x": [1, None]})
    store.write_arrays("a.npz", ARRAYS)
    again = Store(folder)
    assert again.settings == {"sizes": [1, 2]}
    assert again.read_json("stages/a.json") == {"x": [1, None]}
    found = again.read_arrays("a.npz")
    assert found.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(found[name], values)


def test_without_a_folder_nothing_is_kept():
    store = Store(None, {"seed": 0})
    store.claim()
    store.write_json("a.json", 1)
    store.write_arrays("a.npz", ARRAYS)
    assert store.read_json("a.json") is None and store.read_arrays("a.npz") is None


def test_other_settings_are_refused_and_named(tmp_path):
    settings = {"seed": 0, "model": {"name": "a", "layers": [1, 2]}, "long": "x" * 200}
    Store(tmp_path, settings).claim()
    Store(tmp_path, {**settings, "model": {"name": "a", "layers": (1, 2)}}).claim()
    other = {"seed": 1, "model": {"name": "b", "layers": [1, 2]}, "long": "y" * 200}
    with pytest.raises(ValueError, match="other settings") as error:
        Store(tmp_path, other, "Go away.")
    message = str(error.value)
    assert "model.name is a there, b here; seed is 0 there, 1 here. Go" in message
    assert "layers" not in message and len(message) < 400
    with pytest.raises(ValueError, match="sigma is None there, 1 here"):
        Store(tmp_path).require({**settings, "sigma": 1})
    # Whoever claims it in the meantime has it.
    late = Store(tmp_path / "new", {"seed": 0})
    Store(tmp_path / "new", {"seed": 1}).claim()
    with pytest.raises(ValueError, match="seed is 1 there, 0 here"):
        late.write_json("a.json", 1)


def test_files_of_nobody_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no results"):
        Store(tmp_path)
    (tmp_path / ".123.settings.json").touch()  # what another process is writing
    Store(tmp_path, {})
    (tmp_path / "a.npz").touch()
    with pytest.raises(ValueError, match=r"holds files but no settings.json"):
        Store(tmp_path, {})


def test_damaged_results_count_as_missing(tmp_path):
    store = Store(tmp_path, {})
    store.write_json("a.json", {"x": 1})
    store.write_arrays("a.npz", ARRAYS)
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.json").write_text('{"x": ')
    assert store.read_json("a.json") is None
    for content in (b"", whole[:200], whole[:100] + bytes(50) + whole[150:], b"text"):
        (tmp_path / "a.npz").write_bytes(content)
        assert store.read_arrays("a.npz") is None


def test_what_is_no_json_is_not_kept(tmp_path):
    with pytest.raises(TypeError):
        Store(tmp_path, {}).write_json("a.json", object())
    assert list(tmp_path.iterdir()) == []


def test_results_of_other_inputs_are_refused(tmp_path):
    x = np.random.default_rng(0).uniform(size=(3, 4, 4, 1))
    mark = fingerprint(np.arange(3), x, np.array([2, 0, 1]))
    assert mark.shape == (3, 3) and mark[1, 2] == pytest.approx(x[2].mean())
    store = Store(tmp_path, {})
    store.write_arrays("a.npz", ARRAYS, mark)
    assert store.read_arrays("a.npz", mark + 1e-6).keys() == ARRAYS.keys()
    for other in (mark + 0.01, mark[:, :2], mark[:2]):
        with pytest.raises(ValueError, match=r"a\.npz holds results of other images"):
            store.read_arrays("a.npz", other)
