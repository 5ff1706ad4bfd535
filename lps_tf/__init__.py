"""Learn what may happen to an image, then attack, augment, smooth and certify."""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lps_tf._version import __version__

# Python says "-m" here while it looks for the module that `python -m` is to run. The
# command line answers `--help` before it imports TensorFlow, which takes seconds;
# everybody else gets all of it at once, so that Keras knows the classes of saved files.
if Path(sys.argv[0] if sys.argv else "").stem in ("-m", "lps-tf"):
    __all__ = ["__version__"]

    def __getattr__(name: str) -> Any:
        if find_spec(f"lps_tf.{name}"):
            return import_module(f"lps_tf.{name}")
        return getattr(import_module("lps_tf._public"), name)

else:
    from lps_tf import _public
    from lps_tf._public import *  # noqa: F403

    __all__ = [*_public.__all__, "__version__"]
