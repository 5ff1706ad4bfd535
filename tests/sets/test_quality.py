import json

import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from lps_tf._internal import xla
from lps_tf.sets import quality


@pytest.fixture(scope="module")
def pairs(tiny_set):
    """Members of the set itself: every one of them can be reached."""
    x = np.random.RandomState(1).rand(8, 12, 12, 1).astype(np.float32)
    x_perturbed = tiny_set.sample(x, radius=1.5, seed=5).numpy()
    return tf.data.Dataset.from_tensor_slices((x, x_perturbed)).batch(4)


@pytest.fixture(scope="module")
def report(tiny_set, pairs):
    tiny_set.radius = 2.0
    return lps.quality.evaluate(tiny_set, pairs, steps=40, verbose=False)


@pytest.mark.slow
def test_descent_never_ends_above_the_encoder(report):
    # For every pair, as section 4 says, not only on average.
    assert (report.errors["pgd_ae"] <= report.errors["encoder_ae"] + 1e-9).all()
    assert report.pgd_ae < 0.7 * report.encoder_ae  # and it does find members
    assert report.oae >= report.eae


@pytest.mark.essential
def test_errors_equal_their_definitions(tiny_set, pairs, report):
    x, x_perturbed = (np.concatenate(part) for part in zip(*pairs, strict=True))
    u = tiny_set.encode(x, x_perturbed).numpy()
    norms = np.linalg.norm(u, axis=1)
    np.testing.assert_allclose(report.norms, norms, rtol=1e-4)
    inside = u * np.minimum(1, 2.0 / norms)[:, None]
    error = ((tiny_set.perturb(x, inside) - x_perturbed) ** 2).numpy().mean((1, 2, 3))
    np.testing.assert_allclose(report.errors["encoder_ae"], error, rtol=1e-3)
    assert report.encoder_ae == pytest.approx(error.mean(), rel=1e-3)
    itself = ((x - x_perturbed) ** 2).mean()
    assert report.pair_mse == pytest.approx(itself, rel=1e-4)
    g = tiny_set.perturb(x, inside).numpy().astype(np.float64)
    bce = -(x_perturbed * np.log(g) + (1 - x_perturbed) * np.log1p(-g)).mean()
    assert report.cross_entropy["encoder_ae"] == pytest.approx(bce, rel=1e-3)


@pytest.mark.slow
def test_the_two_terms_are_those_of_the_objective(tiny_set, pairs, report):
    found = [(*tiny_set.elbo_terms(x, p),) for x, p in pairs for _ in range(50)]
    reconstruction, kl = np.mean(found, (0, 2))
    assert report.reconstruction == pytest.approx(reconstruction, rel=0.01)
    assert report.kl == pytest.approx(kl, rel=1e-5)


def test_the_seed_decides_everything(tiny_set, pairs):
    reports = [
        lps.quality.evaluate(tiny_set, pairs, steps=2, seed=seed, verbose=False)
        for seed in (1, 1, 2)
    ]
    one, again, other = (r.to_dict() for r in reports)
    assert one == again
    same = {k for k in one if one[k] == other[k]}
    assert same == {"pairs", "radius", "pair_mse", "kl", "encoder_ae", "pgd_ae"} | {
        "norm_quantiles"
    }


def test_a_smaller_last_batch_compiles_nothing_and_counts_once(tiny_set, pairs):
    whole = lps.quality.evaluate(tiny_set, pairs, steps=2, verbose=False)
    measure = xla.graph_of(quality._measure, tiny_set)
    traces = measure.experimental_get_tracing_count()
    seven = pairs.unbatch().take(7).batch(4)
    found = lps.quality.evaluate(tiny_set, seven, steps=2, verbose=False)
    assert measure.experimental_get_tracing_count() == traces
    assert found.pairs == len(found.norms) == 7
    for name in ("pair_mse", "encoder_ae", "pgd_ae"):  # not random
        expected = whole.errors[name][:7]
        np.testing.assert_allclose(found.errors[name], expected, rtol=1e-5)
        assert getattr(found, name) == pytest.approx(expected.mean(), rel=1e-5)


@pytest.mark.slow
def test_descent_is_near_a_brute_force_search(tiny_set, pairs, report):
    x, x_perturbed = next(iter(pairs))
    draws = tiny_set.sample(x, 400, radius=2.0, seed=0)
    error = tf.reduce_mean((draws - x_perturbed[None]) ** 2, (2, 3, 4)).numpy()
    # Steps as long as the paper's end a step's length from the best; here shorter
    # ones. One start may end in a local minimum, so not for every pair.
    fine = lps.quality.evaluate(
        tiny_set, pairs, steps=200, relative_step=0.01, verbose=False
    )
    assert np.median(fine.errors["pgd_ae"][:4] / error.min(0)) <= 2
    assert np.median(fine.errors["oae"][:4] / error.max(0)) >= 0.85
    # The expected error is that of such draws.
    assert report.errors["eae"][:4].mean() == pytest.approx(error.mean(), rel=0.3)


def test_report_prints_writes_and_plots(report, tmp_path):
    assert "PGD approximation error" in str(report)
    content = json.loads(report.to_json(tmp_path / "quality.json"))
    assert content == json.loads((tmp_path / "quality.json").read_text())
    assert content["pgd_ae"] == pytest.approx(report.pgd_ae)
    assert content["norm_quantiles"]["max"] == pytest.approx(report.norms.max())
    figures = report.plot(tmp_path)
    assert set(figures) == {"pairs", "samples", "interpolation", "norms"}
    for name in figures:
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    table = report._repr_html_()
    assert table.count("<tr>") == 1 + len(str(report).splitlines())
    assert f">{report.pgd_ae:.5g}</td>" in table and "PGD approximation error" in table


def test_a_report_is_loaded_without_its_set(report, tmp_path):
    report.to_json(tmp_path / "quality.json")
    again = lps.quality.QualityReport.load(tmp_path / "quality.json")
    assert str(again) == str(report) and again.to_json() == report.to_json()
    np.testing.assert_array_equal(again.errors["pgd_ae"], report.errors["pgd_ae"])
    figures = report.plot(), again.plot()
    for name in ("pairs", "samples", "interpolation", "norms"):
        one, other = (lps.plots.png(figure[name]) for figure in figures)
        assert one == other


def test_the_pictures_are_of_the_set(tiny_set, pairs, report):
    x, x_perturbed = next(iter(pairs))
    shown = report.pictures
    near = {"atol": 0.51}  # of 255: they are rounded
    np.testing.assert_allclose(shown.x, 255 * x, **near)
    np.testing.assert_allclose(shown.perturbed, 255 * x_perturbed, **near)
    samples = tiny_set.sample(x, 8, radius=2.0, seed=0)
    np.testing.assert_allclose(shown.samples, 255 * samples, **near)
    # The corners of the grid are the first image under the first four latents.
    u = lps.latent.project(tiny_set.encode(x, x_perturbed), 2.0)
    np.testing.assert_allclose(shown.from_the_set, 255 * tiny_set.perturb(x, u), **near)
    corners = 255 * tiny_set.perturb(np.repeat(x[:1], 4, 0), u)
    found = shown.interpolation[[0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_allclose(found, corners, **near)


def test_errors(tiny_set, pairs):
    with pytest.raises(ValueError, match="empty"):
        lps.quality.evaluate(tiny_set, pairs.take(0))
    with pytest.raises(ValueError, match="`radius` must be positive"):
        lps.quality.evaluate(tiny_set, pairs, radius=0)
    with pytest.raises(ValueError, match="`steps`"):
        lps.quality.evaluate(tiny_set, pairs, steps=0)
    bad = pairs.map(lambda x, p: (x, p[:, :-1]))
    with pytest.raises(ValueError, match="must hold images of shape"):
        lps.quality.evaluate(tiny_set, bad, verbose=False)
    fresh = lps.PerturbationSet.from_network("mnist_stn", latent_dim=4)
    with pytest.raises(ValueError, match="no radius"):
        lps.quality.evaluate(fresh, pairs)
