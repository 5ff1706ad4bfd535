"""Pictures show each image where it belongs, on one axis."""

import io

import numpy as np
from PIL import Image

from lps_tf._internal import drawing


def flat(*values, channels=1):
    """Images of 20x30, each of one value."""
    values = np.asarray(values, np.float32)[:, None, None, None]
    return np.broadcast_to(values, (len(values), 20, 30, channels))


def shown(figure):
    """What the only axis shows."""
    (axis,) = figure.axes
    (image,) = axis.images
    return axis, np.asarray(image.get_array())


def test_rows_are_labelled_and_short_ones_end_in_white():
    figure = drawing.rows({"x": flat(0.1, 0.2, 0.3), "few": flat(0.4, 1.5)})
    axis, picture = shown(figure)
    gap = 2  # a twentieth of the width
    assert picture.shape == (2 * 20 + gap, 3 * 30 + 2 * gap)
    np.testing.assert_allclose(picture[10, [15, 47, 79]], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(picture[32, [15, 47, 79]], [0.4, 1, 1])  # in [0, 1]
    assert (picture[20:22] == 1).all() and (picture[:, 30:32] == 1).all()
    assert [label.get_text() for label in axis.get_yticklabels()] == ["x", "few"]
    # A label beside the middle of its row.
    assert np.abs(axis.get_yticks() - [9.5, 31.5]).max() <= gap


def test_rows_of_other_sizes_are_enlarged():
    small = np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1) / 6
    _, picture = shown(drawing.rows({"small": small, "large": flat(0.5)}))
    assert picture.shape == (2 * 20 + 2, 30)
    for i in range(2):
        for j in range(3):
            pixel = picture[10 * i : 10 * i + 10, 10 * j : 10 * j + 10]
            np.testing.assert_array_equal(pixel, small[0, i, j, 0])
    assert (picture[22:] == 0.5).all()


def test_titles_stand_above_their_images():
    titles = [["a", "b"], ["c", "d"]]
    figure = drawing.rows({"x": flat(0, 0.1), "y": flat(0.2, 0.3)}, titles)
    axis, picture = shown(figure)
    assert [text.get_text() for text in axis.texts] == ["a", "b", "c", "d"]
    for text, value in zip(axis.texts, (0, 0.1, 0.2, 0.3), strict=True):
        x, y = text.get_position()
        assert picture[round(y) + 1, round(x)] == np.float32(value)
        assert y == -1 or (picture[round(y), round(x)] == 1).all()
    assert list(axis.get_yticks()) == [9.5, 35.5]  # beside the images, not the gaps


def test_headings_stand_above_their_columns():
    names = ["elastic transform", "fog"]
    axis, picture = shown(drawing.rows({"x": flat(0.1, 0.2, 0.3)}, headings=names))
    ticks = zip(axis.get_xticks(), axis.get_xticklabels(), strict=True)
    for (x, label), name, value in zip(ticks, names, (0.1, 0.2), strict=True):
        assert label.get_text() == name
        assert picture[10, round(x)] == np.float32(value)
    assert axis.xaxis.get_ticks_position() == "top"


def test_no_label_or_heading_is_cut_off():
    label = "among perturbed, carried over"  # cut off by the layout "constrained"
    figure = drawing.rows(
        {"x": flat(*[0.1] * 9), label: flat(*[0.2] * 9)},
        headings=[f"a long heading {i}" for i in range(9)],
    )
    for size in (None, (6, 4), (12, 2)):
        if size is not None:
            figure.set_size_inches(*size)
        page = np.asarray(Image.open(io.BytesIO(drawing.png(figure))).convert("L"))
        for edge in (page[:2], page[-2:], page[:, :2], page[:, -2:]):
            assert (edge == 255).all()


def test_a_grid_keeps_rows_columns_and_colours():
    values = np.linspace(0, 0.9, 6, dtype=np.float32).reshape(2, 3, 1, 1, 1)
    colours = values * np.array([1, 0.5, 0], np.float32)
    images = np.broadcast_to(colours, (2, 3, 8, 8, 3))
    _, picture = shown(drawing.grid(images))
    for i in range(2):
        for j in range(3):
            np.testing.assert_array_equal(
                picture[4 + 9 * i, 4 + 9 * j], images[i, j, 0, 0]
            )


def test_corners_are_outside_of_the_grid_in_the_order_of_interpolate():
    inner = np.full((2, 3, 8, 8, 1), 0.5, np.float32)
    corners = [np.full((8, 8, 1), value) for value in (0.1, 0.2, 0.3, 0.4)]
    _, picture = shown(drawing.grid(inner, corners))
    found = picture[4::9, 4::9].reshape(4, 5)
    np.testing.assert_allclose(
        found,
        [
            [0.1, 1, 1, 1, 0.2],
            [1, 0.5, 0.5, 0.5, 1],
            [1, 0.5, 0.5, 0.5, 1],
            [0.3, 1, 1, 1, 0.4],
        ],
    )


def test_what_is_saved_is_what_is_shown():
    figure = drawing.grid(np.stack([flat(0, 1), flat(1, 0)]))
    saved = np.asarray(Image.open(io.BytesIO(drawing.png(figure))).convert("L"))
    height, width = saved.shape
    for (i, j), value in {(0, 0): 0, (0, 1): 255, (1, 0): 255, (1, 1): 0}.items():
        # The picture keeps its shape, so it need not fill the figure's height.
        row = height // 2 + (2 * i - 1) * height // 8
        assert saved[row, width * (2 * j + 1) // 4] == value
