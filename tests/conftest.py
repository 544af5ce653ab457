"""What all tests share."""

import sys

import pytest

from keras_parc.cli import main


@pytest.fixture(scope="session", autouse=True)
def one_conversion_process():
    """The conversions of all tests in one process: each of its own imports TensorFlow for 4 s."""
    from keras_parc.lite.process import conversion_process

    with conversion_process():
        yield


@pytest.fixture
def run_cli(monkeypatch, capsys):
    """Call the command in this process; returns its status, standard output and error output."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["keras-parc", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, *capsys.readouterr()

    return run
