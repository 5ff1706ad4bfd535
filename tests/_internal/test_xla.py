"""Graphs of models: traced once, shared, and gone with their model."""

import gc
import weakref

import keras
import tensorflow as tf

import lps_tf as lps
from lps_tf._internal.xla import graph_of
from tests.robustness.pixel_ball import SIZE, PixelBall, images


def doubled(model, x):
    return 2 * model(x)


def classifier():
    dense = keras.layers.Dense(3)
    return keras.Sequential([keras.Input(SIZE), keras.layers.Flatten(), dense])


def test_a_model_has_one_graph_of_a_function():
    model, x = classifier(), tf.constant(images())
    graph = graph_of(doubled, model)
    assert graph is graph_of(doubled, model)
    assert graph is not graph_of(doubled, model, jit_compile=True)
    assert graph is not graph_of(doubled, classifier())
    for n in (12, 12):
        graph(model, x[:n])
    assert graph.experimental_get_tracing_count() == 1


def test_graphs_go_with_their_model():
    model, pset = classifier(), PixelBall()
    lps.LatentPGD(pset, steps=1).run(model, images(), [0, 1, 2] * 4)
    graph_of(doubled, model)(model, images())
    gone = [weakref.ref(model), weakref.ref(graph_of(doubled, model))]
    gone.append(weakref.ref(model.layers[-1].kernel.value))
    del model
    gc.collect()
    assert [reference() for reference in gone] == [None] * 3
