"""Layers' inner loops in the forms that XLA runs fast on a CPU."""
