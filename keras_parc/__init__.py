"""From a Keras vision model to a fast, correct int8 `.tflite`, with ParC-Net as the model zoo.

The public names are those of `__init__.pyi`; each is imported at its first use, so that importing
the package takes no time.
"""

import importlib

import lazy_loader
import wrapt

from keras_parc.support.version import VERSION

__version__ = VERSION
_imported, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str):
    try:
        return _imported(name)
    except AttributeError:
        if not name[:1].isupper():
            raise
    # A constructor that only the registry knows.
    for entry in importlib.import_module("keras_parc.models.registry").list_models():
        if entry.name == name:
            return entry.build
    raise AttributeError(f"module 'keras_parc' has no attribute {name!r}")


@wrapt.when_imported("keras")
def _register(_) -> None:
    """Let `keras.models.load_model` know the layers and losses of this package.

    Keras finds a class of another package only where its module has been imported.
    """
    importlib.import_module("keras_parc.layers")
    importlib.import_module("keras_parc.models.losses")
