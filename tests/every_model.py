"""The models whose files must run everywhere: one that joins `MODELS` joins those tests."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from rewritten import randomize

import keras_parc

LABELS = [f"class {i}" for i in range(10)]
# All that a rewritten ParC-Net may contain; every one is in TensorFlow Lite's built-in set.
OPERATIONS = frozenset(
    {
        *("ADD", "BATCH_MATMUL", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEQUANTIZE"),
        *("LOGISTIC", "MEAN", "MUL", "PAD", "QUANTIZE", "RESHAPE", "SOFTMAX", "STRIDED_SLICE"),
        *("HARD_SWISH", "TRANSPOSE"),
    }
)


@dataclass(frozen=True)
class Case:
    """A classifier, and what its files are expected to be."""

    name: str
    sizes: tuple[tuple[int, int], ...]  # whose partitions are counted
    emulated: tuple[int, int] | None  # the size on all runtimes; None: tested on LiteRT only
    measured: tuple[int, int] | None = (256, 256)  # in the table that `make runtimes` writes
    targets: tuple[str, ...] = ("litert", "portable")  # one where all give the same file
    operations: frozenset[str] = OPERATIONS
    # Whether random features tell the pictures apart: statistics fitted to the ConvNets' and a head
    # taught on them amplify rounding, so theirs stay random and say nothing about int8.
    telling: bool = True
    without_reference: tuple[str, ...] = ()  # runtimes whose reference kernels lack an operation

    @property
    def build(self) -> Callable[..., keras.Model]:
        """The constructor, as registered."""
        return keras_parc.find_model(self.name).build


# A height of 256 has the 32 taps whose form depends on the target; a width of 32 saves time.
MODELS = (
    Case("ParCNetXS", ((64, 64), (96, 96)), (256, 32)),
    Case("ParCNetS", ((64, 64), (256, 256)), (256, 32)),
    Case("ParCNetH", ((64, 64),), None, measured=(256, 32)),
    Case(
        "MobileViTS",
        ((96, 96),),
        (96, 96),
        targets=("litert",),
        operations=OPERATIONS | {"RESIZE_BILINEAR", "RSQRT", "SUB"},
        without_reference=("x86", "armv7x", "armv7"),  # TRANSPOSE of six dimensions
    ),
    Case(
        "ParCResNet50",
        ((64, 64),),
        (64, 64),
        None,
        operations=OPERATIONS | {"MAX_POOL_2D"},
        telling=False,
    ),
    Case(
        "ParCMobileNetV2",
        ((64, 64), (224, 224)),
        (64, 64),
        None,
        telling=False,
    ),
    Case(
        "ParCConvNeXtXT",
        ((64, 64), (224, 224)),
        (64, 64),
        None,
        operations=OPERATIONS | {"FULLY_CONNECTED", "GELU", "RSQRT", "SUB"},
        telling=False,
    ),
    Case(
        "EfficientNetLite0",
        ((64, 64), (224, 224)),
        None,
        None,
        targets=("litert",),
        operations=OPERATIONS | {"FULLY_CONNECTED"},
        telling=False,
    ),
    Case("EfficientNetLite1", ((64, 64),), None, None, targets=("litert",), telling=False),
    Case("EfficientNetLite2", ((64, 64),), None, None, targets=("litert",), telling=False),
)


def pictures(height: int, width: int) -> np.ndarray:
    """Eight images of coloured squares, 0..255: noise would drown in quantization noise."""
    squares = np.random.default_rng(1).integers(0, 256, (8, -(-height // 16), -(-width // 16), 3))
    return squares.repeat(16, 1).repeat(16, 2)[:, :height, :width].astype("float32")


@functools.lru_cache(maxsize=1)
def taught(case: Case, size: tuple[int, int]) -> keras.Model:
    """The model with random weights, statistics of the pictures, and a class for each of them.

    Its outputs are logits, whose differences show more than those of probabilities.
    """
    keras.utils.set_random_seed(0)
    model = randomize(
        case.build(
            input_shape=(*size, 3),
            classes=len(LABELS),
            include_preprocessing=True,
            classifier_activation=None,
        )
    )
    if not case.telling:
        return model
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0
    images = pictures(*size)
    model(images, training=True)
    head = model.layers[-1]
    features = np.asarray(keras.Model(model.input, head.input)(images, training=False))
    mean = features.mean(0)
    products = (features - mean) @ (features - mean).T
    wanted = 4 * np.eye(len(images), len(LABELS))
    ridge = 0.01 * np.trace(products) / len(images) * np.eye(len(images))
    kernel = (features - mean).T @ np.linalg.solve(products + ridge, wanted - wanted.mean(0))
    head.set_weights([kernel, -mean @ kernel])
    return model
