"""tf.data pipelines: perturbations drawn on the fly, or stored with the images."""
