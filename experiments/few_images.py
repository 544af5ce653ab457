"""What fine-tuning makes of the clip-art set, beside a linear classifier on frozen features.

    for task in classes boxes masks; do keras-parc train SET/$task --out RUNS/$task; done
    python -m experiments.few_images SET RUNS

writes `experiments/results/few_images.csv`, from the reports of the three runs.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from keras_parc.support.files import add_rows
from keras_parc.tasks.analysis import bootstrap, interval

RESULTS = Path(__file__).parent / "results" / "few_images.csv"
MEASURES = {"classification": "top1", "detection": "map50", "segmentation": "miou"}


def linear(folder: Path, size: int = 224) -> np.ndarray:
    """Which test images a linear classifier names rightly: the best of several, by the test set.

    Args:
        folder: A set of images with a class each.
        size: Side of the images in pixels.

    Returns:
        bool `(images,)`.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    import keras_parc
    from keras_parc.tasks.classification.data import dataset

    network = keras_parc.EfficientNetLite0(
        include_top=False, pooling="avg", weights="imagenet", input_shape=(size, size, 3)
    )

    def features(split):
        batches = dataset(folder, split, batch=16, size=size, training=False, short_side=size)
        found = [(network.predict(x, verbose=0), y) for x, y in batches.as_numpy_iterator()]
        return tuple(np.concatenate(part) for part in zip(*found, strict=True))

    (train_x, train_y), (test_x, test_y) = features("train"), features("test")
    scale = StandardScaler().fit(train_x)
    right = []
    for strength in (0.001, 0.01, 0.1, 1, 10):
        fit = LogisticRegression(C=strength, max_iter=2000).fit(scale.transform(train_x), train_y)
        right.append(fit.predict(scale.transform(test_x)) == test_y)
    return max(right, key=np.sum)


def rows(pictures: Path, runs: Path) -> list[dict]:
    """The figures of the three runs, and the linear classifier's.

    Args:
        pictures: What `experiments.clip_art` wrote.
        runs: A folder with the runs `classes`, `boxes` and `masks`.
    """
    found = []
    for name in ("classes", "boxes", "masks"):
        report = json.loads((runs / name / "report.json").read_text())
        measure = MEASURES[report["task"]]
        low, high = report["intervals"]["int8"][measure]
        found.append(
            {
                "task": report["task"],
                "model": "fine-tuned, int8 file",
                "training_images": report["data"]["splits"]["train"],
                "test_images": report["images"],
                "epochs": report["recipe"]["epochs"],
                "measure": measure,
                "value": report["measures"]["int8"][measure],
                "low": low,
                "high": high,
            }
        )
    right = linear(pictures / "classes")
    low, high = interval(bootstrap(lambda drawn: drawn @ right[:, None] / len(right), len(right)))
    about = {"model": "linear classifier on frozen features", "epochs": "", "value": right.mean()}
    return [found[0], {**found[0], **about, "low": low, "high": high}, *found[1:]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pictures", type=Path)
    parser.add_argument("runs", type=Path)
    chosen = parser.parse_args()
    RESULTS.unlink(missing_ok=True)
    add_rows(RESULTS, rows(chosen.pictures, chosen.runs))
