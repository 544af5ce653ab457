"""`keras-parc presets`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from keras_parc.support.files import replacing
from keras_parc.weights.presets import PRESETS, model_card


def presets(
    cards: Annotated[
        Path | None, typer.Option(help="Also write a model card for each into this folder.")
    ] = None,
) -> None:
    """List the published weights that `weights=` can name."""
    table = Table()
    for head in ("model", "weights", "task", "trained on", "published result"):
        table.add_column(head, overflow="fold")
    for preset in PRESETS:
        row = (preset.model, preset.weights, preset.task, preset.data, preset.metric)
        table.add_row(*row)
        if cards is not None:
            with replacing(cards / f"{preset.name}.md") as temporary:
                temporary.write_text(model_card(preset))
    Console().print(table)
    for licence in dict.fromkeys(preset.licence for preset in PRESETS):
        Console().print(f"Licence of these weights: {licence}.")
