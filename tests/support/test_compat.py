"""Private names of other libraries: they exist, and only `support/compat` uses them."""

import ast
import importlib
import importlib.metadata
import pathlib

import keras
import pytest

import keras_parc
from keras_parc.support import compat

PACKAGE = pathlib.Path(keras_parc.__file__).parent
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "compat.py"]


def small_model():
    image = keras.Input((4,))
    return keras.Model(image, [keras.layers.Dense(2, name="dense")(image)])


def sequential():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])


def converter():
    import tensorflow as tf

    function = tf.function(lambda x: x, input_signature=[tf.TensorSpec((1,), tf.float32)])
    concrete = function.get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete])


# What exists only on an object, not on its class.
OBJECTS = {
    "keras.Sequential": sequential,
    "keras.Model": small_model,
    "keras.layers.Layer": lambda: keras.layers.Dense(2),
    "tensorflow.lite.TFLiteConverter": converter,
}


def owner(path: str):
    """The object whose attribute a private name is."""
    if path in OBJECTS:
        return OBJECTS[path]()
    *module, name = path.split(".")
    try:
        return importlib.import_module(path)
    except ImportError:
        return getattr(owner(".".join(module)), name)


def users(accessor: str) -> list[str]:
    """The files of the package that call a function of compat."""
    return [
        str(path.relative_to(PACKAGE))
        for path in FILES
        if f"compat.{accessor}(" in path.read_text()
    ]


def missing(private: compat.Private) -> str | None:
    """What to tell whoever updates a library; None if the name is there."""
    path, name = private.name.rsplit(".", 1)
    try:
        there = hasattr(owner(path), name)
    except (ImportError, AttributeError):
        there = False
    if there:
        return None
    version = importlib.metadata.version(private.library)
    return (
        f"{private.library} {version} has no `{private.name}` (seen in {private.seen}). "
        f"`compat.{private.accessor}` must do without; used in: {users(private.accessor)}. "
        f"{private.reason}"
    )


@pytest.mark.parametrize("private", compat.PRIVATE, ids=lambda private: private.name)
def test_the_private_name_is_there(private):
    complaint = missing(private)
    assert complaint is None, complaint
    assert users(private.accessor), f"`compat.{private.accessor}` is used nowhere: delete it."


def test_a_name_that_is_gone_is_named(monkeypatch):
    owners = (each for each in keras.optimizers.Optimizer.__mro__)
    owner = next(each for each in owners if "_use_weight_decay" in vars(each))
    monkeypatch.delattr(owner, "_use_weight_decay")
    (private,) = (each for each in compat.PRIVATE if each.name.endswith("._use_weight_decay"))
    complaint = missing(private)
    assert "keras.optimizers.Optimizer._use_weight_decay" in complaint
    assert "training/optimizer.py" in complaint


def test_private_names_are_used_in_one_place():
    trees = {str(path): ast.parse(path.read_text()) for path in FILES}
    own = {name for tree in trees.values() for name in defined(tree)}
    found = {path: sorted({*foreign(tree)} - own) for path, tree in trees.items()}
    assert not {path: names for path, names in found.items() if names}


def defined(tree: ast.AST):
    """Names of functions, and of attributes that are set."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node.name
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def foreign(tree: ast.AST):
    """Names that look private: of attributes, also as strings, and of modules imported."""
    names = {each.name.rsplit(".", 1)[1] for each in compat.PRIVATE}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) if name.startswith("_") and not name.startswith("__"):
                yield name
            case ast.Constant(value=str(text)) if text.startswith("_") and text in names:
                yield text
            case ast.Import(names=modules):
                yield from (each.name for each in modules if _is_private(each.name))
            case ast.ImportFrom(module=str(module)) if _is_private(module):
                yield module


def _is_private(module: str) -> bool:
    parts = module.split(".")
    return {"src", "python"} & set(parts) != set() or any(
        part[0] == "_" for part in parts if part and part[:2] != "__"
    )


def test_libraries_are_not_imported_at_once():
    tree = ast.parse(pathlib.Path(compat.__file__).read_text())
    imports = [each for each in tree.body if isinstance(each, (ast.Import, ast.ImportFrom))]
    modules = {"__future__", "collections.abc", "contextlib", "dataclasses", "typing"}
    assert {getattr(x, "module", None) or x.names[0].name for x in imports} == modules
