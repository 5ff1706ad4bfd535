"""Convolutions in the forms that XLA runs fast on a CPU.

XLA's own convolution takes up to twice as long as it needs to there. What is here gains
at least a tenth of a whole training step or attack, for these numbers of channels:

* up to 16 outputs of twice as many inputs: each row of the kernel, then added, and the
  kernel's gradient from the other side;
* 64 and more of both, 3x3: Winograd's, with a quarter of the multiplications;
* four and five, without padding: multiplied and added element by element, a row of the
  kernel at a time;
* one to three, without padding, and up to five without XLA: tiles of 6x6 outputs.

The choice does not depend on the processor: the first gains with AVX-512 and with AVX2
alone; Winograd's gains most with AVX2, and of 64 channels with AVX-512 it is about as
fast as XLA's own. Element by element was measured with AVX2 alone. `make bench`
compares them where it runs (`bench_layers.py`).

Results differ from the library's by rounding: by 1e-6 of the largest, Winograd's by
1e-5.
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from lps_tf.networks.xla_cpu import compiled_for_cpu
from lps_tf.networks.xla_cpu.axes import size_of

Convolution = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def same(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Convolves maps with a kernel of odd side, padding with zeros.

    Args:
        x: Maps (batch, height, width, channels), float32.
        kernel: Kernel (side, side, channels, filters), its side odd.

    Returns:
        Maps (batch, height, width, filters).
    """
    # The gradient convolves with the kernel turned around, from filters to channels,
    # and has its own best algorithm.
    forth = _best(*kernel.shape[1:])
    back = _best(kernel.shape[0], *kernel.shape[:1:-1])
    if forth is back is _library:
        return _library(x, kernel)

    @tf.custom_gradient
    def convolve(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            dx = back(dy, _turned(kernel))
            if forth is _by_rows:
                # That of the convolution from dy to x, turned around: XLA vectorises
                # over the channels of the second map, which has more of them.
                side, _, channels, filters = kernel.shape
                back_shape = (side, side, filters, channels)
                return dx, _turned(_kernel_gradient(dy, x, back_shape, "SAME"))
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(kernel)
                y = forth(x, kernel)
            return dx, tape.gradient(y, kernel, dy)

        return forth(x, kernel), gradient

    return convolve(x, kernel)


def _turned(kernel: tf.Tensor) -> tf.Tensor:
    return tf.transpose(kernel[::-1, ::-1], (0, 1, 3, 2))


def _kernel_gradient(
    x: tf.Tensor, dy: tf.Tensor, shape: Sequence[int], padding: str
) -> tf.Tensor:
    return tf.raw_ops.Conv2DBackpropFilter(
        input=x, filter_sizes=shape, out_backprop=dy, strides=[1] * 4, padding=padding
    )


def _best(side: int, channels: int, filters: int) -> Convolution:
    if filters <= 16 and channels >= 2 * filters:
        return _by_rows
    if side == 3 and min(channels, filters) >= 64:
        return _winograd
    return _library


def _library(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    return tf.nn.conv2d(x, kernel, 1, "SAME")


def _by_rows(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    side, _, channels, filters = kernel.shape
    height, width = size_of(x)
    # One row of the kernel beside the other, as filters: three times as many outputs
    # give XLA's convolution enough to vectorise over.
    kernel = tf.reshape(tf.transpose(kernel, (1, 2, 0, 3)), (1, side, channels, -1))
    y = tf.reshape(_library(x, kernel), (-1, height, width, side, filters))
    y = tf.pad(y, [[0, 0], [side // 2, side // 2], [0, 0], [0, 0], [0, 0]])
    # An output adds kernel row i of the map's row i - side // 2 from it.
    return tf.add_n([y[:, i : i + height, :, i] for i in range(side)])


# Tiles of 4x4 outputs, as polynomials at 0, 1, -1, 2, -2 and infinity (Lavin and Gray,
# Fast algorithms for convolutional neural networks, 2015).
_MAPS = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
_KERNEL = (
    np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]])
    / 24
)
_KERNELS = np.kron(_KERNEL, _KERNEL).astype(np.float32)
_OUTPUT = np.array(
    [
        [1, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
    ],
    np.float32,
)


def _winograd(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    channels, filters = kernel.shape[2:]
    height, width = size_of(x)
    down, along = -(-height // 4), -(-width // 4)
    rest = [[0, 0], [1, 4 * down + 1 - height], [1, 4 * along + 1 - width], [0, 0]]
    x = tf.pad(x, rest)
    # Tiles overlap: each reads 6x6 inputs, two rows and columns of its neighbours'.
    # Rows and columns are transformed apart; the position in a tile leads, first the
    # column, then the row.
    x = tf.stack([x[:, i : i + 4 * down - 3 : 4] for i in range(6)])
    x = _MAPS @ tf.reshape(x, (6, -1))
    x = tf.reshape(x, (6, -1, down, 4 * along + 2, channels))  # (6, batch, down, ...)
    x = tf.stack([x[:, :, :, j : j + 4 * along - 3 : 4] for j in range(6)])
    x = tf.reshape(_MAPS @ tf.reshape(x, (6, -1)), (36, -1, channels))
    kernel = _KERNELS @ tf.reshape(tf.transpose(kernel, (1, 0, 2, 3)), (9, -1))
    # 36 products instead of 9 * 16: (36, batch * tiles, filters)
    y = x @ tf.reshape(kernel, (36, channels, filters))
    y = tf.reshape(_OUTPUT @ tf.reshape(y, (6, -1)), (4, 6, -1))  # columns to outputs
    y = tf.broadcast_to(_OUTPUT, (4, 4, 6)) @ y  # (4, 4, batch * tiles * filters)
    y = tf.reshape(y, (4, 4, -1, down, along, filters))
    y = tf.transpose(y, (2, 3, 1, 4, 0, 5))  # (batch, down, 4, along, 4, filters)
    return tf.reshape(y, (-1, 4 * down, 4 * along, filters))[:, :height, :width]


#: Side of the square of outputs that `_tiled` computes in one product.
TILE = 6


def narrow(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Convolves maps of few channels without padding.

    XLA's convolution is slow with one to five channels: there is nothing to vectorise
    over.

    Args:
        x: Maps (batch, height, width, channels), of a known size.
        kernel: Kernel (side, side, channels, filters), its side at most `TILE` + 1.

    Returns:
        Maps (batch, height - side + 1, width - side + 1, filters).
    """
    many = kernel.shape[2] >= 4
    if many and kernel.dtype == tf.float32 and compiled_for_cpu():
        return _elementwise(x, kernel)
    return _tiled(x, kernel)


@tf.custom_gradient
def _elementwise(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        side = kernel.shape[0] - 1
        padded = tf.pad(dy, [[0, 0], [side, side], [side, side], [0, 0]])
        dkernel = _kernel_gradient(x, dy, kernel.shape, "VALID")
        return _multiply_and_add(padded, _turned(kernel)), dkernel

    return _multiply_and_add(x, kernel), gradient


def _multiply_and_add(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    side, _, channels, filters = kernel.shape
    height, width = x.shape[1] - side + 1, x.shape[2]
    # Channels first, and a map's rows one after the other: what XLA vectorises over is
    # then long. Outputs that run from one row into the next are cut off below.
    x = tf.reshape(tf.transpose(x, (0, 3, 1, 2)), (-1, channels, x.shape[1] * width))
    length = height * width - side + 1

    # A loop, since XLA would otherwise compute what x comes from anew for each term.
    def add_row(i: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows = tf.slice(
            x, [0, 0, i * width], [tf.shape(x)[0], channels, height * width]
        )
        factors = kernel[i]  # (side, channels, filters)
        for j in range(side):
            for c in range(channels):
                y += rows[:, None, c, j : j + length] * factors[j, c, :, None]
        return i + 1, y

    y = tf.zeros((tf.shape(x)[0], filters, length), x.dtype)
    _, y = tf.while_loop(lambda i, _: i < side, add_row, (0, y))
    y = tf.reshape(
        tf.pad(y, [[0, 0], [0, 0], [0, side - 1]]), (-1, filters, height, width)
    )
    return tf.transpose(y[..., : width - side + 1], (0, 2, 3, 1))


def _tiled(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    # A tile of 6x6 outputs is one matrix product of the inputs that it depends on with
    # an expanded kernel, most of whose entries are zero.
    side, _, channels, filters = kernel.shape
    height, width = x.shape[1] - side + 1, x.shape[2] - side + 1
    window = TILE + side - 1
    # (batch, rows, window, columns, window, channels), of tiles and of their inputs
    x = _overlapping(_overlapping(x, side, axis=1), side, axis=3)
    rows, columns = x.shape[1], x.shape[3]
    x = tf.transpose(x, (0, 1, 3, 2, 4, 5))
    x = tf.reshape(x, (-1, window * window * channels))  # (batch * tiles, inputs)
    # shift[a, i, k] is 1 where input a of a tile meets output i at kernel position k.
    shift = np.zeros((window, TILE, side), kernel.dtype.as_numpy_dtype)
    for i in range(TILE):
        shift[range(i, i + side), i, range(side)] = 1
    kernel = tf.einsum("aik,bjl,klcd->abcijd", shift, shift, kernel)
    y = x @ tf.reshape(kernel, (x.shape[1], -1))  # (batch * tiles, outputs)
    y = tf.reshape(y, (-1, rows, columns, TILE, TILE, filters))
    y = tf.transpose(y, (0, 1, 3, 2, 4, 5))
    y = tf.reshape(y, (-1, rows * TILE, columns * TILE, filters))
    return y[:, :height, :width]  # the last tiles reach beyond the maps


def _overlapping(x: tf.Tensor, side: int, axis: int) -> tf.Tensor:
    """Splits an axis into (tiles, TILE + side - 1), windows that overlap."""
    shape = x.shape.as_list()
    tiles = -(-(shape[axis] - side + 1) // TILE)
    pad = [[0, 0]] * len(shape)
    pad[axis] = [0, (tiles + 1) * TILE - shape[axis]]
    shape[axis : axis + 1] = [tiles + 1, TILE]
    blocks = tf.reshape(tf.pad(x, pad), [-1, *shape[1:]])  # (..., tiles + 1, TILE, ...)
    # A window is a block and the first side - 1 entries of the next block.
    own, _ = tf.split(blocks, [tiles, 1], axis)
    _, following = tf.split(blocks, [1, tiles], axis)
    overlap, _ = tf.split(following, [side - 1, TILE - side + 1], axis + 1)
    return tf.concat([own, overlap], axis + 1)
