"""ImageNet's conventions: what the authors' weights take, and the names of the classes.

`imagenet_classes.tsv` lists WordNet ids and lemmas in the order of the class numbers. They are
facts, taken from the metadata of timm 1.0.31 (Apache-2.0): `imagenet_synsets.txt` and
`imagenet_synset_to_lemma.txt`.
"""

import functools
from collections.abc import Sequence
from importlib import resources

import numpy as np
from keras import ops

from keras_parc.layers.blocks import Tensor


def preprocess_input(x: np.ndarray | Tensor) -> np.ndarray | Tensor:
    """Turn RGB 0..255 to what the authors' weights expect: BGR 0..1, no mean, no deviation.

    Not needed for a model with `include_preprocessing=True`, which does it itself.

    Args:
        x: `(..., 3)`, images or a batch, RGB, 0..255, any number type.

    Returns:
        The same shape, float32; numpy for numpy.

    Raises:
        ValueError: The last axis is not of three channels.

    Example:
        >>> import keras_parc
        >>> keras_parc.preprocess_input(np.array([[[255, 0, 51]]], "uint8"))
        array([[[0.2, 0. , 1. ]]], dtype=float32)
    """
    if not x.shape or x.shape[-1] != 3:
        raise ValueError(f"Expected RGB images (..., 3), got {tuple(x.shape)}.")
    if isinstance(x, np.ndarray):
        return x[..., ::-1].astype("float32") / 255
    return ops.flip(ops.cast(x, "float32") / 255, axis=-1)


@functools.cache
def _classes() -> list[tuple[str, str]]:
    text = resources.files("keras_parc.models").joinpath("imagenet_classes.tsv").read_text("utf-8")
    rows = (line.split("\t") for line in text.splitlines())
    return [(synset, lemmas.split(",")[0]) for synset, lemmas in rows]


def lemmas_of(synsets: Sequence[str]) -> list[str] | None:
    """The names of ImageNet's classes, if `synsets` are their WordNet ids in order; else None."""
    known = _classes()
    return [name for _, name in known] if [each for each, _ in known] == list(synsets) else None


def decode_predictions(preds: np.ndarray | Tensor, top: int = 5) -> list[list[tuple]]:
    """Name the best guesses of an ImageNet classifier, as `keras.applications` does.

    Args:
        preds: `(n, 1000)` scores or logits.
        top: Number of guesses for an image, 1 to 1000.

    Returns:
        For each image, best first, `(WordNet id, name, score)`. Two names stand for two classes
        each, "crane" and "maillot"; the ids differ.

    Raises:
        ValueError: `preds` has another shape, or `top` is out of range.

    Example:
        >>> import keras_parc
        >>> keras_parc.decode_predictions(np.eye(1000)[[1]], top=1)
        [[('n01443537', 'goldfish', 1.0)]]
    """
    preds, names = ops.convert_to_numpy(preds), _classes()
    if preds.ndim != 2 or preds.shape[1] != len(names):
        raise ValueError(
            f"Expected predictions of the {len(names)} ImageNet classes, (n, {len(names)}), got "
            f"{preds.shape}. A model of other classes needs names of its own."
        )
    if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= len(names):
        raise ValueError(f"`top` must be a whole number from 1 to {len(names)}, got {top!r}.")
    return [
        [(*names[i], float(row[i])) for i in np.argsort(-row, kind="stable")[:top]] for row in preds
    ]
