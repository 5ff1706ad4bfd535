"""The latent ball: norms and projection, ascent directions, the laws of the draws."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from lps_tf.sets import latent

ROOT = pathlib.Path(__file__).parents[2]
SHAPES = [(7, 5), (5, 7), (6, 3, 4, 2)]  # vectors, short and long, and maps


def draw(shape, scale=1.0, seed=0):
    return (np.random.RandomState(seed).normal(size=shape) * scale).astype(np.float32)


def rowwise(u):
    """The norm of each example, written out: one vector at a time."""
    return np.array([np.sqrt((row.astype(np.float64) ** 2).sum()) for row in u])


def projected(u, radius):
    return np.stack(
        [row * min(1.0, radius / np.sqrt((row**2).sum())) for row in u.astype(float)]
    )


# Norms and projection.


@pytest.mark.parametrize("shape", SHAPES)
def test_norm_is_over_all_dimensions_of_each_example(shape):
    u = draw(shape)
    np.testing.assert_allclose(latent.norm(tf.constant(u)), rowwise(u), rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_unit_divides_each_example_by_its_own_norm(shape):
    # Sizes differ a thousandfold between examples: one common factor would show.
    u = draw(shape) * np.geomspace(1e-2, 1e2, shape[0], dtype=np.float32).reshape(
        -1, *[1] * (len(shape) - 1)
    )
    unit = latent.unit(tf.constant(u)).numpy()
    np.testing.assert_allclose(rowwise(unit), 1, rtol=1e-6)
    expected = np.stack([v / n for v, n in zip(u, rowwise(u), strict=True)])
    np.testing.assert_allclose(unit, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [0.3, 2.0])
def test_project_takes_each_example_to_its_nearest_point(shape, radius):
    u = draw(shape) * np.geomspace(1e-2, 10, shape[0], dtype=np.float32).reshape(
        -1, *[1] * (len(shape) - 1)
    )
    inside = rowwise(u) <= radius
    assert inside.any() and not inside.all()
    result = latent.project(tf.constant(u), radius).numpy()
    np.testing.assert_allclose(result, projected(u, radius), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(result[inside], u[inside])


@pytest.mark.parametrize("shape", SHAPES)
def test_project_of_one_example_does_not_depend_on_the_others(shape):
    u = draw(shape, scale=3)
    together = latent.project(tf.constant(u), 1.0).numpy()
    alone = np.concatenate([latent.project(tf.constant(v[None]), 1.0) for v in u])
    np.testing.assert_allclose(together, alone, rtol=1e-6)


def test_a_whole_batch_stays_in_the_ball_where_limiting_coordinates_would_not():
    # The original code limits each coordinate over the batch: with equal
    # rows it would leave norms of radius * sqrt(dim / batch).
    u = tf.ones((4, 100))
    norms = latent.norm(latent.project(u, 1.0)).numpy()
    np.testing.assert_allclose(norms, 1.0, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [1.0, float("inf")])
def test_zero_stays_zero(shape, radius):
    zero = tf.zeros(shape)
    for result in (latent.unit(zero), latent.project(zero, radius), latent.norm(zero)):
        np.testing.assert_allclose(result, 0, atol=1e-11)


def test_project_with_an_infinite_radius_is_the_identity():
    u = draw((5, 7), scale=1e3)
    np.testing.assert_array_equal(latent.project(tf.constant(u), float("inf")), u)


def test_gradient_of_project_is_finite_also_at_zero():
    weight = draw((3, 4), seed=1)
    u = tf.constant([[0.0] * 4, [0.1] * 4, [3.0] * 4])
    with tf.GradientTape() as tape:
        tape.watch(u)
        value = tf.reduce_sum(weight * latent.project(u, 1.0))
    gradient = tape.gradient(value, u).numpy()
    assert np.isfinite(gradient).all()
    # Inside the ball, its centre included, the projection is the identity.
    np.testing.assert_allclose(gradient[:2], weight[:2], rtol=1e-5)
    # Outside, the part along u is removed and the rest shrinks by 1 / ||u||.
    along = np.full(4, 0.5)
    expected = (weight[2] - along * (along @ weight[2])) / 6.0
    np.testing.assert_allclose(gradient[2], expected, rtol=1e-4, atol=1e-6)


# Where attacks go.


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [1.5, 100.0])
def test_ascent_on_a_quadratic_is_the_one_worked_out_by_hand(shape, radius):
    u, centre = projected(draw(shape), radius).astype(np.float32), draw(shape, seed=1)
    weight = np.random.RandomState(2).uniform(0.5, 2, shape[1:]).astype(np.float32)
    inner = tuple(range(1, len(shape)))

    def objective(u):
        return -0.5 * tf.reduce_sum(weight * (u - centre) ** 2, inner), ("rest", u)

    value, rest, direction = latent.ascent_direction(objective, tf.constant(u))
    gradient = -weight * (u - centre)
    unit = np.stack([g / n for g, n in zip(gradient, rowwise(gradient), strict=True)])
    np.testing.assert_allclose(direction, unit, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        value, -0.5 * (weight * (u - centre) ** 2).sum(inner), rtol=1e-5
    )
    assert rest[0] == "rest"
    np.testing.assert_array_equal(rest[1], u)
    # Up, down, and steps of each example's own length in a ball of its own.
    lengths = np.linspace(0.1, 0.8, shape[0], dtype=np.float32)
    for step in (0.4, -0.4, lengths.reshape(-1, *[1] * (len(shape) - 1))):
        after = latent.project(u + step * direction, radius * lengths)
        expected = [
            projected(row[None], radius * length)[0]
            for row, length in zip(u + step * unit, lengths, strict=True)
        ]
        np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_where_takes_whole_examples(shape):
    u, other = draw(shape), draw(shape, seed=1)
    rows = np.arange(shape[0]) % 2 == 0
    found = latent.where(tf.constant(rows), tf.constant(u), tf.constant(other)).numpy()
    np.testing.assert_array_equal(found[rows], u[rows])
    np.testing.assert_array_equal(found[~rows], other[~rows])


def test_a_flat_objective_leads_nowhere():
    u = draw((3, 4), scale=0.1)
    value, _, direction = latent.ascent_direction(
        lambda u: (tf.reduce_sum(0.0 * u, 1), None), tf.constant(u)
    )
    np.testing.assert_array_equal(direction, np.zeros((3, 4)))
    np.testing.assert_array_equal(value, np.zeros(3))


def test_ascent_takes_no_gradient_of_a_weight(monkeypatch):
    # The original's attack computes gradients of all weights too.
    weight, tapes = tf.Variable(2.0), []

    class Spy(tf.GradientTape):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            tapes.append(self)

    monkeypatch.setattr(tf, "GradientTape", Spy)
    latent.ascent_direction(
        lambda u: (weight * tf.reduce_sum(u, 1), None), tf.constant(draw((3, 4)))
    )
    assert [tape.watched_variables() for tape in tapes] == [()]


# Uniform starts of attacks.


@pytest.mark.parametrize("shape", [(4000, 3), (4000, 64)])
def test_attack_starts_have_a_uniform_fraction_of_the_radius(shape):
    u = latent.sample_uniform_radius(shape, 2.5, tf.constant([0, 1])).numpy()
    fraction = rowwise(u) / 2.5
    assert scipy.stats.kstest(fraction, "uniform").pvalue > 1e-3
    assert_uniform_directions(u, fraction)


# Truncated normal draws.


def log_lower_gamma(a, x):
    """log of the regularised lower incomplete gamma function, by its series.

    P(a, x) = x^a e^-x / Gamma(a + 1) * (1 + x/(a+1) + x^2/((a+1)(a+2)) + ...); summed
    relative to the largest term, so that nothing over- or underflows.
    """
    x = np.atleast_1d(np.asarray(x, np.float64))
    terms = int(x.max() + 12 * np.sqrt(a + x.max()) + 200)
    logs = np.cumsum(np.log(x)[:, None] - np.log(a + np.arange(1, terms + 1)), axis=1)
    series = np.logaddexp(0, scipy.special.logsumexp(logs, axis=1))
    return a * np.log(x) - x - scipy.special.gammaln(a + 1) + series


def chi_cdf_within(norms, dim, radius):
    """Distribution function of a chi variable truncated at the radius."""
    if scipy.stats.chi.cdf(min(radius, 1e9), dim) > 1e-100:
        return scipy.stats.chi.cdf(norms, dim) / scipy.stats.chi.cdf(radius, dim)
    a = dim / 2
    return np.exp(log_lower_gamma(a, norms**2 / 2) - log_lower_gamma(a, radius**2 / 2))


def assert_uniform_directions(u, norms):
    n, dim = u.shape
    directions = u / rowwise(u)[:, None]
    mean = directions.mean(0)
    # n * dim * ||mean||^2 is chi-squared with dim degrees of freedom, for large n.
    assert scipy.stats.chi2.sf(n * dim * (mean**2).sum(), dim) > 1e-3
    if dim == 1:
        return
    axes = [np.eye(dim)[0], np.full(dim, dim**-0.5)]
    for axis in axes:
        cosine = directions @ axis
        law = scipy.stats.beta((dim - 1) / 2, (dim - 1) / 2)
        assert scipy.stats.kstest((cosine + 1) / 2, law.cdf).pvalue > 1e-3
        for side in (cosine, np.abs(cosine)):
            assert scipy.stats.spearmanr(norms, side).pvalue > 1e-3


def test_the_series_for_the_gamma_function_agrees_with_scipy_where_that_works():
    for dim, radius in [(1, 0.5), (16, 3.0), (128, 9.0), (128, 12.0), (784, 27.0)]:
        ours = log_lower_gamma(dim / 2, radius**2 / 2)
        expected = np.log(scipy.special.gammainc(dim / 2, radius**2 / 2))
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-12)


# Radii far below, at and far above sqrt(dim), where an untruncated norm lies.
@pytest.mark.parametrize(
    "dim, radius",
    [
        (1, 0.05),
        (1, 1.0),
        (1, 6.0),
        (16, 0.5),
        (16, 4.0),
        (16, 12.0),
        (128, 0.5),
        (128, 7.0),
        (128, 11.0),
        (128, 30.0),
        (784, 1.0),
        (784, 28.0),
        (784, 60.0),
        (6272, 2.0),
        (6272, 79.0),
        (6272, 200.0),
    ],
)
def test_truncated_normal_has_the_exact_law(dim, radius):
    n = 4000 if dim > 1000 else 8000
    u = latent.sample_truncated_normal((n, dim), radius, tf.constant([3, dim])).numpy()
    assert u.shape == (n, dim) and u.dtype == np.float32
    norms = np.sqrt(np.einsum("ij,ij->i", u, u, dtype=np.float64))
    assert norms.max() <= radius * (1 + 1e-5)
    result = scipy.stats.kstest(norms, lambda s: chi_cdf_within(s, dim, radius))
    assert result.pvalue > 1e-3
    assert_uniform_directions(u, norms)


@pytest.mark.parametrize("dim", [1, 16, 784])
def test_infinite_radius_gives_the_plain_normal(dim):
    shape, seed = (6000, dim), tf.constant([5, dim])
    u = latent.sample_truncated_normal(shape, float("inf"), seed).numpy()
    assert scipy.stats.kstest(rowwise(u), scipy.stats.chi(dim).cdf).pvalue > 1e-3
    assert scipy.stats.kstest(u[:, 0], "norm").pvalue > 1e-3


def test_uniform_and_normal_draws_have_their_law():
    u = latent.uniform((400, 500), tf.constant([1, 2])).numpy().ravel()
    z = latent.standard_normal((400, 500), tf.constant([3, 4])).numpy().ravel()
    assert u.min() > 0 and u.max() <= 1
    assert scipy.stats.kstest(u, "uniform").pvalue > 1e-3
    assert scipy.stats.kstest(z, "norm").pvalue > 1e-3
    # Draws next to each other, and of seeds next to each other, are independent.
    other = latent.standard_normal((400, 500), tf.constant([3, 5])).numpy().ravel()
    for a, b in ((z[1:], z[:-1]), (z, other), (z**2, other**2)):
        assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(len(z))


def test_draws_are_the_same_with_and_without_xla():
    def draws(seed):
        return (
            latent.uniform((7, 3), seed),
            latent.standard_normal((7, 3), seed),
            latent.sample_truncated_normal((7, 3), 1.5, seed),
            latent.sample_uniform_radius((7, 3), 1.5, seed),
        )

    compiled = tf.function(draws, jit_compile=True, autograph=False)
    seed = tf.constant([5, 7])
    for one, other in zip(draws(seed), compiled(seed), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_same_seed_same_draw_other_seed_other_draw():
    for sample in (latent.sample_truncated_normal, latent.sample_uniform_radius):
        first, again, other = (
            sample((20, 8), 2.0, tf.constant([0, i])).numpy() for i in (1, 1, 2)
        )
        np.testing.assert_array_equal(first, again)
        assert not np.isclose(first, other).all(1).any()


def test_draws_are_the_same_in_a_graph_with_a_batch_size_known_later():
    @tf.function
    def graph(x, radius):
        return latent.sample_truncated_normal((tf.shape(x)[0], 8), radius, [0, 1])

    drawn = graph(tf.zeros((50, 3)), tf.constant(2.0))
    expected = latent.sample_truncated_normal((50, 8), 2.0, tf.constant([0, 1]))
    np.testing.assert_allclose(drawn, expected, rtol=1e-5, atol=1e-7)


def test_the_quantile_ends_at_zero_and_at_the_radius():
    ends = tf.constant([0.0, 1.0], tf.float64)
    for dim, radius in [(1, 0.5), (2, 3.0), (16, 2.0)]:
        low, high = latent.truncated_chi_quantile(ends, dim, radius).numpy()
        assert 0 <= low < 0.1 * radius
        np.testing.assert_allclose(high, radius, rtol=1e-6)


# Seeds.


def test_next_key_differs_from_call_to_call_and_repeats_with_the_generator():
    def seeds():
        generator = keras.random.SeedGenerator(0)
        return [tuple(latent.next_key(generator).numpy()) for _ in range(50)]

    first = seeds()
    assert len(set(first)) == 50
    assert first == seeds()
    assert latent.next_key(keras.random.SeedGenerator(0)).dtype == tf.int32


REPLICAS = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
import keras
from lps_tf import latent
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
outside = keras.random.SeedGenerator(0)
with strategy.scope():
    inside = keras.random.SeedGenerator(0)
for generator in (inside, outside):
    step = tf.function(lambda: latent.next_key(generator))
    seeds = []
    for _ in range(4):
        results = strategy.experimental_local_results(strategy.run(step))
        assert len(results) == 2, results
        seeds += [tuple(seed.numpy().tolist()) for seed in results]
    assert len(set(seeds)) == 8, seeds
"""


@pytest.mark.slow
def test_replicas_of_a_strategy_draw_different_seeds():
    # In a process of its own: logical devices must be there before TensorFlow starts.
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    subprocess.run(
        [sys.executable, "-c", REPLICAS], cwd=ROOT, env=environment, check=True
    )


@pytest.mark.parametrize("size", [1e-30, 1e-13, 1.0, 1e25])
def test_a_unit_has_norm_one_whatever_it_was_before(size):
    u = draw((5, 7)).astype(np.float32)
    found = latent.unit(tf.constant(u * np.float32(size))).numpy()
    np.testing.assert_allclose(found, u / rowwise(u)[:, None], rtol=1e-5)
    assert not latent.unit(tf.zeros((2, 3))).numpy().any()
