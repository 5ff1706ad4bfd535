"""Perturbation sets: how they are learned, calibrated, searched and measured."""
