"""Files are written whole or not at all."""

import json

import pytest

from lps_tf._internal import files


def contents(folder):
    """Everything under a folder, hidden files as well."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def failing(partial):
    """A writer that gets half way: it makes `partial` of its path, then raises."""

    def write(path):
        partial(path)
        raise RuntimeError("disk full")

    return write


def make_folder(**named):
    def write(path):
        path.mkdir()
        for name, text in named.items():
            (path / name).write_text(text)

    return write


def test_writes_a_file_and_the_folders_it_needs(tmp_path):
    path = tmp_path / "a" / "b" / "result.txt"
    assert files.write_text(str(path), "one") == path
    assert contents(tmp_path) == {"a/b/result.txt": "one"}


def test_replaces_a_file(tmp_path):
    files.write_text(tmp_path / "result.txt", "one")
    files.write(tmp_path / "result.txt", b"two")
    assert contents(tmp_path) == {"result.txt": "two"}


def test_json_is_readable_again(tmp_path):
    content = {"radius": 2.5, "classes": [0, 1], "name": None}
    files.write_json(tmp_path / "card.json", content)
    text = (tmp_path / "card.json").read_text()
    assert json.loads(text) == content and text.endswith("}\n")


def test_what_is_no_json_leaves_the_old_file(tmp_path):
    files.write_json(tmp_path / "card.json", {"radius": 1})
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "card.json", {"radius": object()})
    assert json.loads((tmp_path / "card.json").read_text()) == {"radius": 1}
    assert len(contents(tmp_path)) == 1


@pytest.mark.parametrize(
    "partial", [lambda path: path.write_text("ha"), lambda path: None]
)
def test_a_writer_that_raises_leaves_the_old_file_and_no_other(tmp_path, partial):
    files.write_text(tmp_path / "result.txt", "old")
    with pytest.raises(RuntimeError, match="disk full"):
        files.atomically(tmp_path / "result.txt", failing(partial))
    assert contents(tmp_path) == {"result.txt": "old"}


def test_a_writer_that_raises_leaves_nothing_where_nothing_was(tmp_path):
    with pytest.raises(RuntimeError, match="disk full"):
        files.atomically(tmp_path / "model", failing(make_folder(weights="ha")))
    assert list(tmp_path.iterdir()) == []


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "result.txt"
    files.write_text(path, "old")
    seen = []

    def write(temporary):
        temporary.write_text("ne")
        seen.append(path.read_text())
        temporary.write_text("new")

    files.atomically(path, write)
    assert seen == ["old"] and path.read_text() == "new"


@pytest.mark.parametrize("name", ["model.keras", "picture.png", "folder"])
def test_the_temporary_name_is_beside_and_ends_alike(tmp_path, name):
    paths = []

    def write(temporary):
        paths.append(temporary)
        temporary.write_text("x")

    files.atomically(tmp_path / name, write)
    assert paths[0].parent == tmp_path and paths[0].name != name
    assert paths[0].name.endswith((tmp_path / name).suffix)


def test_replaces_a_folder_and_all_in_it(tmp_path):
    files.atomically(tmp_path / "model", make_folder(weights="1", old="x"))
    files.atomically(tmp_path / "model", make_folder(weights="2"))
    assert contents(tmp_path) == {"model/weights": "2"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folders_writer_that_raises_leaves_the_old_folder(tmp_path):
    files.atomically(tmp_path / "model", make_folder(weights="1"))
    with pytest.raises(RuntimeError, match="disk full"):
        files.atomically(tmp_path / "model", failing(make_folder(weights="2")))
    assert contents(tmp_path) == {"model/weights": "1"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_writer_that_writes_nothing_leaves_the_old_folder(tmp_path):
    files.atomically(tmp_path / "model", make_folder(weights="1"))
    with pytest.raises(FileNotFoundError):
        files.atomically(tmp_path / "model", lambda path: None)
    assert contents(tmp_path) == {"model/weights": "1"}
