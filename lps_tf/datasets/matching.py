"""Which image files of two folders belong together, and whether they can be used."""

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Container, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from lps_tf._internal.progress import progress

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


class Match(NamedTuple):
    """A clean image and its perturbed versions.

    Attributes:
        name: below its folder, with "/" on every system and without suffix.
        path: of the clean image.
        versions: what the name of a version adds to that of the clean image, which
            may be nothing, and its path.
    """

    name: str
    path: str
    versions: list[tuple[str, str]]


def few(paths: Sequence[str], most: int = 5) -> str:
    """The first of the paths, for messages."""
    return ", ".join(paths[:most]) + (", ..." if len(paths) > most else "")


# By names alone.


def matched(clean_dir: Path, perturbed_dir: Path) -> tuple[list[Match], str]:
    """The clean images that have perturbed versions; warns of all other files.

    Args:
        clean_dir: folder of the clean images.
        perturbed_dir: folder of the perturbed ones; see `paired_folders`.

    Returns:
        The matches by name, and a sentence on how many files there are.

    Raises:
        ValueError: if nothing matches, or two clean images share a name.
    """
    (clean, others), (perturbed, more) = _images(clean_dir), _images(perturbed_dir)
    names = Counter(name for name, _ in clean)
    shared = [path for name, path in clean if names[name] > 1]
    if shared:
        raise ValueError(
            "Clean images must differ in more than their suffix, or nobody knows whose "
            f"versions the perturbed ones are. Received: {few(shared)}"
        )
    versions, strays = defaultdict(list), []
    for name, path in perturbed:
        original = _original(name, names)
        if original is None:
            strays.append(path)
        else:
            versions[original].append((name[len(original) + 1 :], path))
    matches = [
        Match(name, path, versions[name]) for name, path in clean if name in versions
    ]
    found = (
        f"Found {len(clean)} clean images in {clean_dir} and {len(perturbed)} "
        f"perturbed ones in {perturbed_dir}, of which {len(matches)} and "
        f"{len(perturbed) - len(strays)} match."
    )
    left_out = {
        "clean images without perturbed version": [
            path for name, path in clean if name not in versions
        ],
        "perturbed images without clean image": strays,
        f"files that are not {', '.join(_SUFFIXES)}": others + more,
    }
    notes = [f"{what} ({len(p)}): {few(p)}" for what, p in left_out.items() if p]
    if not matches:
        raise ValueError(
            "A perturbed image must have the name of its clean image, or that name, an "
            "underscore and more, or lie in a folder of that name. "
            + "\n- ".join([found, *notes])
        )
    if notes:
        warnings.warn("\n- ".join(["Some files are left out:", *notes]), stacklevel=3)
    return matches, found


def _images(folder: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """Name and path of each image in a folder, sorted; the paths of other files."""
    images, others = [], []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(parent).relative_to(folder)
        for file in files:
            path = os.path.join(parent, file)
            stem, suffix = os.path.splitext(file)
            if suffix.lower() in _SUFFIXES and not file.startswith("."):
                images.append(((inside / stem).as_posix(), path))
            elif not file.startswith("."):
                others.append(path)
    return sorted(images), sorted(others)


def _original(name: str, clean: Container[str]) -> str | None:
    """The longest clean name that fits the name of a perturbed image."""
    start, end = name.rfind("/") + 1, len(name)
    while end > start:
        if name[:end] in clean:
            return name[:end]
        end = name.rfind("_", start, end)
    folder = name[: max(start - 1, 0)]
    return folder if folder in clean else None


# By the files' headers.


def common_size(
    matches: list[Match], image_size: tuple[int, int] | None
) -> tuple[int, int]:
    """The (height, width) to read all images in; opens each, but decodes none.

    Warns of pairs that resizing moves apart, because their aspect ratios differ.

    Args:
        matches: the images.
        image_size: that size, or None to take the one that all images have.

    Raises:
        ValueError: naming all files that cannot be read or are not of one size.
    """
    broken, unequal, stretched, sizes = [], [], [], defaultdict(list)
    for match in progress(matches, "checking images", show=len(matches) > 1000):
        clean = None
        for path in (match.path, *(path for _, path in match.versions)):
            try:
                with Image.open(path) as image:
                    width, height = image.size
                    image.verify()
            except Exception:  # decoders raise errors of many kinds
                broken.append(path)
                continue
            sizes[height, width].append(path)
            if path == match.path:
                clean = height, width
            elif clean and clean != (height, width):
                unequal.append(path)
                # Rounding makes a difference of one row or column.
                apart = abs(clean[0] * width - clean[1] * height)
                if apart > max(*clean, height, width):
                    stretched.append(path)

    problems = []
    if broken:
        problems.append(f"cannot be read ({len(broken)}): {few(broken)}")
    if image_size is None and len(sizes) > 1:
        listed = sorted(sizes.items(), key=lambda item: -len(item[1]))[:5]
        listed = "; ".join(f"{s} in {len(p)} ({few(p, 2)})" for s, p in listed)
        problems.append(
            f"of {len(sizes)} sizes (height, width): {listed}. Pass `image_size` to "
            "resize them"
        )
        if unequal:
            problems.append(
                f"of another size than their clean image ({len(unequal)}): "
                f"{few(unequal)}"
            )
    if problems:
        raise ValueError("\n- ".join(["Some images cannot be used:", *problems]))
    if stretched:
        warnings.warn(
            "Some perturbed images have another aspect ratio than their clean image, "
            f"and resizing moves the two apart ({len(stretched)}): {few(stretched)}",
            stacklevel=3,
        )
    return image_size or next(iter(sizes))
