"""Where the weights that a run starts from come from, and under which licence."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from keras_parc.models.registry import find_model
from keras_parc.support.files import replacing
from keras_parc.tasks.starting import saved_model
from keras_parc.training.recipe import Recipe

FILE = "weights.json"  # of a run's folder


@dataclass(frozen=True)
class Origin:
    """Where weights come from.

    Args:
        weights: As the recipe names them; "" for none.
        source: Who trained them, and where they are.
        licence: As their source states it; "" where nothing is known.

    Example:
        >>> Origin("imagenet", "Google, https://example.org", "Apache-2.0").said
        'Starting from imagenet: Google, https://example.org; licence: Apache-2.0.'
    """

    weights: str
    source: str = ""
    licence: str = ""

    @property
    def said(self) -> str:
        """A line for the user."""
        if not self.weights:
            return "Starting from random weights."
        licence = self.licence or "unknown"
        return f"Starting from {self.weights}: {self.source}; licence: {licence}."


def origin_of(recipe: Recipe) -> Origin:
    """Where the weights of a recipe come from.

    Args:
        recipe: The run.
    """
    if not recipe.weights:
        return Origin("")
    entry = find_model(recipe.model)
    for preset in entry.all_presets:
        if preset.weights == recipe.weights:
            trained = f"trained by {preset.trained_by} on {preset.data}, {preset.urls[0]}"
            return Origin(recipe.weights, trained, preset.licence)
    if recipe.weights in entry.own_weights:
        return Origin(recipe.weights, entry.own_weights[recipe.weights], "not stated")
    saved = saved_model(recipe.weights)
    if saved is None:
        return Origin(recipe.weights, f"as {entry.name} takes them")
    before = read_origin(saved.parent)
    if before is None or not before.weights:
        return Origin(recipe.weights, "a model of your own")
    return Origin(recipe.weights, f"a model of your own, from {before.source}", before.licence)


def read_origin(folder: Path) -> Origin | None:
    """What the folder of a run says of it; None if it says nothing."""
    try:
        return Origin(**json.loads((folder / FILE).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def origin_in(folder: Path, recipe: Recipe) -> Origin:
    """Where the weights of a run come from: as its folder says, where it began already.

    What it started from may be gone or another by the time it goes on.

    Args:
        folder: Of the run.
        recipe: Of the run.
    """
    return read_origin(folder) or origin_of(recipe)


def write_origin(folder: Path, origin: Origin) -> None:
    """Keep it in the folder of a run."""
    with replacing(folder / FILE) as temporary:
        temporary.write_text(json.dumps(asdict(origin), indent=1) + "\n", "utf-8")
