"""A small renderer of scenes under 25 lights, the stand-in for photographed ones."""

from lps_tf.datasets.rendering.materials import MATERIALS
from lps_tf.datasets.rendering.scene import SOURCE, Scene, render
from lps_tf.datasets.rendering.shading import LIGHTS

__all__ = ["LIGHTS", "MATERIALS", "SOURCE", "Scene", "render"]
