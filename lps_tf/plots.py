"""Pictures: rows and grids of images, latent norms, accuracy curves.

Every function returns a Matplotlib figure and touches no global state. Colours are
Okabe and Ito's, which colour-blind readers can tell apart.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")


def rows(images: Mapping[str, Any]) -> Figure:
    """Labelled rows of images, each (count, height, width, channels) in [0, 1]."""
    height = len(images)
    width = max(len(row) for row in images.values())
    figure = Figure(figsize=(width * 0.8 + 1.2, height * 0.8), layout="constrained")
    axes = figure.subplots(height, width, squeeze=False)
    for line, (name, row) in zip(axes, images.items(), strict=True):
        for axis, image in zip(line, np.asarray(row), strict=False):
            _show(axis, image)
        for axis in line[len(row) :]:
            axis.axis("off")
        label = {"rotation": 0, "ha": "right", "va": "center", "fontsize": 8}
        line[0].set_ylabel(name, **label)
    return figure


def grid(images: Any) -> Figure:
    """A square grid of images (rows, columns, height, width, channels)."""
    images = np.asarray(images)
    height, width = images.shape[:2]
    figure = Figure(figsize=(width * 0.6, height * 0.6))
    axes = figure.subplots(height, width, squeeze=False)
    figure.subplots_adjust(0, 0, 1, 1, 0.05, 0.05)
    for line, row in zip(axes, images, strict=True):
        for axis, image in zip(line, row, strict=True):
            _show(axis, image)
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
    axis.legend(frameon=False)
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


def show(figure: Figure, caption: str, alt: str) -> None:
    """Displays a figure in a notebook.

    Args:
        figure: Figure to display.
        caption: What to see in it, in Markdown.
        alt: What it shows, for readers who cannot see it.
    """
    from IPython.display import Image, Markdown, display

    display(Image(png(figure), alt=alt), Markdown(caption))


def png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG file's content."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def _show(axis: Any, image: np.ndarray) -> None:
    axis.imshow(image.clip(0, 1), cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
