"""A pytest plugin: the order of the tests; in a random one each must pass as well."""

import random

# Files of minutes: first, so that two processes that take a file each end together.
LONG = ("test_notebooks.py", "test_export.py", "test_training.py", "test_docs.py", "test_models.py")


def pytest_addoption(parser):
    parser.addoption(
        "--random-order", metavar="SEED", type=int, help="shuffle the files, and the tests of each"
    )


def pytest_collection_modifyitems(config, items):
    seed = config.getoption("random_order")
    if seed is None:
        items.sort(key=lambda item: item.path.name not in LONG)
        return
    draw = random.Random(seed)
    place = {path: draw.random() for path in dict.fromkeys(item.path for item in items)}
    items.sort(key=lambda item: (place[item.path], draw.random()))
