"""Notices of native libraries are left out; whatever else is written stays."""

import os

import pytest

from keras_parc.support.notices import show_notices, without_notices

NOTICES = (
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    b"I0000 00:00:1795792284.643138    2615 port.cc:153] oneDNN custom operations are on.\n"
    b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"
)


@pytest.fixture(autouse=True)
def hidden_again():
    yield
    show_notices(False)


def test_notices_are_left_out_and_the_rest_is_printed(capfd):
    with without_notices():
        os.write(2, NOTICES + b"ERROR: the node 3 failed\n")
    assert capfd.readouterr().err == "ERROR: the node 3 failed\n"
    os.write(2, NOTICES)
    assert capfd.readouterr().err == NOTICES.decode()


def test_after_an_error_too(capfd):
    def write_and_fail():
        with without_notices():
            os.write(2, b"a line\n")
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        write_and_fail()
    os.write(2, b"another\n")
    assert capfd.readouterr().err == "a line\nanother\n"


def test_all_are_shown_where_that_is_asked_for(capfd):
    show_notices()
    with without_notices():
        os.write(2, NOTICES)
    assert capfd.readouterr().err == NOTICES.decode()
