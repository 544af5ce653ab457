"""Models: one file a family, and the registry that knows them all."""

import keras  # noqa: F401 (first: see `keras_parc.layers`)
