"""What all tests share."""

import sys

import pytest

from keras_parc.cli import main


@pytest.fixture
def run_cli(monkeypatch, capsys):
    """Call the command in this process; returns its status, standard output and error output."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["keras-parc", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, *capsys.readouterr()

    return run
