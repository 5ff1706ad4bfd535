"""Learn what may happen to an image, then attack, augment, smooth and certify."""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from wrapt import register_post_import_hook

from lps_tf._version import __version__ as __version__

if TYPE_CHECKING:
    from lps_tf._public import *  # noqa: F403

# TensorFlow takes seconds to import. The public names are there on first use, all of
# them at once; what needs no TensorFlow is imported alone.
_ALONE = ("corruptions", "experiments")


def __getattr__(name: str) -> Any:
    if name in _ALONE:
        return import_module(f"lps_tf.{name}")
    private = name.startswith("__") and name != "__all__"
    if private or "lps_tf._public" in sys.modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _import_public()
    return getattr(sys.modules[__name__], name)


def __dir__() -> list[str]:
    return sorted([*sys.modules[__name__].__all__, "experiments"])


def _import_public() -> None:
    public = import_module("lps_tf._public")
    names = {name: getattr(public, name) for name in public.__all__}
    globals().update(names, __all__=[*names, "__version__"])


def _register_classes(keras: ModuleType) -> None:
    """Imports every class that Keras is to know when it loads a saved file."""
    ours = [name for name in sys.modules if name.startswith("lps_tf.")]
    # Otherwise a room is being imported, and it is that room that imports Keras; nor is
    # there a way to import the others while a module that they need is half there.
    rooms = {name.split(".")[1] for name in ours}
    half = any(getattr(sys.modules[n].__spec__, "_initializing", False) for n in ours)
    if rooms <= {"__main__", "_internal", "_version", *_ALONE} and not half:
        _import_public()


# At once if Keras is there already.
register_post_import_hook(_register_classes, "keras")
