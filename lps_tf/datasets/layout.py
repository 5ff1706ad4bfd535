"""What one folder of images says: their splits, their classes and their size."""

import hashlib
import os
import warnings

from lps_tf._internal import checks
from lps_tf._internal.progress import progress
from lps_tf.datasets.image_files import MODES, Headers
from lps_tf.datasets.matching import Match, few

# What folders of a data set that is split already are called.
_SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training"), "training"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def checked(
    image_size: tuple[int, int] | None,
    channels: int,
    validation_split: float,
    test_split: float,
) -> tuple[tuple[int, int] | None, dict[str, float]]:
    """Checks what the loaders of folders are asked for.

    Returns:
        (height, width) as ints, None for that of the files; and fractions by the name
        of their split.

    Raises:
        ValueError: If one of them is none, or no images are left to train on.
    """
    if channels not in MODES:
        raise ValueError(f"`channels` must be 1 or 3. Received: channels={channels}")
    if image_size is not None:
        try:
            height, width = image_size
        except (TypeError, ValueError):
            raise ValueError(
                "`image_size` must be (height, width). "
                f"Received: image_size={image_size}"
            ) from None
        image_size = (
            checks.count("image_size", height),
            checks.count("image_size", width),
        )
    fractions = {
        "test": checks.probability("test_split", test_split),
        "validation": checks.probability("validation_split", validation_split),
    }
    if sum(fractions.values()) >= 1:
        raise ValueError(
            "`validation_split` and `test_split` must leave images to train on. "
            f"Received: validation_split={validation_split}, test_split={test_split}"
        )
    return image_size, fractions


def given_splits(matches: list[Match]) -> tuple[list[Match], list[str | None]]:
    """Reads the splits off the folders that all images are in, and leaves these out.

    Returns:
        The matches, and for each its split, None if folders do not tell.
    """
    folders = {first_folder(match) for match in matches}
    splits = {folder for folder in folders if folder.lower() in _SPLIT_FOLDERS}
    if splits != folders:
        if splits:
            warnings.warn(
                f"Folders named {few(sorted(splits))} are taken for classes, because "
                "not all clean images are in such. If they are splits, pass one of "
                "them at a time, or move the others away.",
                stacklevel=3,
            )
        return matches, [None] * len(matches)
    given: list[str | None] = [
        _SPLIT_FOLDERS[first_folder(match).lower()] for match in matches
    ]
    inside = [match._replace(name=match.name.partition("/")[2]) for match in matches]
    return inside, given


def split(
    matches: list[Match],
    given: list[str | None],
    fractions: dict[str, float],
    seed: int,
) -> dict[str, list[Match]]:
    """Training, validation and test images, each in an order without meaning."""

    def share(match: Match) -> float:
        digest = hashlib.sha256(os.fsencode(f"{seed}/{match.name}")).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    # Not by class: training shuffles no more than a part of the images at once.
    order = sorted(
        (share(match), match, split)
        for match, split in zip(matches, given, strict=True)
    )
    splits = {
        name: [match for _, match, split in order if split == name]
        for name in fractions
    }
    rest = [(s, match) for s, match, split in order if split not in fractions]
    missing = [name for name in fractions if not splits[name]]
    end = 0.0
    for i, name in enumerate(missing):
        end += fractions[name]
        # Those below the start have gone to the split before. One at least, and one is
        # left for each split to come.
        count = sum(s < end for s, _ in rest)
        count = max(1, min(count, len(rest) - len(missing) + i))
        splits[name] = [match for _, match in rest[:count]]
        rest = rest[count:]
    return {**splits, "training": [match for _, match in rest]}


def common_size(
    matches: list[Match], image_size: tuple[int, int] | None
) -> tuple[int, int]:
    """The (height, width) to read all images in; opens each, but decodes none.

    Warns of pairs that resizing moves apart, because their aspect ratios differ.

    Args:
        matches: Images and their versions.
        image_size: That size, or None to take the one that all images have.

    Raises:
        ValueError: Naming all files that cannot be read or are not of one size.
    """
    headers, unequal, stretched = Headers(), [], []
    for match in progress(matches, "checking images", show=len(matches) > 1000):
        clean = headers.read(match.path)
        for _, path in match.versions:
            size = headers.read(path)
            if clean and size and clean != size:
                unequal.append(path)
                # Rounding makes a difference of one row or column.
                if abs(clean[0] * size[1] - clean[1] * size[0]) > max(*clean, *size):
                    stretched.append(path)

    problems = [
        f"{what} ({len(paths)}): {few(paths)}"
        for what, paths in (
            ("cannot be read", headers.broken),
            ("hold floats; save them in 8 or 16 bits", headers.floats),
        )
        if paths
    ]
    if image_size is None and len(headers.sizes) > 1:
        common = sorted(headers.sizes.items(), key=lambda item: -len(item[1]))[:5]
        listed = "; ".join(f"{s} in {len(p)} ({few(p, 2)})" for s, p in common)
        problems.append(
            f"of {len(headers.sizes)} sizes (height, width): {listed}. Pass "
            "`image_size` to resize them"
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
    return image_size or next(iter(headers.sizes))


def class_names(matches: list[Match]) -> tuple[str, ...]:
    """Names of the folders that the images are in, sorted; none if one is in none."""
    outside = [match.path for match in matches if not first_folder(match)]
    if not outside:
        return tuple(sorted({first_folder(match) for match in matches}))
    if len(outside) < len(matches):
        warnings.warn(
            f"{len(outside)} of {len(matches)} clean images lie in no folder of their "
            f"class, so that folders are no classes and all labels 0: {few(outside)}",
            stacklevel=3,
        )
    return ()


def first_folder(match: Match) -> str:
    """The first folder that an image is in, "" if none."""
    folder, slash, _ = match.name.partition("/")
    return folder if slash else ""
