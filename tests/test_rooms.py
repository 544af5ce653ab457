"""Imports go down: each room imports rooms below it only, inside functions too."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "keras_parc"
# From the ground up. `visualize` is one file; experiments/ and tflite/ lie outside the package.
ROOMS = (
    *("support", "layers", "weights", "models", "visualize", "data", "lite"),
    *("tasks", "training", "report", "device", "cli"),
)
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 500  # a file is read in one sitting: about 400


def room_of(path: Path) -> str | None:
    """The room of a file; None for the package's own `__init__` and `__main__`."""
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return None if part.startswith("__") else part


def imported(source: str, package: str) -> set[str]:
    """Full names of the modules of keras_parc that a file imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package.split(".")[: -node.level], base]).rstrip(".")
            found |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            first = node.args[0]
            literal = first.values[0] if isinstance(first, ast.JoinedStr) else first
            if isinstance(literal, ast.Constant):
                found.add(str(literal.value))
    return {name for name in found if name.split(".")[0] == "keras_parc"}


def problems(source: str, room: str, package: str) -> list[str]:
    """The imports of a file that do not go down."""
    wrong = []
    for name in imported(source, package):
        parts = name.split(".")
        other = parts[1] if len(parts) > 1 else None
        if other not in ROOMS or ROOMS.index(other) > ROOMS.index(room):
            wrong.append(name)
    return wrong


def test_every_file_is_in_a_room():
    assert {room_of(path) for path in FILES} == {None, *ROOMS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    room = room_of(path)
    if room is not None:
        package = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        assert problems(path.read_text(), room, package) == []


@pytest.mark.parametrize(
    "source",
    [
        "from keras_parc.training.fit import fit",
        "def f():\n    import keras_parc.cli.main",
        "def f():\n    from keras_parc.tasks import task",
        "import keras_parc",
        "import importlib\nimportlib.import_module(f'keras_parc.tasks.{1}')",
        "from ..report import run",
    ],
)
def test_an_import_that_goes_up_is_found(source):
    assert problems(source, "lite", "keras_parc.lite.convert")


def file_of(name: str) -> Path | None:
    """The file of a module, or of the module that a name is taken from."""
    parts = name.split(".")[1:]
    for end in range(len(parts), 0, -1):
        base = PACKAGE.joinpath(*parts[:end])
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None


def for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"


def test_no_files_import_each_other_in_a_circle():
    """What is imported for types alone does not count."""
    needs = {}
    for path in FILES:
        tree = ast.parse(path.read_text())
        tree.body = [node for node in tree.body if not for_types_only(node)]
        found = {file_of(name) for name in imported(ast.unparse(tree), "")}
        needs[path] = found - {None, path, PACKAGE / "__init__.py"}
    # What no file needs that is still there is taken away, until only circles are left.
    while free := [path for path in needs if not needs[path] & needs.keys()]:
        for path in free:
            del needs[path]
    assert sorted(str(path.relative_to(PACKAGE)) for path in needs) == []


def test_files_are_read_in_one_sitting():
    long = {path.name: len(path.read_text().splitlines()) for path in FILES}
    assert {name: lines for name, lines in long.items() if lines > MAX_LINES} == {}


def test_production_code_makes_no_mocks_and_has_no_utils():
    assert [p.name for p in FILES if "unittest.mock" in p.read_text() or p.stem == "utils"] == []


def run(code: str) -> str:
    """What a new Python process prints. JAX starts in half of the time of TensorFlow."""
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        None,
        ["--help"],
        ["--version"],
        ["presets"],
        ["train", "--help"],
        ["demo", "--task", "detect"],
    ],
)
def test_the_package_and_simple_commands_start_without_keras(arguments):
    """Quick, whatever the machine: neither Keras nor TensorFlow is imported."""
    call = "" if arguments is None else f"sys.argv = ['keras-parc', *{arguments}]\n"
    if arguments is not None:
        call += "try:\n    keras_parc.cli.main.main()\nexcept SystemExit:\n    pass\n"
    code = (
        "import contextlib, io, sys, keras_parc\n"
        + ("" if arguments is None else "import keras_parc.cli.main\n")
        + "".join(f"{line}\n" for line in call.splitlines())
        + "print('LOADED', sorted({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)))"
    )
    assert run(code).splitlines()[-1] == "LOADED []"


@pytest.mark.parametrize(
    "first",
    ["import keras, keras_parc", "import keras_parc, keras", "import keras_parc.weights.names"],
)
def test_keras_finds_our_layers_whichever_is_imported_first(first, tmp_path):
    import keras

    import keras_parc

    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((8, 8, 3)), keras_parc.ParCH(3)]).save(path)
    code = f"{first}\nimport keras\nprint(keras.models.load_model({str(path)!r}).layers)"
    assert "ParCH" in run(code)


def test_import_is_light():
    """On top of Keras it loads neither data sets, augmentation nor plots."""
    code = (
        "import sys, keras\nbefore = set(sys.modules)\nimport keras_parc\n"
        "heavy = {'tensorflow_datasets', 'keras_cv', 'matplotlib', 'sklearn'}\n"
        "print('LOADED', sorted(heavy & (set(sys.modules) - before)))"
    )
    assert run(code).splitlines()[-1] == "LOADED []"


def test_public_names_are_there_and_modules_are_reachable():
    code = (
        "import keras_parc\n"
        "assert len(keras_parc.__all__) > 40\n"
        "for name in keras_parc.__all__:\n    assert getattr(keras_parc, name) is not None, name\n"
        "keras_parc.data.SceneConfig, keras_parc.visualize.overlay, keras_parc.training\n"
        "assert keras_parc.ParCNetTiny.__name__ == 'ParCNetTiny'  # the registry's alone\n"
        "try:\n    keras_parc.ParCNetXXL\nexcept AttributeError as error:\n    print(error)"
    )
    assert "no attribute 'ParCNetXXL'" in run(code)
