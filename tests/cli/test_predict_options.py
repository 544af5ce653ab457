"""What `keras-parc predict` is told on the command line arrives."""

import json

import numpy as np
from PIL import Image

import squares


def test_the_threshold_is_heard(run_cli, tmp_path):
    """A detector that is sure of nothing: at 0 it shows boxes, at 0.9 none."""
    squares.new_detector().save(tmp_path / "unsure.keras")
    Image.fromarray(np.zeros((32, 32, 3), "uint8")).save(tmp_path / "a.png")
    counts = []
    for threshold in (0, 0.9):
        code, printed, errors = run_cli(
            *("predict", tmp_path / "unsure.keras", tmp_path / "a.png", "--json"),
            *("--threshold", threshold),
        )
        assert code == 0, errors
        counts.append(len(json.loads(printed)[0]["boxes"]))
    assert counts[0] > 0
    assert counts[1] == 0
