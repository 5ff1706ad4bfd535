"""TFDS builders: they write a data set to disk once, for its loader to read.

They import TensorFlow Datasets, so loaders import them when they are called.
"""
