"""Models in the style of the vision tutorials of keras.io, for `experiments.zoo_models`.

Written anew from the architectures that the tutorials describe, with the layers they use: image
augmentation in front, layers of their own, attention, recurrent layers. Smaller than a tutorial's
where its size only takes longer.
"""

import keras
from keras import layers, ops

Shape = tuple[int, ...]


def _augmented(image, zoom: float | None = None):
    x = layers.RandomFlip("horizontal")(image)
    x = layers.RandomRotation(0.1)(x)
    return x if zoom is None else layers.RandomZoom(zoom)(x)


def transfer_learning(shape: Shape = (150, 150, 3)) -> keras.Model:
    """A frozen Xception under a new head, augmentation in front."""
    image = keras.Input(shape)
    x = layers.Rescaling(1 / 127.5, offset=-1)(_augmented(image))
    base = keras.applications.Xception(include_top=False, weights=None, input_shape=shape)
    base.trainable = False
    x = layers.GlobalAveragePooling2D()(base(x, training=False))
    return keras.Model(image, layers.Dense(1)(layers.Dropout(0.2)(x)))


def fine_tuned_efficientnet(shape: Shape = (224, 224, 3)) -> keras.Model:
    """EfficientNetB0 built on an augmented tensor, a batch-normalized head."""
    image = keras.Input(shape)
    x = layers.RandomTranslation(0.1, 0.1)(layers.RandomRotation(0.15)(image))
    x = layers.RandomContrast(0.1)(layers.RandomFlip()(x))
    base = keras.applications.EfficientNetB0(include_top=False, input_tensor=x, weights=None)
    x = layers.GlobalAveragePooling2D()(base.output)
    x = layers.Dropout(0.2)(layers.BatchNormalization()(x))
    return keras.Model(image, layers.Dense(120)(x))


def from_scratch(shape: Shape = (180, 180, 3)) -> keras.Model:
    """A small Xception."""
    image = keras.Input(shape)
    x = layers.Rescaling(1 / 255)(_augmented(image))
    x = layers.Conv2D(128, 3, strides=2, padding="same")(x)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    for width in (256, 512, 728):
        skip = layers.Conv2D(width, 1, strides=2, padding="same")(x)
        for _ in range(2):
            x = layers.SeparableConv2D(width, 3, padding="same")(layers.Activation("relu")(x))
            x = layers.BatchNormalization()(x)
        x = layers.add([layers.MaxPooling2D(3, strides=2, padding="same")(x), skip])
    x = layers.SeparableConv2D(1024, 3, padding="same")(x)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.Dropout(0.25)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(1)(x))


def unet_xception(shape: Shape = (160, 160, 3), classes: int = 3) -> keras.Model:
    """Segmentation: separable convolutions down, transposed ones and upsampling up."""
    image = keras.Input(shape)
    x = layers.Conv2D(32, 3, strides=2, padding="same")(image)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    for width in (64, 128, 256):
        skip = layers.Conv2D(width, 1, strides=2, padding="same")(x)
        for _ in range(2):
            x = layers.SeparableConv2D(width, 3, padding="same")(layers.Activation("relu")(x))
            x = layers.BatchNormalization()(x)
        x = layers.add([layers.MaxPooling2D(3, strides=2, padding="same")(x), skip])
    for width in (256, 128, 64, 32):
        skip = layers.Conv2D(width, 1, padding="same")(layers.UpSampling2D(2)(x))
        for _ in range(2):
            x = layers.Conv2DTranspose(width, 3, padding="same")(layers.Activation("relu")(x))
            x = layers.BatchNormalization()(x)
        x = layers.add([layers.UpSampling2D(2)(x), skip])
    return keras.Model(image, layers.Conv2D(classes, 3, padding="same", activation="softmax")(x))


def unet(shape: Shape = (128, 128, 3), classes: int = 3) -> keras.Model:
    """The U-Net with skips that are concatenated."""

    def twice(x, width):
        for _ in range(2):
            x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        return x

    image, skips = keras.Input(shape), []
    x = image
    for width in (32, 64, 128, 256):
        skips.append(twice(x, width))
        x = layers.Dropout(0.3)(layers.MaxPool2D(2)(skips[-1]))
    x = twice(x, 512)
    for width, skip in zip((256, 128, 64, 32), reversed(skips), strict=True):
        x = layers.Conv2DTranspose(width, 3, 2, padding="same")(x)
        x = twice(layers.Dropout(0.3)(layers.concatenate([x, skip])), width)
    return keras.Model(image, layers.Conv2D(classes, 1, activation="softmax")(x))


def deeplab_v3_plus(shape: Shape = (256, 256, 3), classes: int = 20) -> keras.Model:
    """Dilated branches over a ResNet50, bilinear upsampling."""

    def block(x, width=256, kernel=3, dilation=1):
        x = layers.Conv2D(width, kernel, dilation_rate=dilation, padding="same", use_bias=False)(x)
        return ops.nn.relu(layers.BatchNormalization()(x))

    image = keras.Input(shape)
    base = keras.applications.ResNet50(weights=None, include_top=False, input_tensor=image)
    x = base.get_layer("conv4_block6_2_relu").output
    height, width = x.shape[1:3]
    pooled = block(layers.AveragePooling2D((height, width))(x), kernel=1)
    pooled = layers.UpSampling2D((height, width), interpolation="bilinear")(pooled)
    x = layers.Concatenate()([pooled, block(x, kernel=1), *(block(x, dilation=d) for d in (6, 12))])
    x = layers.UpSampling2D(4, interpolation="bilinear")(block(x, kernel=1))
    low = block(base.get_layer("conv2_block3_2_relu").output, width=48, kernel=1)
    x = block(block(layers.Concatenate()([x, low])))
    x = layers.UpSampling2D(4, interpolation="bilinear")(x)
    return keras.Model(image, layers.Conv2D(classes, 1, padding="same")(x))


def mobilevit(shape: Shape = (256, 256, 3), classes: int = 5) -> keras.Model:
    """MobileViT-XXS with patches made by reshaping."""

    def conv(x, width, kernel=3, strides=2):
        layer = layers.Conv2D(width, kernel, strides, activation="swish", padding="same")
        return layer(x)

    def inverted(x, expanded, width, strides=1):
        y = layers.Conv2D(expanded, 1, padding="same", use_bias=False)(x)
        y = keras.activations.swish(layers.BatchNormalization()(y))
        if strides == 2:
            y = layers.ZeroPadding2D(((0, 1), (0, 1)))(y)
        padding = "same" if strides == 1 else "valid"
        y = layers.DepthwiseConv2D(3, strides, padding=padding, use_bias=False)(y)
        y = keras.activations.swish(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(width, 1, use_bias=False)(y))
        return layers.Add()([y, x]) if strides == 1 and x.shape[-1] == width else y

    def block(x, count, width):
        local = conv(conv(x, width, strides=1), width, kernel=1, strides=1)
        places = local.shape[1] * local.shape[2] // 4
        y = layers.Reshape((4, places, width))(local)
        for _ in range(count):
            z = layers.LayerNormalization(epsilon=1e-6)(y)
            z = layers.MultiHeadAttention(2, width, dropout=0.1)(z, z)
            y = layers.Add()([z, y])
            z = layers.LayerNormalization(epsilon=1e-6)(y)
            z = layers.Dropout(0.1)(layers.Dense(2 * width, activation="swish")(z))
            y = layers.Add()([layers.Dropout(0.1)(layers.Dense(width)(z)), y])
        y = conv(layers.Reshape((*local.shape[1:3], width))(y), x.shape[-1], 1, 1)
        return conv(layers.Concatenate(axis=-1)([x, y]), width, strides=1)

    image = keras.Input(shape)
    x = inverted(conv(layers.Rescaling(1 / 255)(image), 16), 32, 16)
    x = inverted(x, 32, 24, strides=2)
    x = inverted(inverted(x, 48, 24), 48, 24)
    x = block(inverted(x, 48, 48, strides=2), 2, 64)
    x = block(inverted(x, 128, 64, strides=2), 4, 80)
    x = block(inverted(x, 160, 80, strides=2), 3, 96)
    x = layers.GlobalAveragePooling2D()(conv(x, 320, kernel=1, strides=1))
    return keras.Model(image, layers.Dense(classes)(x))


class Patches(layers.Layer):
    """An image as a sequence of flat squares."""

    def __init__(self, size: int, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, images):
        count, _, _, channels = ops.shape(images)
        patches = ops.image.extract_patches(images, size=self.size)
        rows, columns = patches.shape[1:3]
        return ops.reshape(patches, (count, rows * columns, self.size**2 * channels))

    def get_config(self):
        return {**super().get_config(), "size": self.size}


class PatchEncoder(layers.Layer):
    """A projection of patches, plus an embedding of each position."""

    def __init__(self, count: int, width: int, **kwargs):
        super().__init__(**kwargs)
        self.count, self.width = count, width
        self.projection = layers.Dense(width)
        self.position_embedding = layers.Embedding(count, width)

    def call(self, patches):
        positions = ops.expand_dims(ops.arange(0, self.count), axis=0)
        return self.projection(patches) + self.position_embedding(positions)

    def get_config(self):
        return {**super().get_config(), "count": self.count, "width": self.width}


def vit(shape: Shape = (72, 72, 3), patch: int = 6, depth: int = 8) -> keras.Model:
    """The vision transformer of CIFAR-100 pictures that are resized."""
    image = keras.Input(shape)
    x = layers.Normalization(mean=127.0, variance=64.0**2)(image)
    x = layers.RandomZoom(0.2, 0.2)(_augmented(layers.Resizing(*shape[:2])(x)))
    count, width = (shape[0] // patch) * (shape[1] // patch), 64
    x = PatchEncoder(count, width)(Patches(patch)(x))
    for _ in range(depth):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.MultiHeadAttention(4, width, dropout=0.1)(y, y)
        x = layers.Add()([y, x])
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        for units in (2 * width, width):
            y = layers.Dropout(0.1)(layers.Dense(units, activation=keras.activations.gelu)(y))
        x = layers.Add()([y, x])
    x = layers.Dropout(0.5)(layers.Flatten()(layers.LayerNormalization(epsilon=1e-6)(x)))
    for units in (512, 256):
        x = layers.Dropout(0.5)(layers.Dense(units, activation=keras.activations.gelu)(x))
    return keras.Model(image, layers.Dense(100)(x))


class Tokenizer(layers.Layer):
    """Convolutions and pooling, then all places as one sequence."""

    def __init__(self, widths: tuple[int, ...] = (64, 128), **kwargs):
        super().__init__(**kwargs)
        self.widths = tuple(widths)
        self.stack = keras.Sequential()
        for width in self.widths:
            conv = layers.Conv2D(width, 3, padding="valid", use_bias=False, activation="relu")
            self.stack.add(conv)
            self.stack.add(layers.ZeroPadding2D(1))
            self.stack.add(layers.MaxPooling2D(3, 2, "same"))

    def call(self, images):
        maps = self.stack(images)
        count, rows, columns, width = ops.shape(maps)
        return ops.reshape(maps, (count, rows * columns, width))

    def get_config(self):
        return {**super().get_config(), "widths": self.widths}


class PositionTable(layers.Layer):
    """A trained table added to a sequence."""

    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], initializer="glorot_uniform", name="table")

    def call(self, sequence):
        return sequence + ops.broadcast_to(self.table, ops.shape(sequence))


class StochasticDepth(layers.Layer):
    """Leaves out a branch in training."""

    def __init__(self, rate: float, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, x, training=None):
        if not training:
            return x
        keep = 1 - self.rate
        shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
        drawn = keep + keras.random.uniform(shape, 0, 1, seed=self.seed_generator)
        return (x / keep) * ops.floor(drawn)

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


class SequencePooling(layers.Layer):
    """The mean over a sequence, weighted by attention."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.Dense(1)

    def call(self, x):
        weights = ops.transpose(ops.softmax(self.attention(x), axis=1), axes=(0, 2, 1))
        return ops.squeeze(ops.matmul(weights, x), -2)


def cct(shape: Shape = (32, 32, 3), depth: int = 2, width: int = 128) -> keras.Model:
    """The compact convolutional transformer."""
    image = keras.Input(shape)
    x = layers.Rescaling(1 / 255)(image)
    x = layers.RandomFlip("horizontal")(layers.RandomCrop(*shape[:2])(x))
    x = PositionTable()(Tokenizer()(x))
    for index in range(depth):
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        y = layers.MultiHeadAttention(2, width, dropout=0.1)(y, y)
        x = layers.Add()([StochasticDepth(0.1 * index)(y), x])
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        for units in (width, width):
            y = layers.Dropout(0.1)(layers.Dense(units, activation=ops.gelu)(y))
        x = layers.Add()([x, StochasticDepth(0.1 * index)(y)])
    x = SequencePooling()(layers.LayerNormalization(epsilon=1e-5)(x))
    return keras.Model(image, layers.Dense(10)(x))


def captioning_encoder(shape: Shape = (299, 299, 3), width: int = 512) -> keras.Model:
    """EfficientNetB0 as a sequence of places, and one block of a transformer."""
    image = keras.Input(shape)
    base = keras.applications.EfficientNetB0(input_shape=shape, include_top=False, weights=None)
    base.trainable = False
    x = layers.Reshape((-1, base.output_shape[-1]))(base(image))
    x = layers.Dense(width, activation="relu")(layers.LayerNormalization()(x))
    y = layers.MultiHeadAttention(1, width)(query=x, value=x, key=x, attention_mask=None)
    return keras.Model(image, layers.LayerNormalization()(x + y))


def crnn(shape: Shape = (200, 50, 1), characters: int = 21) -> keras.Model:
    """Reading: convolutions, then recurrent layers along the width; without the loss's layer."""
    image = keras.Input(shape, name="image")
    x = image
    for width in (32, 64):
        x = layers.Conv2D(width, 3, activation="relu", padding="same")(x)
        x = layers.MaxPooling2D((2, 2))(x)
    x = layers.Reshape((x.shape[1], x.shape[2] * x.shape[3]))(x)
    x = layers.Dropout(0.2)(layers.Dense(64, activation="relu")(x))
    for units in (128, 64):
        x = layers.Bidirectional(layers.LSTM(units, return_sequences=True, dropout=0.25))(x)
    return keras.Model(image, layers.Dense(characters, activation="softmax")(x))


def siamese(shape: Shape = (28, 28, 1)) -> keras.Model:
    """Two images, one encoder: their distance."""
    image = keras.Input(shape)
    x = layers.BatchNormalization()(image)
    for width in (4, 16):
        x = layers.AveragePooling2D(2)(layers.Conv2D(width, 5, activation="tanh")(x))
    x = layers.BatchNormalization()(layers.Flatten()(x))
    encoder = keras.Model(image, layers.Dense(10, activation="tanh")(x))
    first, second = keras.Input(shape, name="first"), keras.Input(shape, name="second")
    squares = ops.square(encoder(first) - encoder(second))
    distance = ops.sqrt(ops.maximum(ops.sum(squares, axis=1, keepdims=True), 1e-7))
    x = layers.Dense(1, activation="sigmoid")(layers.BatchNormalization()(distance))
    return keras.Model([first, second], x)


def ct_scan(shape: Shape = (64, 64, 32, 1)) -> keras.Model:
    """A volume: three-dimensional convolutions."""
    volume = keras.Input(shape)
    x = volume
    for width in (16, 16, 32):
        x = layers.MaxPool3D(2)(layers.Conv3D(width, 3, activation="relu", padding="same")(x))
        x = layers.BatchNormalization()(x)
    x = layers.Dense(128, activation="relu")(layers.GlobalAveragePooling3D()(x))
    return keras.Model(volume, layers.Dense(1, activation="sigmoid")(layers.Dropout(0.3)(x)))


class DepthToSpace(layers.Layer):
    """Channels as pixels of a larger image."""

    def __init__(self, factor: int, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        count, height, width, depth = ops.shape(x)
        factor, channels = self.factor, depth // self.factor**2
        x = ops.reshape(x, (count, height, width, factor, factor, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (count, height * factor, width * factor, channels))

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def super_resolution(shape: Shape = (100, 100, 1), factor: int = 3) -> keras.Model:
    """Sub-pixel convolution."""
    image = keras.Input(shape)
    x = layers.Conv2D(64, 5, activation="relu", padding="same")(image)
    x = layers.Conv2D(64, 3, activation="relu", padding="same")(x)
    x = layers.Conv2D(32, 3, activation="relu", padding="same")(x)
    x = layers.Conv2D(factor**2, 3, activation="relu", padding="same")(x)
    return keras.Model(image, DepthToSpace(factor)(x))


def autoencoder(shape: Shape = (28, 28, 1)) -> keras.Model:
    """Noise taken away."""
    image = keras.Input(shape)
    x = image
    for _ in range(2):
        x = layers.Conv2D(32, 3, activation="relu", padding="same")(x)
        x = layers.MaxPooling2D(2, padding="same")(x)
    for _ in range(2):
        x = layers.Conv2DTranspose(32, 3, strides=2, activation="relu", padding="same")(x)
    return keras.Model(image, layers.Conv2D(1, 3, activation="sigmoid", padding="same")(x))


def conv_mixer(shape: Shape = (32, 32, 3), width: int = 256, depth: int = 8) -> keras.Model:
    """Patches by a convolution, then depthwise and pointwise ones."""

    def after(x):
        return layers.BatchNormalization()(layers.Activation("gelu")(x))

    image = keras.Input(shape)
    x = after(layers.Conv2D(width, 2, strides=2)(layers.Rescaling(1 / 255)(image)))
    for _ in range(depth):
        y = after(layers.DepthwiseConv2D(5, padding="same")(x))
        x = after(layers.Conv2D(width, 1)(layers.Add()([y, x])))
    return keras.Model(image, layers.Dense(10)(layers.GlobalAvgPool2D()(x)))


def mlp_mixer(shape: Shape = (64, 64, 3), patch: int = 8, width: int = 256) -> keras.Model:
    """Dense layers across patches and across channels."""
    count = (shape[0] // patch) * (shape[1] // patch)

    def mlp(x, units):
        return layers.Dense(units)(layers.Dense(units, activation="gelu")(x))

    image = keras.Input(shape)
    x = layers.Dense(width)(Patches(patch)(_augmented(image, zoom=0.2)))
    for _ in range(4):
        y = layers.Permute((2, 1))(layers.LayerNormalization(epsilon=1e-6)(x))
        x = layers.Add()([x, layers.Permute((2, 1))(mlp(y, count))])
        x = layers.Add()([x, mlp(layers.LayerNormalization(epsilon=1e-6)(x), width)])
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(image, layers.Dense(100)(x))
