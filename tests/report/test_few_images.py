"""Fine-tuning on a few real pictures beats a linear classifier on the features it begins with."""

from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import keras_parc
from experiments import clip_art
from keras_parc.report.whole_run import train
from keras_parc.tasks.classification.data import dataset

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


def linear_classifier(folder):
    """The accuracy of the best of several linear classifiers on frozen features."""
    network = keras_parc.EfficientNetLite0(
        include_top=False, pooling="avg", weights="imagenet", input_shape=(SIZE, SIZE, 3)
    )

    def features(split):
        batches = dataset(folder, split, batch=16, size=SIZE, training=False, short_side=SIZE)
        found = [(network.predict(x, verbose=0), y) for x, y in batches.as_numpy_iterator()]
        return tuple(np.concatenate(part) for part in zip(*found, strict=True))

    (train_x, train_y), (test_x, test_y) = features("train"), features("test")
    scale = StandardScaler().fit(train_x)
    fits = (
        LogisticRegression(C=c, max_iter=2000).fit(scale.transform(train_x), train_y)
        for c in (0.001, 0.01, 0.1, 1)
    )
    return max((fit.predict(scale.transform(test_x)) == test_y).mean() for fit in fits)


@pytest.mark.slow
def test_it_learns_from_few_pictures(pictures, tmp_path):
    run = train(pictures, tmp_path / "run", size=SIZE, epochs=15, console=Console(quiet=True))
    assert run.report["split"] == "test"
    assert run.report["images"] == 80
    int8 = run.report["measures"]["int8"]["top1"]
    assert int8 > linear_classifier(pictures) + 0.05
    assert int8 > 0.6  # a quarter of guesses is right
