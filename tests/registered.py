"""The package's own models, and those that only a test registers."""

from keras_parc.models import registry


def register_for_test(monkeypatch, constructor, key, **fields):
    """Enter a constructor into the registry until the test ends, in place of one of that key."""
    registry.list_models()  # so that no file registers its own afterwards
    fields = {"family": "tests", "listed": False} | fields
    entry = registry.ModelEntry(name=key, key=key, build=constructor, **fields)
    monkeypatch.setitem(registry._ENTRIES, key, entry)


def registry_of_its_own(monkeypatch):
    """What a test registers is gone when it ends."""
    registry.list_models()  # so that the package's own are not only in the copy
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))


def own_models():
    """The entries of the package itself; other tests of the same process register theirs."""
    entries = registry.list_models()
    return [each for each in entries if each.build.__module__.startswith("keras_parc.models.")]
