"""Imports TensorFlow before anything else does: quietly, and as Keras's backend.

Before its log has a level, TensorFlow writes of missing GPUs and of its own processor
code to the standard error of the process. That is held back while it starts, and shown
only if it fails. What the user sets in TF_CPP_MIN_LOG_LEVEL stays.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Holds back standard error; shows it if something is raised."""
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ and "tensorflow" in sys.modules:
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors still show
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


with _quiet_start():
    import keras
    import tensorflow as tf

    # It looks for GPUs, and says so, when it is first asked for them.
    tf.config.list_physical_devices()

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "lps_tf needs Keras's TensorFlow backend. Received: backend "
        f"{keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow and start again."
    )
