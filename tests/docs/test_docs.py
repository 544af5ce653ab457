"""Every example in a docstring runs, and every public name has one and a place in the reference."""

import doctest
import importlib.util
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
from registered import registry_of_its_own

import keras_parc

MODULES = [name for _, name, _ in pkgutil.walk_packages(keras_parc.__path__, "keras_parc.")]


def shown(name: str) -> int:
    """How many examples the source of a module shows."""
    path = Path(importlib.util.find_spec(name).origin)
    return len(re.findall(r"(?m)^\s*>>> ", path.read_text()))


WITH_EXAMPLES = [name for name in MODULES if shown(name)]
PAGES = Path(__file__).parents[2] / "docs/api"
# What the pages of the reference name, as in `::: keras_parc.ParCV`.
DOCUMENTED = [
    name
    for page in sorted(PAGES.glob("*.md"))
    for name in re.findall(r"(?m)^::: (\S+)", page.read_text())
]
ROOMS = ("keras_parc", "keras_parc.data", "keras_parc.lite", "keras_parc.weights")


# Export, train or prepare a data set, as the tests of these modules do with smaller ones.
SLOW = (
    "keras_parc.lite.convert",
    "keras_parc.lite.file.inspection",
    "keras_parc.lite.file.metadata",
    "keras_parc.lite.file.runtime",
    "keras_parc.lite.process",
    "keras_parc.lite.quantize.bias_correction",
    "keras_parc.lite.quantize.explain",
    "keras_parc.lite.quantize.int8",
    "keras_parc.lite.quantize.ranges",
    "keras_parc.lite.quantize.traced_file",
    "keras_parc.models.deeplab_v3",
    "keras_parc.models.ssd_lite",
    "keras_parc.models.ssd_losses",
    "keras_parc.tasks.detection.data",
    "keras_parc.tasks.segmentation.data",
    "keras_parc.training.rates",
)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else []) for n in WITH_EXAMPLES]
)
def test_examples_run(name, monkeypatch):
    """All that the source shows, but for those that say that they do not."""
    registry_of_its_own(monkeypatch)
    module = importlib.import_module(name)
    skipped = Path(module.__file__).read_text().count("# doctest: +SKIP")
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert results.failed == 0
    assert results.attempted >= shown(name) - skipped


def test_most_modules_show_examples():
    assert len(WITH_EXAMPLES) > 50
    assert sum(map(shown, WITH_EXAMPLES)) > 300


def _public(name: str) -> dict[str, object]:
    """A documented object; or all that a documented module defines for others."""
    thing = pkgutil.resolve_name(name)
    if not inspect.ismodule(thing):
        return {name: thing}
    return {
        f"{name}.{each}": value
        for each, value in vars(thing).items()
        if not each.startswith("_") and getattr(value, "__module__", None) == name
    }


@pytest.mark.parametrize("name", DOCUMENTED)
def test_documented_names_have_an_example(name):
    found = _public(name)
    assert found
    lacking = [
        each for each, thing in found.items() if not re.search(r"Example:\n\s+>>> ", _doc(thing))
    ]
    assert not lacking


def _doc(thing) -> str:
    return thing.__doc__ or ""


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_are_documented(room):
    documented = {id(thing) for name in DOCUMENTED for thing in _public(name).values()}
    module = importlib.import_module(room)
    names = [name for name in module.__all__ if not inspect.ismodule(getattr(module, name))]
    lacking = [name for name in names if id(getattr(module, name)) not in documented]
    assert len(names) >= 2
    assert not lacking


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_says_what_its_names_are_for(page):
    """Each part of a page begins with a paragraph, before any signature."""
    parts = re.split(r"(?m)^#+ .*$", page.read_text())[1:]
    for part in parts:
        words = part.split(":::")[0].split()
        assert len(words) >= 15, part[:80]
