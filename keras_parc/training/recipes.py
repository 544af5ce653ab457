"""Finding recipes by name, and changing their fields."""

import dataclasses
import importlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from keras_parc.support.checks import unknown_name
from keras_parc.training.recipe import Recipe
from keras_parc.training.recipe_table import RECIPES


def override(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """Change fields of a recipe as a command line gives them.

    Args:
        recipe: What to start from.
        settings: `field=value`, of the recipe, its options or their augmentation, with several
            numbers separated by commas; or `model.argument=value`, an argument of the model's
            constructor.

    Returns:
        A new recipe.

    Raises:
        ValueError: No such field, or a value that is not of its kind or out of its range.

    Example:
        >>> override(find_recipe("digit_scenes"), ["epochs=10", "sizes=32,48"]).sizes
        (32, 48)
    """
    groups = _parts(recipe)
    arguments = dict(recipe.model_arguments)
    fixed = {"options", "augmentation", "model_arguments"}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"Expected field=value, got {setting!r}.")
        for prefix in ("options.", "augmentation."):  # as `to_json` nests them
            name = name.removeprefix(prefix)
        if name.startswith("model."):
            arguments[name.removeprefix("model.")] = _argument(text)
            continue
        group = next((g for g in groups if name in g and name not in fixed), None)
        if group is None:
            names = [each for g in groups for each in g if each not in fixed]
            raise ValueError(unknown_name("field", name, names))
        group[name] = _value(name, text, group[name])
    groups[0]["model_arguments"] = arguments
    return _put_together(*groups)


def _parts(recipe: Recipe) -> list[dict[str, Any]]:
    """The fields of a recipe, of its options and of their augmentation, to be changed."""
    return [vars(part).copy() for part in (recipe, recipe.options, recipe.options.augmentation)]


def _put_together(recipe: dict, options: dict, augmentation: dict) -> Recipe:
    """The recipe of what `_parts` gave."""
    options |= {"augmentation": type(options["augmentation"])(**augmentation)}
    return Recipe(**recipe | {"options": type(recipe["options"])(**options)})


def _value(name, text, old):
    """`text` as a value of the kind of `old`."""
    kind = float if old is None else type(old)  # only a momentum has no value of its own
    if text.lower() == "none" and getattr(Recipe, name, "") is None:
        return None
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind is tuple:
            return tuple(type(old[0])(part) for part in text.split(","))
        return kind(text)
    except (KeyError, ValueError):
        words = {bool: "true or false", tuple: "numbers separated by commas"}
        expected = words.get(kind, f"of type {kind.__name__}")
        raise ValueError(f"`{name}` must be {expected}, got {text!r}.") from None


def _argument(text: str) -> bool | int | float | str:
    try:
        return json.loads(text)
    except ValueError:
        return text


def find_recipe(name: str) -> Recipe:
    """A published recipe, the demonstration's, or one that a registered model brings along.

    Raises:
        ValueError: There is no such recipe; the message names the nearest and all others.

    Example:
        >>> find_recipe("digit_scenes").epochs
        3
    """
    if name in RECIPES:
        return RECIPES[name]
    found = _brought_along()
    if name not in found:
        raise ValueError(unknown_name("recipe", name, [*RECIPES, *found]))
    return _of_entry(name, *found[name])


def list_recipes(model: str | None = None) -> list[Recipe]:
    """All recipes.

    Args:
        model: Key of a model: only its recipes.

    Raises:
        ValueError: A recipe that a registered model brings along is wrong.

    Example:
        >>> [recipe.name for recipe in list_recipes("parc_net_xs")]
        ['parc_net_xs_imagenet', 'digit_scenes']
    """
    own = [recipe for recipe in RECIPES.values() if model in (None, recipe.model)]
    brought = _brought_along().items()
    return own + [_of_entry(n, key, f) for n, (key, f) in brought if model in (None, key)]


def _brought_along() -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Name of each recipe that a registered model brings along, to its model and its fields."""
    # Imported here: the recipes of this file are known without Keras.
    entries = importlib.import_module("keras_parc.models.registry").list_models()
    return {name: (e.key, fields) for e in entries for name, fields in e.recipes.items()}


def _of_entry(name: str, model: str, fields: Mapping[str, Any]) -> Recipe:
    """A recipe from the fields that differ from the one it is `like`, whatever part they are of."""
    fields, where = dict(fields), f"The recipe {name!r} of {model!r}"
    like = fields.pop("like", None)
    if like not in (None, *RECIPES):
        raise ValueError(f"{where}: {unknown_name('recipe', like, RECIPES)}")
    base = RECIPES[like] if like else Recipe(name, model)
    options = fields.pop("options", base.options)
    if "augmentation" in fields:
        options = dataclasses.replace(options, augmentation=fields.pop("augmentation"))
    groups = _parts(dataclasses.replace(base, name=name, model=model, options=options))
    for key, value in fields.items():
        group = next((g for g in groups if key in g), None)
        if group is None:
            known = [each for g in groups for each in g]
            raise ValueError(f"{where}: {unknown_name('field', key, known)}")
        group[key] = value
    return _put_together(*groups)
