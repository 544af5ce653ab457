"""The input of a model of images, which records what images the model takes."""

import keras

from keras_parc.support.images import CENTRE

CHANNELS = ("rgb", "bgr")


@keras.saving.register_keras_serializable(package="keras_parc")
class ImageInput(keras.layers.InputLayer):
    """The input of a model, with the facts about its images that no graph shows.

    They are saved with the model and go into its `.tflite` file, so that every command prepares
    images as the model was trained. The model computes the same as over a `keras.Input`.

    Args:
        shape: `(height, width, 3)`, sides None where any will do.
        mean: What is subtracted from pixels of 0..255 before they go into the model: one value, or
            one for each channel in the order of `channels`.
        std: What the difference is divided by, above 0, as `mean`. 0 and 1: the model takes pixels.
        channels: "rgb" or "bgr": the order in which the model takes the colours.
        crop: How much of an image is seen in evaluation: the model's side as a share of the short
            side that the image is resized to, above 0 to 1. Default: the authors' 256/288.
        **kwargs: Of `keras.layers.InputLayer`.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> image = ImageInput((224, 224, 3), mean=127.5, std=127.5, name="image").output
        >>> model = keras.Model(image, keras.layers.Conv2D(8, 3)(image))
        >>> model.layers[0].get_config()["std"]
        (127.5, 127.5, 127.5)
    """

    def __init__(self, shape=None, mean=0.0, std=1.0, channels="rgb", crop=CENTRE, **kwargs):
        super().__init__(shape=shape, **kwargs)
        if channels not in CHANNELS:
            raise ValueError(f"`channels` must be one of {CHANNELS}, got {channels!r}.")
        if not 0 < crop <= 1:
            raise ValueError(f"`crop` must be above 0, 1 at most, got {crop!r}.")
        self.mean, self.std = _three("mean", mean), _three("std", std)
        if min(self.std) <= 0:
            raise ValueError(f"`std` must be above 0, got {std!r}.")
        if len(self.batch_shape) != 4 or self.batch_shape[-1] != 3:
            raise ValueError(f"`shape` must be (height, width, 3), got {self.batch_shape[1:]}.")
        self.channels, self.crop = channels, float(crop)

    def get_config(self):
        facts = {name: getattr(self, name) for name in ("mean", "std", "channels", "crop")}
        return {**super().get_config(), **facts}


def _three(name: str, values) -> tuple[float, float, float]:
    values = tuple(values) if isinstance(values, (list, tuple)) else (values,) * 3
    if len(values) != 3 or not all(isinstance(each, (int, float)) for each in values):
        raise ValueError(f"`{name}` must be a number or three, got {values!r}.")
    return tuple(map(float, values))
