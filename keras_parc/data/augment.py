"""Image augmentation: the one place that knows KerasCV."""

from collections.abc import Callable


def random_crop(
    image_size: tuple[int, int],
    area: tuple[float, float] = (0.9, 1.0),
    aspect_ratio: tuple[float, float] = (0.9, 1.1),
    seed: int | None = None,
) -> Callable:
    """KerasCV's random crop and resize, as a function for `tf.data.Dataset.map` on batches.

    Args:
        image_size: `(height, width)` of the result in pixels.
        area: Least and largest part of the image's area that is kept, in (0, 1].
        aspect_ratio: Least and largest stretch, width over height.
        seed: Seed of the draws; the order under a parallel map is not promised.

    Returns:
        A function of images `(n, height, width, 3)` and anything else: the images cropped, as
        float32 in the range they came in, the rest unchanged.

    Example:
        >>> import numpy as np
        >>> augment = random_crop((32, 32), seed=0)
        >>> augment(np.zeros((2, 48, 48, 3), "float32"), 7)[0].shape
        TensorShape([2, 32, 32, 3])
    """
    from keras_cv.layers import RandomCropAndResize

    layer = RandomCropAndResize(
        target_size=image_size,
        crop_area_factor=area,
        aspect_ratio_factor=aspect_ratio,
        seed=seed,
    )
    return lambda images, *rest: (layer(images, training=True), *rest)
