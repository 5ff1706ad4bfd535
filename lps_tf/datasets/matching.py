"""Which image files of two folders belong together, by their names alone."""

import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import NamedTuple

from lps_tf.datasets.image_files import suffixes

#: From the name of an image, without folder and suffix, to what tells whose it is.
KeyFunction = Callable[[str], str]


class Match(NamedTuple):
    """A clean image and its perturbed versions.

    Attributes:
        name: Path below its folder, with "/" on every system and without suffix.
        path: Path of the clean image.
        versions: What the name of a version adds to that of the clean image, which
            may be nothing, and its path.
    """

    name: str
    path: str
    versions: list[tuple[str, str]]


def few(paths: Sequence[str], most: int = 5) -> str:
    """Lists the first of the paths, for messages."""
    return ", ".join(paths[:most]) + (", ..." if len(paths) > most else "")


def matched(
    clean_dir: Path, perturbed_dir: Path, match: KeyFunction | None = None
) -> tuple[list[Match], str]:
    """Finds the clean images that have perturbed versions; warns of all other files.

    Args:
        clean_dir: Folder of the clean images.
        perturbed_dir: Folder of the perturbed ones; see `paired_folders`.
        match: Gives a clean image and its versions the same key; None goes by names.

    Returns:
        The matches by name, and a sentence on how many files there are.

    Raises:
        ValueError: If nothing matches, or two clean images share a name or a key.
    """
    (clean, others), (perturbed, more) = _images(clean_dir), _images(perturbed_dir)
    by_key = defaultdict(list)
    for name, path in clean:
        by_key[_key(name, path, match)].append(path)
    shared = [path for paths in by_key.values() if len(paths) > 1 for path in paths]
    if shared:
        what = (
            "in more than their suffix" if match is None else "in their key (`match`)"
        )
        raise ValueError(
            f"Clean images must differ {what}, or nobody knows whose versions the "
            f"perturbed ones are. Received: {few(shared)}"
        )
    versions, strays = defaultdict(list), []
    for name, path in perturbed:
        if match is None:
            key = _original(name, by_key)
            version = "" if key is None else name[len(key) + 1 :]
        else:
            key = _key(name, path, match)
            version = _around(name, key)
        if key is not None and key in by_key:
            versions[by_key[key][0]].append((version, path))
        else:
            strays.append(path)
    matches = [
        Match(name, path, versions[path]) for name, path in clean if path in versions
    ]
    found = (
        f"Found {len(clean)} clean images in {clean_dir} and {len(perturbed)} "
        f"perturbed ones in {perturbed_dir}, of which {len(matches)} and "
        f"{len(perturbed) - len(strays)} match."
    )
    left_out = {
        "clean images without perturbed version": [
            path for _, path in clean if path not in versions
        ],
        "perturbed images without clean image": strays,
        "files that are no images": others + more,
    }
    notes = [f"{what} ({len(p)}): {few(p)}" for what, p in left_out.items() if p]
    if not matches:
        raise ValueError(
            "A perturbed image must have the name of its clean image, or that name, an "
            "underscore and more, or lie in a folder of that name; for names of "
            "another pattern, pass `match`, a function that gives both the same key. "
            + "\n- ".join([found, *notes])
        )
    if notes:
        warnings.warn("\n- ".join(["Some files are left out:", *notes]), stacklevel=3)
    return matches, found


def single(folder: Path) -> list[Match]:
    """Finds the images of one folder, without versions; warns of all other files."""
    images, others = _images(folder)
    if others:
        warnings.warn(
            f"Some files are left out, which are no images ({len(others)}): "
            f"{few(others)}",
            stacklevel=3,
        )
    return [Match(name, path, []) for name, path in images]


def _images(folder: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """Name and path of each image in a folder, sorted; the paths of other files."""
    images, others = [], []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(parent).relative_to(folder)
        for file in files:
            path = os.path.join(parent, file)
            stem, suffix = os.path.splitext(file)
            if suffix.lower() in suffixes() and not file.startswith("."):
                images.append(((inside / stem).as_posix(), path))
            elif not file.startswith("."):
                others.append(path)
    return sorted(images), sorted(others)


def _key(name: str, path: str, match: KeyFunction | None) -> str:
    """What a clean image and its versions share: a name, or a folder and a key."""
    if match is None:
        return name
    folder, slash, stem = name.rpartition("/")
    try:
        key = match(stem)
    except Exception as error:
        raise ValueError(
            f"`match` must give every image a key. Received for {stem!r} of {path}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(key, str) or not key:
        raise ValueError(
            "`match` must return a string that is not empty. "
            f"Received: match({stem!r}) = {key!r} for {path}"
        )
    return folder + slash + key


def _original(name: str, clean: Container[str]) -> str | None:
    """The longest clean name that fits the name of a perturbed image."""
    start, end = name.rfind("/") + 1, len(name)
    while end > start:
        if name[:end] in clean:
            return name[:end]
        end = name.rfind("_", start, end)
    folder = name[: max(start - 1, 0)]
    return folder if folder in clean else None


def _around(name: str, key: str) -> str:
    """What a name has before or behind its key, such as "rain" in "rain-1"."""
    stem, key = name.rpartition("/")[2], key.rpartition("/")[2]
    if stem.startswith(key) or stem.endswith(key):
        return stem.removeprefix(key).removesuffix(key).strip("-_. ")
    return ""
