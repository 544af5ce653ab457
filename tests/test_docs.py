"""Every example in a docstring runs, and every public name has one."""

import doctest
import importlib
import pkgutil

import pytest

import keras_parc

MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(keras_parc.__path__, "keras_parc.")
    if name != "keras_parc.cli"
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.parametrize("name", keras_parc.__all__)
def test_public_names_have_an_example(name):
    doc = getattr(keras_parc, name).__doc__
    assert "Example:" in doc
    assert ">>>" in doc
