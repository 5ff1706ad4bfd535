"""Pictures: rows and grids of images, latent norms, accuracy curves; and a page.

The functions that draw return a Matplotlib figure and touch no global state. Colours
are Okabe and Ito's, which colour-blind readers can tell apart. `explorer` writes a page
on which a perturbation set can be explored.
"""

from matplotlib.figure import Figure

from lps_tf._internal.drawing import COLOURS, curves, grid, norm_density, png, rows
from lps_tf.plots.page import explorer


def show(figure: Figure, caption: str | None = None, alt: str | None = None) -> None:
    """Displays a figure in a notebook.

    Args:
        figure: Figure to display.
        caption: What to see in it, in Markdown; None for no caption.
        alt: What it shows, for readers who cannot see it; None for the caption.
    """
    from IPython.display import Image, Markdown, display

    display(Image(png(figure), alt=alt or caption))
    if caption is not None:
        display(Markdown(caption))


__all__ = [
    "COLOURS",
    "curves",
    "explorer",
    "grid",
    "norm_density",
    "png",
    "rows",
    "show",
]
