"""Pictures: rows and grids of images, latent norms, accuracy curves.

Every function returns a Matplotlib figure and touches no global state. Colours are
Okabe and Ito's, which colour-blind readers can tell apart.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

#: Okabe and Ito's colours, in the order of use.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")


def rows(
    images: Mapping[str, Any],
    titles: Sequence[Sequence[str]] | None = None,
    *,
    headings: Sequence[str] | None = None,
) -> Figure:
    """Labelled rows of images, each (count, height, width, channels) in [0, 1].

    Args:
        images: The rows by label.
        titles: What to write above each image, row by row; None for nothing. They are
            the texts of the figure's axis, in this order.
        headings: What to write above each column; None for nothing.
    """
    lines = [np.asarray(row) for row in images.values()]
    height, width = len(lines), max(map(len, lines))
    # The layout for axes of a fixed aspect: "constrained" cuts long labels off.
    figure = Figure(figsize=(width * 0.8 + 1.2, height * 0.8), layout="compressed")
    axis = figure.subplots()
    down, across = _show(axis, lines, titles)
    axis.set_yticks(down, list(images), fontsize=8)
    if headings is not None:
        axis.xaxis.tick_top()
        axis.set_xticks(
            across[: len(headings)], headings, rotation=30, ha="left", fontsize=7
        )
    return figure


def grid(images: Any, corners: Any = None) -> Figure:
    """A grid of images (rows, columns, height, width, channels) in [0, 1].

    Args:
        images: The images, of `PerturbationSet.interpolate`, say.
        corners: Four images, (4, height, width, channels), to show outside of the
            corners: upper left, upper right, lower left, lower right. None for none.
    """
    images = np.asarray(images)
    if corners is not None:
        height, width, *shape = images.shape
        framed = np.ones((height + 2, width + 2, *shape), images.dtype)
        framed[1:-1, 1:-1] = images
        framed[:: height + 1, :: width + 1] = np.reshape(corners, (2, 2, *shape))
        images = framed
    height, width = images.shape[:2]
    figure = Figure(figsize=(width * 0.6, height * 0.6))
    _show(figure.add_axes((0, 0, 1, 1)), images)
    return figure


def norm_density(norms: np.ndarray, radius: float) -> Figure:
    """Histogram of latent norms ||u_q||, with the radius and the quartiles."""
    figure = Figure(figsize=(5, 3), layout="constrained")
    axis = figure.subplots()
    axis.hist(norms, bins=40, density=True, color=COLOURS[5])
    axis.axvline(radius, color=COLOURS[3], label=f"radius {radius:.2f}")
    for quantile in (0.25, 0.5, 0.75):
        axis.axvline(np.quantile(norms, quantile), color=COLOURS[6], ls=":", lw=1)
    axis.set(xlabel="norm of the encoded latent (dotted: quartiles)", ylabel="density")
    axis.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderpad=0)
    return figure


def curves(
    x: Sequence[float], lines: Mapping[str, Sequence[float]], xlabel: str, ylabel: str
) -> Figure:
    """Lines over a common axis, from 0 to 1 on the other."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axis = figure.subplots()
    for i, (name, y) in enumerate(lines.items()):
        axis.plot(
            x, y, marker="os^Dvx"[i % 6], color=COLOURS[i % 7], ms=4, lw=1.5, label=name
        )
    axis.set(xlabel=xlabel, ylabel=ylabel, ylim=(-0.02, 1.02))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8)
    return figure


def png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG file's content."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def _show(
    axis: Any,
    lines: Sequence[np.ndarray],
    titles: Sequence[Sequence[str]] | None = None,
) -> tuple[list[float], list[float]]:
    """Shows lines of images, each (count, height, width, channels), on one axis.

    An axis of each image would take a second and more a figure. Images of other sizes
    than the largest are enlarged to it, pixel by pixel.

    Returns:
        The middles of the lines and of the columns, in the units of the axis.
    """
    height, width = np.max([line.shape[1:3] for line in lines], 0)
    gap = max(1, round(0.05 * width))
    down = height + (gap if titles is None else max(1, round(0.3 * height)))
    columns, across = max(map(len, lines)), width + gap
    picture = np.ones(
        (
            len(lines) * down - (down - height),
            columns * across - gap,
            max(line.shape[-1] for line in lines),
        ),
        np.float32,
    )
    for i, line in enumerate(lines):
        y = np.arange(height) * line.shape[1] // height
        x = np.arange(width) * line.shape[2] // width
        for j, image in enumerate(line[:, y[:, None], x]):
            top, left = i * down, j * across
            picture[top : top + height, left : left + width] = image.clip(0, 1)
            if titles is not None:
                middle = left + (width - 1) / 2
                style = {"ha": "center", "va": "bottom", "fontsize": 7}
                axis.text(middle, top - 1, titles[i][j], **style)
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return (
        [i * down + (height - 1) / 2 for i in range(len(lines))],
        [j * across + (width - 1) / 2 for j in range(columns)],
    )
