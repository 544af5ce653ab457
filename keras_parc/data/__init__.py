"""Data sets: where images come from, and how they become batches.

With this room imported, TensorFlow Datasets knows `digit_scenes` and `voc_segmentation`.
"""

import contextlib
import importlib

import lazy_loader
import wrapt

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


@wrapt.when_imported("tensorflow_datasets")
def _register(_) -> None:
    """Importing a builder registers it; without the packages of the extra there is none."""
    with contextlib.suppress(ImportError):
        for name in ("digit_scenes", "voc_segmentation"):
            importlib.import_module(f"keras_parc.data.sets.{name}")
