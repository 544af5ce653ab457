"""Fine-tuning on a few real pictures beats a linear classifier on the features it begins with."""

from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image
from rich.console import Console

from experiments import clip_art, few_images
from keras_parc.report.whole_run import train

PIECES = Path(__file__).parents[1] / "golden/clip_art"  # of Debian's openclipart, public domain
SIZE = 96


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Four classes; the test images have the same objects in front of another photograph."""
    pieces = {
        folder.name: [Image.open(path).convert("RGBA") for path in sorted(folder.iterdir())]
        for folder in sorted(PIECES.iterdir())
    }
    photos = Path(sklearn.datasets.__file__).parent / "images"
    china, flower = (Image.open(photos / f"{name}.jpg") for name in ("china", "flower"))
    out = tmp_path_factory.mktemp("pictures")
    scenes, counts = {"train": [china], "test": [flower]}, {"train": 96, "test": 80}
    clip_art.make(pieces, scenes, out, counts, np.random.default_rng(0))
    return out / "classes"


@pytest.mark.slow
def test_it_learns_from_few_pictures(pictures, tmp_path):
    run = train(pictures, tmp_path / "run", size=SIZE, epochs=15, console=Console(quiet=True))
    assert run.report["split"] == "test"
    assert run.report["images"] == 80
    int8 = run.report["measures"]["int8"]["top1"]
    assert int8 > few_images.linear(pictures, SIZE).mean() + 0.05
    assert int8 > 0.6  # a quarter of guesses is right
