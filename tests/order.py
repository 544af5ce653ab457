"""A pytest plugin: the order of the tests; in a random one each must pass as well."""

import random

# The longest first, so that two processes that take a file each end together.
LONG = (
    *("test_notebooks.py", "test_guides.py", "test_docs.py", "test_pretrained.py"),
    *("test_export.py", "test_training.py", "test_parity.py", "test_models.py", "test_demo.py"),
    *("test_data.py", "test_deeplab_v3.py", "test_conversion_process.py", "test_ssd_lite.py"),
    *("test_segmenter_training.py", "test_train_command.py", "test_import.py", "test_readme.py"),
)
RANK = {name: number for number, name in enumerate(LONG)}


def pytest_addoption(parser):
    parser.addoption(
        "--random-order", metavar="SEED", type=int, help="shuffle the files, and the tests of each"
    )


def pytest_collection_modifyitems(config, items):
    seed = config.getoption("random_order")
    if seed is None:
        items.sort(key=lambda item: RANK.get(item.path.name, len(LONG)))
        return
    draw = random.Random(seed)
    place = {path: draw.random() for path in dict.fromkeys(item.path for item in items)}
    items.sort(key=lambda item: (place[item.path], draw.random()))
