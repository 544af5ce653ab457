"""Image files to pixels in `tf.data`: decoding, random crop and flip, the evaluation rule."""

import functools
import io
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_parc.support.images import MAX_PIXELS, ORIENTATION, centre_window, read_rgb
from keras_parc.support.images import resize as array_resize

_ATTEMPTS = 10
_DRAWS = 2 * _ATTEMPTS + 3  # area and shape of every attempt, place (two), flip

_MAX_WHOLE = 2**22  # pixels to be resized of which only the centre is wanted

RGB, GREYSCALE, CMYK, SIXTEEN_BIT = range(4)
KINDS = ("RGB", "greyscale", "CMYK", "16-bit")


def kind_of(data: tf.Tensor) -> tf.Tensor:
    """What an image file holds, told by its first bytes.

    Args:
        data: Scalar string, the content of an image file.

    Returns:
        Scalar int32, an index of `KINDS`. What is neither JPEG nor PNG counts as RGB.

    Raises:
        tf.errors.InvalidArgumentError: The head of the file is damaged.

    Example:
        >>> int(kind_of(tf.io.encode_png(tf.zeros((4, 4, 1), tf.uint8))))
        1
    """

    def jpeg():
        components = tf.io.extract_jpeg_shape(data)[2]
        return tf.where(components == 1, GREYSCALE, tf.where(components == 4, CMYK, RGB))

    def png():
        # Bytes 24 and 25 of a PNG file: bits of a channel; colour type, 0 and 4 without colour.
        depth, colour = tf.unstack(tf.io.decode_raw(tf.strings.substr(data, 24, 2), tf.uint8), 2)
        grey = tf.where((colour == 0) | (colour == 4), GREYSCALE, RGB)
        return tf.where(depth == 16, SIXTEEN_BIT, grey)

    is_png = tf.strings.substr(data, 0, 4) == b"\x89PNG"
    return tf.cond(
        tf.io.is_jpeg(data), jpeg, lambda: tf.cond(is_png, png, lambda: tf.constant(RGB))
    )


def decode(data: tf.Tensor, window: Callable[[tf.Tensor], tf.Tensor] | None = None) -> tf.Tensor:
    """Decode an image file to RGB as `keras_parc.support.images.read_rgb` does.

    Upright JPEG and PNG files of 8 bits, all but a few, are decoded by TensorFlow, of a JPEG only
    the wanted window: to the same pixels, or one grey level away.

    Args:
        data: Scalar string, the content of an image file of any format that Pillow reads.
            Greyscale, CMYK and 16 bits become 8-bit RGB; an alpha channel is dropped, the EXIF
            orientation is applied.
        window: A function of the image's size, int32 (height, width), that gives top, left, height
            and width of the part wanted; None: the whole image.

    Returns:
        `(height, width, 3)` uint8.

    Raises:
        tf.errors.InvalidArgumentError: The file is damaged, also outside the window.

    Example:
        >>> decode(tf.io.encode_png(tf.zeros((4, 6, 1), tf.uint8))).shape
        TensorShape([4, 6, 3])
    """

    return decode_part(data, window)[0]


def decode_part(
    data: tf.Tensor, window: Callable[[tf.Tensor], tf.Tensor] | None = None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """As `decode`, and where the part is.

    Args:
        data: As for `decode`.
        window: As for `decode`.

    Returns:
        `(height, width, 3)` uint8; the size of the whole image, int32 (height, width); and the
        window, int32 (top, left, height, width).

    Raises:
        tf.errors.InvalidArgumentError: The file is damaged, also outside the window.

    Example:
        >>> part, size, window = decode_part(tf.io.encode_png(tf.zeros((4, 6, 1), tf.uint8)))
        >>> size.numpy().tolist(), window.numpy().tolist()
        ([4, 6], [0, 0, 4, 6])
    """

    return _decode_whole(data) if window is None else _decode_part(data, window)


def _decode_part(data, window):
    def place(size):
        return tf.concat([[0, 0], size], 0) if window is None else tf.stack(window(size))

    def jpeg():
        whole = functools.partial(tf.image.decode_jpeg, data, 3, dct_method="INTEGER_ACCURATE")
        size = tf.io.extract_jpeg_shape(data)[:2]
        part = place(size)
        if window is None:
            return whole(), size, part
        # A file without its end marker may be cut short where the window does not reach. Decoding
        # all of it tells, in those few files.
        image = tf.cond(
            tf.strings.substr(data, -2, 2) == b"\xff\xd9",
            lambda: tf.image.decode_and_crop_jpeg(data, part, 3, dct_method="INTEGER_ACCURATE"),
            lambda: _cut(whole(), part),
        )
        return image, size, part

    def of_whole(image):
        image = tf.ensure_shape(image, (None, None, 3))
        size = tf.shape(image)[:2]
        part = place(size)
        return image if window is None else _cut(image, part), size, part

    return tf.switch_case(
        _reader(data),
        [
            lambda: of_whole(_read_by_pillow(data)),
            jpeg,
            lambda: of_whole(tf.io.decode_png(data, 3)),
        ],
    )


# As functions of TensorFlow they are traced once in a process, not for every epoch.
@tf.function(input_signature=[tf.TensorSpec((), tf.string)])
def _decode_whole(data):
    return _decode_part(data, None)


_HEAD = 2048  # bytes
_PILLOW, _JPEG, _PNG = np.arange(3, dtype="int32")


# As functions of TensorFlow: outside of one, `numpy_function` cuts zeros off the end of a string.
@tf.function(input_signature=[tf.TensorSpec((), tf.string)])
def _reader(data):
    def asked():
        return tf.ensure_shape(tf.numpy_function(_reader_of, [data], tf.int32), ())

    return tf.cond(is_plain_jpeg(data), lambda: _JPEG, asked)


def is_plain_jpeg(data: tf.Tensor) -> tf.Tensor:
    """Whether the head of a file tells at once that it is an upright JPEG of 1 or 3 colours.

    Most are, and asking Python takes a tenth of the time of decoding. Nothing is told of a file
    whose head has data of an application, which may turn it or say what its colours are, nor of one
    whose frame (its length, 8 bits, sides, components) is not in its head.

    Args:
        data: Scalar string, the content of a file.

    Returns:
        Scalar bool.
    """
    head = tf.strings.substr(data, 0, _HEAD)
    sides = r"([\x00-\x1f]\C){2}"  # below 8192 pixels: not too many to decode
    frame = rf"\C*(\x00\x11\x08{sides}\x03\x01|\x00\x0b\x08{sides}\x01\x01)\C*"
    marked = r"\C*(Exif|http:|ICC_|Adobe|Photoshop)\C*"
    return (
        (tf.strings.substr(data, 0, 3) == b"\xff\xd8\xff")
        & tf.strings.regex_full_match(head, frame)
        & ~tf.strings.regex_full_match(head, marked)
    )


@tf.function(input_signature=[tf.TensorSpec((), tf.string)])
def _read_by_pillow(data):
    return tf.numpy_function(lambda data: np.asarray(read_rgb(data)), [data], tf.uint8)


def _reader_of(data: bytes) -> np.int32:
    """Who reads a file: Pillow all that TensorFlow cannot read, or reads otherwise."""
    if data.startswith(b"\xff\xd8\xff"):
        try:
            with Image.open(io.BytesIO(data)) as image:  # its head only
                turned = image.getexif().get(ORIENTATION, 1) != 1
                return _PILLOW if turned or image.mode not in ("RGB", "L") else _JPEG
        except Exception:  # Whatever is wrong with it, decoding tells.
            return _PILLOW
    # Of a PNG file Pillow decodes the pixels before it knows the orientation.
    turned = b"eXIf" in data or b"rientation" in data
    sixteen_bits = data[24:25] == b"\x10"
    width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
    plain = not turned and not sixteen_bits and width * height <= MAX_PIXELS
    return _PNG if data.startswith(b"\x89PNG") and plain else _PILLOW


def _cut(image, window):
    top, left, height, width = tf.unstack(window)
    return tf.image.crop_to_bounding_box(image, top, left, height, width)


def crop_window(
    image_size: tf.Tensor,
    draws: tf.Tensor,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (0.75, 1.333),
) -> tf.Tensor:
    """Place the random crop of training (RandomResizedCrop).

    Ten attempts draw a part of the image's area (uniform) and a stretch (uniform in its logarithm);
    the first that fits is put at a uniform place. If none fits, the largest centred window whose
    stretch is in range is taken.

    Args:
        image_size: int32 `(2,)`: height and width in pixels.
        draws: float32 `(22,)`, uniform in [0, 1): areas, stretches, and place.
        scale: Least and largest part of the area, in (0, 1].
        ratio: Least and largest stretch, width over height.

    Returns:
        int32 `(4,)`: top, left, height, width.

    Example:
        >>> crop_window(tf.constant([100, 200]), tf.fill([22], 0.5)).numpy()
        array([  0,  33, 100, 133], dtype=int32)
    """
    height, width = image_size[0], image_size[1]
    full_height, full_width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    part = scale[0] + (scale[1] - scale[0]) * draws[:_ATTEMPTS]
    log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
    stretch = tf.exp(log_low + (log_high - log_low) * draws[_ATTEMPTS : 2 * _ATTEMPTS])
    area = full_height * full_width * part
    heights = tf.cast(tf.round(tf.sqrt(area / stretch)), tf.int32)
    widths = tf.cast(tf.round(tf.sqrt(area * stretch)), tf.int32)
    fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)

    chosen = tf.argmax(fits)  # the first
    limited_width = tf.cast(tf.round(full_height * ratio[1]), tf.int32)
    limited_height = tf.cast(tf.round(full_width / ratio[0]), tf.int32)
    some = tf.reduce_any(fits)
    new_height = tf.where(some, heights[chosen], tf.minimum(height, limited_height))
    new_width = tf.where(some, widths[chosen], tf.minimum(width, limited_width))
    room = tf.stack([height - new_height, width - new_width])
    drawn = tf.cast(tf.floor(draws[2 * _ATTEMPTS :] * tf.cast(room + 1, tf.float32)), tf.int32)
    # A float32 product just below room + 1 may round up to it.
    place = tf.where(some, tf.minimum(drawn, room), room // 2)
    return tf.concat([place, [new_height, new_width]], 0)


def training_image(
    data: tf.Tensor,
    size: tf.Tensor | tuple[int, int],
    seed: tf.Tensor,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (0.75, 1.333),
    flip: float = 0.5,
) -> tf.Tensor:
    """Decode, crop at random, resize and flip: a function of the arguments alone.

    Args:
        data: Scalar string, the content of an image file.
        size: Height and width of the result in pixels.
        seed: int64 `(2,)`; equal seeds give equal crops, on every machine.
        scale: Least and largest part of the image's area, in (0, 1].
        ratio: Least and largest stretch, width over height.
        flip: Probability of a left-right flip.

    Returns:
        `(height, width, 3)` uint8.

    Raises:
        tf.errors.InvalidArgumentError: The file is damaged.

    Example:
        >>> data = tf.io.encode_jpeg(tf.zeros((60, 80, 3), tf.uint8))
        >>> training_image(data, (32, 48), (0, 7)).shape
        TensorShape([32, 48, 3])
    """
    return _training_image(data, size, tf.cast(seed, tf.int64), scale, ratio, flip)


@tf.function(reduce_retracing=True)
def _training_image(data, size, seed, scale, ratio, flip):
    draws = tf.random.stateless_uniform([_DRAWS], seed)
    image = decode(data, lambda image_size: crop_window(image_size, draws[:-1], scale, ratio))
    image = resize(image, size)
    return tf.cond(draws[-1] < flip, lambda: tf.reverse(image, [1]), lambda: image)


def evaluation_image(
    data: tf.Tensor, size: tuple[int, int], short_side: int | None = None
) -> tf.Tensor:
    """Decode, resize and cut out the centre, as the authors evaluate.

    Args:
        data: Scalar string, the content of an image file.
        size: Height and width of the result in pixels.
        short_side: As for `keras_parc.support.images.centre_window`.

    Returns:
        `(height, width, 3)` uint8.

    Raises:
        tf.errors.InvalidArgumentError: The file is damaged.
    """
    image = decode(data)

    def place(shape):
        whole, window = centre_window(tuple(map(int, shape)), size, short_side)
        return np.array([*whole, *window], "int32")

    numbers = tf.ensure_shape(tf.numpy_function(place, [tf.shape(image)[:2]], tf.int32), (6,))
    whole, window = numbers[:2], numbers[2:]
    # Of a narrow strip the whole would take gigabytes.
    centre = tf.cond(
        tf.reduce_prod(tf.cast(whole, tf.int64)) <= _MAX_WHOLE,
        lambda: _cut(resize(image, whole), window),
        lambda: tf.numpy_function(array_resize, [image, whole, window], tf.uint8),
    )
    return tf.ensure_shape(centre, (*size, 3))


def resize(image: tf.Tensor, size: tf.Tensor | tuple[int, int]) -> tf.Tensor:
    """Resize an image without regard to its aspect, as the authors do for boxes and masks.

    Bilinear with half-pixel centres, without antialiasing and rounded to whole grey levels, as
    OpenCV's `INTER_LINEAR`: the same numbers as `keras_parc.support.images.resize`.

    Args:
        image: `(h, w, 3)` uint8 or float, 0..255.
        size: Height and width of the result in pixels.

    Returns:
        `(height, width, 3)` uint8.

    Example:
        >>> resize(tf.zeros((30, 40, 3)), (8, 8)).shape
        TensorShape([8, 8, 3])
    """
    return tf.cast(tf.round(tf.image.resize(image, tf.cast(size, tf.int32))), tf.uint8)
