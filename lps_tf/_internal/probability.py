"""What is used of TensorFlow Probability, which no other module imports."""

import tensorflow_probability as tfp

#: Its distributions.
tfd = tfp.distributions

#: Inverse of the regularised incomplete beta function, by its last argument.
betaincinv = tfp.math.betaincinv
