"""Loads the demo's SavedModels with TensorFlow alone and compares their outputs.

The demo runs it in a process of its own:
python check_saved_models.py CHECK.npz SET CLASSIFIER SMOOTHED
"""

import json
import sys

# Importing the package fails from here on.
sys.modules["lps_tf"] = None  # type: ignore[assignment]

import numpy as np
import tensorflow as tf

check = np.load(sys.argv[1])
x = tf.constant(check["x"])
n0, n, seed = (tf.constant(v) for v in check["n"])

pset, classifier, smoothed = map(tf.saved_model.load, sys.argv[2:])
certificate = smoothed.certify(x, n0, n, tf.constant(check["alpha"]), seed)
outputs = {
    "perturbed": pset.perturb(x, tf.constant(check["u"])),
    "logits": classifier.serve(x),
    "prediction": certificate["prediction"],
    "radius": certificate["radius"],
}
differences = {
    name: float(np.abs(value.numpy() - check[name]).max())
    for name, value in outputs.items()
}
# A sample whose two best logits are equal up to rounding may be counted differently.
limits = {"perturbed": 1e-5, "logits": 1e-4, "prediction": 0, "radius": 0.02}
for name, limit in limits.items():
    if not differences[name] <= limit:
        sys.exit(f"{name} differs by {differences[name]}, more than {limit}")
print(json.dumps(differences))
