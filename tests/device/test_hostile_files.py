"""tflite/run.py on files that are not what they seem: one line, and no waiting."""

import os
import zipfile

import pytest
from clients import run
from PIL import Image
from tflite_models import HALVES, convert, halves


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    convert(folder / "halves.tflite", halves)
    Image.new("RGB", (64, 64), "white").save(folder / "white.png")
    return folder


def said(capsys, *arguments):
    """Status, output and error output of the command."""
    status = run.main([str(each) for each in arguments])
    return (status, *capsys.readouterr())


def packed(folder, name, content, *, encrypted=False):
    """The model with a label file of this content appended."""
    path = folder / name
    path.write_bytes((folder / "halves.tflite").read_bytes())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", content)
    if encrypted:  # bit 0 of the flags, before the file and in the list at the end
        data = path.read_bytes()
        for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = data.rindex(mark) + place
            data = data[:at] + bytes([data[at] | 1]) + data[at + 1 :]
        path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("content", "encrypted", "words"),
    [
        (b"top\nbottom\n\xff\xfe\n", False, "cannot be read"),
        (b"top\n", True, "is encrypted"),
        (b"x" * 5_000_000, False, "take 5000000 bytes"),
    ],
    ids=["not UTF-8", "encrypted", "huge"],
)
def test_packed_labels_that_cannot_be_used(folder, capsys, content, encrypted, words):
    path = packed(folder, "bad.tflite", content, encrypted=encrypted)
    status, printed, errors = said(capsys, folder / "white.png", path)
    assert (status, printed) == (2, "")
    assert words in errors
    assert "--labels" in errors
    labels = folder / "mine.txt"
    labels.write_text("\n".join(HALVES) + "\n")


def test_names_do_not_reach_the_terminal_raw(folder, capsys):
    """Escapes of colours and of the cursor, and what Unicode calls the end of a line."""
    names = ["\x1b[31mred", "a\u2028b", "caf\u00e9", "d"][: len(HALVES)]
    path = packed(folder, "escapes.tflite", "\n".join(names).encode())
    status, printed, errors = said(capsys, folder / "white.png", path)
    assert status == 0, errors
    assert "\x1b" not in printed
    assert "?[31mred" in printed
    assert "a?b" in printed
    status, _, errors = said(capsys, folder / "\x1b[2Jno.png", path)
    assert (status, "\x1b" in errors) == (2, False)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_not_waited_for(folder, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    model, image = folder / "halves.tflite", folder / "white.png"
    for arguments in (
        (tmp_path / "pipe", model),
        (image, tmp_path / "pipe"),
        (image, model, "--labels", tmp_path / "pipe"),
        (image, tmp_path),
    ):
        status, printed, errors = said(capsys, *arguments)
        assert (status, printed) == (2, "")
        assert "expected a file as" in errors


def test_a_model_that_fails_when_it_runs(folder):
    """As some damaged ones do: one line, as of those that cannot be opened."""
    path = convert(folder / "fails.tflite", halves)
    interpreter = run.open_model(path)

    class Failing:
        def __getattr__(self, name):
            return getattr(interpreter, name)

        def invoke(self):
            raise RuntimeError("Input tensor 6\nlacks data")

    image = Image.new("RGB", (32, 32))
    with pytest.raises(run.ToolError, match="fails on the model: Input tensor 6 lacks data"):
        run.run(Failing(), image, run.read_metadata(path), None, 3)
