"""Training rates of ParC-Net-S beside MobileViT-S, ours and that of the package kimm.

`python -m experiments.training_rates --csv FILE`; KERAS_BACKEND says on what.
"""

import argparse
import importlib.util
from pathlib import Path

import keras

from keras_parc.models.registry import register_model
from keras_parc.support.files import add_rows
from keras_parc.training.rates import DEFAULT_MODELS, training_rates

KIMM = "kimm_mobilevit_s"


def register_kimm() -> None:
    """Let MobileViT-S of kimm be measured as a model of our own.

    Raises:
        ImportError: kimm is not installed.
    """
    if not importlib.util.find_spec("kimm"):
        raise ImportError("MobileViT-S of kimm needs that package: pip install --no-deps kimm")
    import kimm

    def KimmMobileViTS(**arguments) -> keras.Model:
        return kimm.models.MobileViTS(weights=None, **arguments)

    register_model(KimmMobileViTS, key=KIMM, listed=False)


def main() -> None:
    """Measure and add the rows to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8, help="images of a step")
    parser.add_argument("--jit", action="store_true", help="have XLA compile on TensorFlow")
    parser.add_argument("--csv", type=Path, required=True, help="add the figures to this file")
    args = parser.parse_args()
    register_kimm()
    rows = training_rates([*DEFAULT_MODELS, KIMM], batch=args.batch, steps=1, jit=args.jit)
    add_rows(args.csv, rows)
    for row in rows:
        print(row["model"], row["images_per_second"], row["speed_ratio"])


if __name__ == "__main__":
    main()
