"""What all tests share."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_conversion_process():
    """The conversions of all tests in one process: each of its own imports TensorFlow for 4 s."""
    from keras_parc.lite.process import conversion_process

    with conversion_process():
        yield
