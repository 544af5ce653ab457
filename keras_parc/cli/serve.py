"""`keras-parc serve`."""

from pathlib import Path
from typing import Annotated

import typer


def serve(
    model: Annotated[
        Path, typer.Argument(help="The folder of a run, a .tflite file, or a folder of them.")
    ],
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of the page's address; 0: a free one.")
    ] = 8000,
    lan: Annotated[
        bool,
        typer.Option(
            "--lan", help="Also for other machines of the network, and print a QR code for phones."
        ),
    ] = False,
) -> None:
    """Show a model at work in the browser, on the camera, pictures and videos; Ctrl-C stops it.

    The model runs in the browser: no image leaves the device.
    """
    from keras_parc.device.serving import serve_page

    serve_page(model, port=port, lan=lan)
