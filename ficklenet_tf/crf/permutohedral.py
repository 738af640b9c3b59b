"""The dense CRF by the permutohedral lattice: for any size, and in agreement with pydensecrf.

Kraehenbuehl & Koltun 2011, Section 3. Stock ops only, so it is saved and served as any graph is;
`tf.unique` makes shapes that depend on the data, so XLA does not compile it.
"""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from ficklenet_tf.crf import lattice, updates
from ficklenet_tf.crf.spec import REFERENCE, CRFSpec

# A sparse product runs on one core, so the pixels go through it in this many parts side by side.
_PARTS = 2


def mean_field(images: tf.Tensor, logits: tf.Tensor, spec: CRFSpec, iterations: int | tf.Tensor) -> tf.Tensor:
    """Runs mean field image by image; see `ficklenet_tf.crf.mean_field`.

    Args:
      images: `[batch, height, width, 3]` RGB 0..255, any number type.
      logits: `[batch, height, width, classes]` float32 or float64.
      spec: a `CRFSpec`.
      iterations: an int, or int32, a scalar or `[batch]`.

    Returns:
      `[batch, height, width, classes]` probabilities.
    """
    same_for_all = isinstance(iterations, int) or iterations.shape.rank == 0

    def refine(example: tuple[tf.Tensor, ...]) -> tf.Tensor:
        image, unary = example[:2]
        shape = tf.shape(unary)
        message = pairwise_filter(image, spec, unary.dtype)
        parts = _split(tf.reshape(unary, [shape[0] * shape[1], shape[2]]))
        probs = updates.iterate(parts, message, iterations if same_for_all else example[2])
        return tf.reshape(tf.concat(probs, axis=0), shape)

    batch = (images, logits) if same_for_all else (images, logits, iterations)
    return tf.map_fn(refine, batch, fn_output_signature=tf.TensorSpec(logits.shape[1:], logits.dtype),
                     parallel_iterations=_PARTS)


def pairwise_filter(image: tf.Tensor, spec: CRFSpec,
                    dtype: tf.DType) -> Callable[[Sequence[tf.Tensor]], list[tf.Tensor]]:
    """Builds the sum of both kernels, each weighted and symmetrically normalised, as a linear function.

    Args:
      image: `[height, width, 3]` RGB 0..255.
      spec: a `CRFSpec`.
      dtype: type of the values to filter.

    Returns:
      A function from values of the pixels, a list of `_PARTS` tensors `[pixels of the part,
      classes]`, to their filtered values. Its gradient runs the steps backwards.
    """
    lattices = [lattice.build(features) for features in _features(image, spec)]
    sizes = [kernel_lattice.size for kernel_lattice in lattices]
    # Both lattices in one matrix: a pass over the pixels serves both filters.
    vertices = tf.concat([lattices[0].vertices, lattices[1].vertices + sizes[0]], axis=1)
    weights = tf.concat([kernel_lattice.weights for kernel_lattice in lattices], axis=1)
    splats = [_Splat(part_vertices, part_weights, tf.add_n(sizes))
              for part_vertices, part_weights in zip(_split(vertices), _split(weights), strict=True)]

    def blur(values: tf.Tensor, backwards: bool = False) -> tf.Tensor:
        blurred = [lattice.blur(kernel_lattice, kernel_values, backwards)
                   for kernel_lattice, kernel_values in zip(lattices, tf.split(values, sizes), strict=True)]
        return tf.concat(blurred, axis=0)

    masses = blur(tf.add_n([splat.forward(tf.ones([splat.points, 1])) for splat in splats]))[:, 0]
    splats = [splat.normalized(masses, spec, dtype) for splat in splats]

    def splat_blur_slice(values: Sequence[tf.Tensor], backwards: bool) -> list[tf.Tensor]:
        vertex_values = tf.add_n([splat.forward(part) for splat, part in zip(splats, values, strict=True)])
        vertex_values = blur(vertex_values, backwards)
        return [splat.transposed(vertex_values) for splat in splats]

    # Each axis' blur is symmetric, and the splat is the slice transposed, which autodiff does not know.
    @tf.custom_gradient
    def filtered(*values: tf.Tensor) -> tuple[list[tf.Tensor], Callable]:
        return splat_blur_slice(values, False), lambda *gradients: splat_blur_slice(gradients, True)

    return lambda values: filtered(*values)


class _Splat:
    """A sparse matrix, [points, k] vertices and weights, that spreads points over vertices."""

    def __init__(self, vertices: tf.Tensor, weights: tf.Tensor, size: tf.Tensor) -> None:
        self.vertices, self.weights, self.size = vertices, weights, size
        self.points = tf.shape(vertices)[0]
        # (point, vertex) pairs; made as one int64 each, faster than stacking two int32. Little-endian.
        pairs = tf.cast(vertices, tf.int64) * 2**32 + tf.range(tf.cast(self.points, tf.int64))[:, None]
        self.pairs = tf.reshape(tf.bitcast(pairs, tf.int32), [-1, 2])

    def normalized(self, masses: tf.Tensor, spec: CRFSpec, dtype: tf.DType) -> "_Splat":
        """Returns the same matrix with sqrt(w) D^-1/2 of each kernel multiplied in; masses: K 1 at the vertices."""
        kernel_of_corner = tf.constant([[1, 1, 1, 1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1, 1, 1]], tf.float32)
        mass = tf.matmul(self.weights * tf.gather(masses, self.vertices), kernel_of_corner, transpose_b=True)
        scale = tf.sqrt([spec.bilateral_weight, spec.gaussian_weight]) * tf.math.rsqrt(mass)
        scaled = copy.copy(self)
        scaled.weights = tf.cast(self.weights * tf.matmul(scale, kernel_of_corner), dtype)
        return scaled

    def forward(self, values: tf.Tensor) -> tf.Tensor:
        """Spreads `[points, classes]` to `[vertices, classes]`."""
        return self._multiply(values, True)

    def transposed(self, values: tf.Tensor) -> tf.Tensor:
        """Gathers `[vertices, classes]` to `[points, classes]`."""
        return self._multiply(values, False)

    def _multiply(self, values: tf.Tensor, adjoint: bool) -> tf.Tensor:
        shape = tf.cast(tf.stack([self.points, self.size]), tf.int64)
        return tf.raw_ops.SparseTensorDenseMatMul(a_indices=self.pairs, a_values=tf.reshape(self.weights, [-1]),
                                                  a_shape=shape, b=values, adjoint_a=adjoint)


def _features(image: tf.Tensor, spec: CRFSpec) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Returns the two kernels' features: x, y, red, green, blue and x, y, in units of their widths."""
    shape = tf.shape(image)
    y, x = tf.meshgrid(tf.range(shape[0]), tf.range(shape[1]), indexing="ij")
    positions = [tf.reshape(axis, [-1]) for axis in (x, y)]
    colours = tf.unstack(tf.transpose(tf.reshape(tf.cast(image, tf.float32), [-1, 3])))

    def scaled(axes: list[tf.Tensor], sigma: float, unit: float | tf.Tensor = 1.0) -> list[tf.Tensor]:
        return [lattice.times(axis, unit / float(np.float32(sigma))) for axis in axes]

    pixel = REFERENCE / tf.cast(tf.reduce_max(shape[:2]), tf.float64) if spec.relative else 1.0
    return (scaled(positions, spec.bilateral_sigma_xy, pixel) + scaled(colours, spec.bilateral_sigma_rgb),
            scaled(positions, spec.gaussian_sigma_xy, pixel))


def _split(rows: tf.Tensor) -> list[tf.Tensor]:
    """Splits rows into `_PARTS` parts; an image of one pixel leaves a part empty."""
    bounds = [tf.shape(rows)[0] * part // _PARTS for part in range(_PARTS + 1)]
    return [rows[start:stop] for start, stop in zip(bounds, bounds[1:], strict=False)]
