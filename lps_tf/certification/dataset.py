"""Certifying a data set block by block, by one process or by several."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lps_tf._internal import checks, files, inputs, outputs
from lps_tf._internal.checks import VOID
from lps_tf._internal.progress import progress
from lps_tf._version import __version__
from lps_tf.certification import coverage
from lps_tf.certification.blocks import Blocks
from lps_tf.certification.report import CertificationReport
from lps_tf.certification.smoothing import SmoothedClassifier

#: Images and labels, and perturbed versions of the images if they were asked for.
Batch = tuple[np.ndarray, ...]


def certify_dataset(
    smoothed: SmoothedClassifier,
    data: Any,
    directory: str | Path,
    *,
    perturbed: Any = None,
    n0: int = 100,
    n: int = 10_000,
    alpha: float = 1e-3,
    target_radius: float | None = None,
    share: float | None = None,
    ignore_class: int | None = None,
    shard: tuple[int, int] | None = None,
    queue: bool = False,
    limit: int | None = None,
    images_per_file: int = 10,
    verbose: bool = True,
) -> CertificationReport:
    """Certifies labelled images into a folder; goes on where an earlier run stopped.

    Noise depends on the seed and on an image's index in the data set alone, so that
    interrupted, divided and uninterrupted runs of one machine give the same files.
    The data are read twice: once to know them by a fingerprint, once to certify
    them. Memory holds one block of images, and what the data set reads ahead.

    Args:
        smoothed: Smoothed classifier or segmenter.
        data: tf.data.Dataset of batches (x, y), or a pair of arrays (x, y); x float
            (batch, height, width, channels) in [0, 1], y integers (batch,) or (batch,
            height, width), or one-hot. It must give the same images in the same order
            whenever it is read.
        directory: Folder of the results, a file for each block of images. Shards may
            share a folder.
        perturbed: True perturbations of the same images in the same order, to say how
            many of them lie inside of the certificates: batches (versions, y) as
            `PairData.test_groups` has them, or a pair of such arrays; versions (batch,
            count, height, width, channels). None leaves that out.
        n0: Number of samples that choose the class.
        n: Number of samples that bound its probability; the most of them with
            `target_radius` or `share`.
        alpha: Probability that a certificate is wrong, for each image.
        target_radius: Asks only whether the class is certain up to this radius, with
            as few samples as that takes; radii are this or 0.
        share: Stops when more samples would add less than this share of the radius.
            Not together with `target_radius`; see `SmoothedClassifier.certify`.
        ignore_class: Label of void pixels, such as 255, which count in no rate; None
            if there are none.
        shard: (i, m) certifies the i-th of m shards, i from 1 to m: every m-th block
            of images. None certifies all.
        queue: Whether other processes do the same with the same folder, and each takes
            the next block that nobody has taken: for as many processes as there are,
            and where some images take longer than others. A block whose process was
            stopped is taken again after an hour. Not together with `shard`.
        limit: How many images to take from the beginning; None for all.
        images_per_file: Images in a block, which is what an interruption loses.
        verbose: Whether to show progress.

    Returns:
        A `CertificationReport` of what is in the folder now.

    Raises:
        ValueError: If the folder holds results of other settings, weights or data
            (the message says which), the data change from one reading to the next
            or do not suit the classifier, a number is out of its range, or both a
            shard and the queue are asked for.
    """
    size = checks.count("images_per_file", images_per_file)
    limit = None if limit is None else checks.count("limit", limit)
    if queue and shard is not None:
        raise ValueError(
            "`shard` divides the blocks in advance and `queue` as they come: pass one "
            f"of them. Received: shard={shard}, queue={queue}"
        )
    number, shards = (1, 1) if shard is None else _checked_shard(*shard)

    def batches() -> Iterator[Batch]:
        found = _batches(smoothed.classifier, data, size, limit, ignore_class)
        return found if perturbed is None else _with_versions(found, perturbed, size)

    digests = [_digests(*batch) for batch in batches()]
    if not digests:
        raise ValueError("There are no images: the data set is empty.")
    options: dict[str, Any] = {
        "n0": checks.count("n0", n0),
        "n": checks.count("n", n),
        "alpha": checks.probability("alpha", alpha),
        "target_radius": None if target_radius is None else float(target_radius),
        "share": None if share is None else float(share),
    }
    settings = {**_settings(smoothed, digests), **options, "images_per_file": size}
    blocks = Blocks(directory, settings)
    mine = range(number - 1, blocks.count, shards)
    if not mine:
        raise ValueError(
            f"Shard {number}/{shards} has nothing to do: {settings['images']} images, "
            f"{size} a file, are divided among at most {len(digests)} shards. "
            "Take fewer shards or fewer images a file."
        )
    missing = [k for k in mine if blocks.read(k) is None]
    bar: Iterable[int] = progress(missing, f"certify, {size} images each", verbose)
    if queue:
        bar = filter(blocks.take, bar)  # lazily: each as the one before is done
    for k, (x, y, *versions) in _read_again(batches(), digests, bar):
        try:
            index = blocks.index(k)
            found = smoothed.certify(x, index=index, verbose=False, **options)
            arrays = {
                name: np.asarray(value) for name, value in found._asdict().items()
            }
            del arrays["alpha"], arrays["sigma"]
            if versions:
                arrays |= coverage.measure(smoothed, x, versions[0], y)
            # Only now: what `certify` refuses must leave no settings behind.
            blocks.claim(None if shard is None else shards)
            blocks.write(k, {"index": index, "labels": y, **arrays})
        finally:
            blocks.release(k)
    return CertificationReport.load(directory)


def _settings(smoothed: SmoothedClassifier, digests: list[list[str]]) -> dict[str, Any]:
    """What certificates depend on, beside the options of `certify`."""
    classifier: keras.Model = smoothed.classifier
    each = [digest for block in digests for digest in block]
    # Only where it is so: folders of before go on.
    resolvable = {"resolvable": True} if smoothed.resolvable else {}
    return {
        **resolvable,
        "sigma": np.asarray(smoothed.sigma).tolist(),
        "seed": int(smoothed.seed),
        "correction": smoothed.correction,
        "classifier": files.digest(*classifier.get_weights()),
        "perturbation_set": smoothed.perturbation_set.digest(),
        "data": hashlib.blake2b("".join(each).encode(), digest_size=16).hexdigest(),
        "images": len(each),
        "version": __version__,
    }


def _read_again(
    batches: Iterator[Batch], digests: list[list[str]], wanted: Iterable[int]
) -> Iterator[tuple[int, Batch]]:
    """The wanted blocks by number, sure to be those that the digests are of."""
    numbered = enumerate(batches)
    for k in wanted:
        batch = next((batch for i, batch in numbered if i == k), None)
        if batch is None or _digests(*batch) != digests[k]:
            raise ValueError(
                "The data set gives other images when it is read again, so that their "
                "indices mean nothing. Turn off what shuffles or augments it."
            )
        yield k, batch


def merge(directories: Sequence[str | Path], output: str | Path) -> CertificationReport:
    """Brings the shards of one data set together in one folder.

    The folder is the one that a run without shards would have written.

    Args:
        directories: Folders that `certify_dataset` has written, of equal settings.
        output: Folder to write; it may be one of them.

    Returns:
        A `CertificationReport` of all images.

    Raises:
        ValueError: If the folders' settings differ, an image is missing or damaged,
            or two folders have different certificates of one image. Nothing is
            written then.
    """
    sources = [Blocks(directory) for directory in directories]
    if not sources:
        raise ValueError("There is nothing to merge. Received: directories=[]")
    settings = sources[0].settings
    for source in sources[1:]:
        source.require(settings)
    paths: dict[int, Path] = {}
    for k in range(sources[0].count):
        both = [(source.path(k), source.read(k)) for source in sources]
        found = [(path, block) for path, block in both if block is not None]
        for path, block in found[1:]:
            _require_equal(found[0], (path, block))
        if found:
            paths[k] = found[0][0]
    missing = [k for k in range(sources[0].count) if k not in paths]
    if missing:
        shards = next(filter(None, (source.shards for source in sources)), None)
        raise ValueError(_missing(sources[0], missing, shards))
    target = Blocks(output, settings)
    target.claim()
    for k, path in paths.items():
        if path != target.path(k):
            files.write(target.path(k), path.read_bytes())
    return CertificationReport.load(output)


def parse_shard(text: str) -> tuple[int, int]:
    """The shard that a text such as "3/64" names: the third of 64, counted from 1.

    Raises:
        ValueError: If it names none.
    """
    number, slash, shards = text.partition("/")
    if not (slash and number.strip().isdecimal() and shards.strip().isdecimal()):
        raise ValueError(
            f"A shard is written as 3/64, the third of 64. Received: {text!r}"
        )
    return _checked_shard(int(number), int(shards))


def _checked_shard(number: int, shards: int) -> tuple[int, int]:
    shards = checks.count("number of shards", shards)
    number = checks.count("shard", number)
    if number > shards:
        raise ValueError(
            f"`shard` must be one of 1 to {shards}. Received: {number}/{shards}"
        )
    return number, shards


def _batches(
    classifier: outputs.Classifier,
    data: Any,
    size: int,
    limit: int | None,
    ignore_class: int | None,
) -> Iterator[Batch]:
    """Blocks of at most `size` images with labels that suit: float32, int64."""
    if isinstance(data, tf.data.Dataset):
        data = data.rebatch(size)
    elif not isinstance(data, tuple | list):
        raise ValueError(
            "`data` must be a tf.data.Dataset of batches (x, y), or two arrays (x, y). "
            f"Received: {type(data).__name__}"
        )
    pairs = inputs.batches(data, batch_size=size)
    left, shape = limit, None
    for x, y in pairs:
        x, y = checks.images("x", x[:left]), y[:left]
        shape = shape or outputs.logits(classifier, x[:1]).shape
        yield x.numpy(), checks.labels_like(y, shape, ignore_class).numpy()
        if left is not None:
            left -= len(x)
            if left == 0:
                return


def _with_versions(
    batches: Iterator[Batch], perturbed: Any, size: int
) -> Iterator[Batch]:
    """Blocks with the perturbed versions of their images, which must be theirs."""
    if isinstance(perturbed, tf.data.Dataset):
        perturbed = perturbed.rebatch(size)
    groups = inputs.batches(perturbed, batch_size=size)
    for x, y in batches:
        versions, labels = next(groups, (np.zeros(0), np.zeros(0)))
        versions, labels = (np.asarray(part)[: len(x)] for part in (versions, labels))
        if versions.shape[:1] + versions.shape[2:] != x.shape:
            raise ValueError(
                "`perturbed` must have versions (batch, count, height, width, "
                "channels) of each image. Received: versions of shape "
                f"{versions.shape} for images of shape {x.shape}"
            )
        if not np.array_equal(labels[y != VOID], y[y != VOID]):
            raise ValueError(
                "The labels of `perturbed` are not those of `data`: it must have the "
                "same images in the same order."
            )
        flat = checks.images("versions", versions.reshape(-1, *x.shape[1:]))
        yield x, y, flat.numpy().reshape(versions.shape)


def _digests(*batch: np.ndarray) -> list[str]:
    return [files.digest(*example) for example in zip(*batch, strict=True)]


def _require_equal(one: tuple[Path, dict], other: tuple[Path, dict]) -> None:
    """Raises ValueError unless two files hold the same block."""
    (path, block), (other_path, other_block) = one, other
    same = block.keys() == other_block.keys()
    if not (same and all(np.array_equal(block[k], other_block[k]) for k in block)):
        raise ValueError(
            f"{path} and {other_path} have different certificates of the same images. "
            "Certify them again in one folder, and leave out the other."
        )


def _missing(blocks: Blocks, missing: list[int], shards: int | None) -> str:
    """What `merge` says of missing blocks."""
    index = np.concatenate([blocks.index(k) for k in missing])
    # Consecutive indices are one range.
    spans = np.split(index, np.flatnonzero(np.diff(index) > 1) + 1)
    ranges = [f"{s[0]}" if len(s) == 1 else f"{s[0]}-{s[-1]}" for s in spans]
    more = f" and {len(ranges) - 10} more ranges" if len(ranges) > 10 else ""
    text = (
        f"{len(index)} of {blocks.settings['images']} images are missing or damaged: "
        f"{', '.join(ranges[:10])}{more}."
    )
    if shards:
        numbers = sorted({k % shards + 1 for k in missing})
        names = ", ".join(f"{number}/{shards}" for number in numbers)
        text += f" They belong to these shards, which have to run (again): {names}."
    return text
