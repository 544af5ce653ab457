"""Models that only a test registers."""

from keras_parc.models import registry


def register_for_test(monkeypatch, constructor, key, **fields):
    """Enter a constructor into the registry until the test ends, in place of one of that key."""
    registry.list_models()  # so that no file registers its own afterwards
    fields = {"family": "tests", "listed": False} | fields
    entry = registry.ModelEntry(name=key, key=key, build=constructor, **fields)
    monkeypatch.setitem(registry._ENTRIES, key, entry)
