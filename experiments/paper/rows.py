"""The rows of the paper's tables, with what it publishes for each.

Figures are those of arXiv 2203.03952 and of the authors' page; None where neither was available.
"""

from dataclasses import dataclass

SCORES = {"classification": "top1", "detection": "map", "segmentation": "miou"}
TITLES = {"top1": "ImageNet top-1", "map": "COCO mAP", "miou": "VOC mIoU"}
SIZES = {"classification": (256, 1000), "detection": (320, 80), "segmentation": (512, 21)}


@dataclass(frozen=True)
class Model:
    """A row of Table 1, with its speed in Table 3.

    Attributes:
        name: As the paper writes it.
        function: The constructor in `keras_parc`.
        side: Side of the image in pixels.
        plain: Whether it is the ConvNet without ParC.
        millions: Published parameters, in millions.
        gigaflops: Published cost; see `flops_per_mac`.
        flops_per_mac: What the paper counts a multiply-add as: 2 in some rows, 1 in others.
        top1: Published accuracy, percent.
        device: Where the paper timed it, if it did.
        milliseconds: Published time of one image there.
        files: Name of the `.tflite` files of `make benchmark`.
    """

    name: str
    function: str
    side: int
    millions: float
    gigaflops: float
    flops_per_mac: int
    top1: float
    device: str
    milliseconds: int
    files: str
    plain: bool = False


_CPU = "Xeon E5-2680 v4"
# Each model after the one it is compared with.
MODELS: tuple[Model, ...] = (
    Model("MobileViT-S", "MobileViTS", 256, 5.6, 4.0, 2, 78.4, "RK3288", 457, "mobilevit_s"),
    Model("ParC-Net-S", "ParCNetS", 256, 5.0, 3.5, 2, 78.6, "RK3288", 353, "parc_net_s"),
    Model("ResNet50", "ParCResNet50", 224, 26, 4.1, 1, 79.1, _CPU, 98, "resnet50", True),
    Model("ParC-ResNet50", "ParCResNet50", 224, 24, 4.0, 1, 79.6, _CPU, 98, "parc_resnet50"),
    Model("MobileNetV2", "ParCMobileNetV2", 224, 3.5, 0.6, 2, 70.2, _CPU, 24, "mobilenet_v2", True),
    Model(
        "ParC-MobileNetV2", "ParCMobileNetV2", 224, 3.5, 0.6, 2, 71.1, _CPU, 27, "parc_mobilenet_v2"
    ),
    Model("ConvNeXt-XT", "ParCConvNeXtXT", 224, 7.4, 1.1, 1, 77.5, _CPU, 47, "convnext_xt", True),
    Model(
        "ParC-ConvNeXt-XT", "ParCConvNeXtXT", 224, 7.4, 1.1, 1, 78.3, _CPU, 48, "parc_convnext_xt"
    ),
)
# Milliseconds on the authors' own chip for convolutions.
DP2000 = {"MobileViT-S": 368, "ParC-Net-S": 98}


@dataclass(frozen=True)
class Ablation:
    """A row of Table 2.

    Attributes:
        number: Of the row here, from 1.
        task: "classification", "detection" or "segmentation".
        name: What is left out, or the whole.
        model: Key of the registered classifier that is trained, or is the backbone.
        variant: Name of its settings in the registry; "" for the whole model.
        millions: Published parameters, in millions.
        score: Published result, percent.
    """

    number: int
    task: str
    name: str
    model: str
    millions: float
    score: float | None
    variant: str = ""


_NO_POSITION = "without position embedding"
ABLATIONS: tuple[Ablation, ...] = (
    Ablation(1, "classification", "MobileViT-S", "mobilevit_s", 5.6, 78.4),
    Ablation(
        2,
        "classification",
        "kernels of 1/4 of the side",
        "parc_net_s",
        5.0,
        None,
        variant="big_1_4",
    ),
    Ablation(
        3,
        "classification",
        "kernels of 1/2 of the side",
        "parc_net_s",
        5.0,
        None,
        variant="big_1_2",
    ),
    Ablation(
        4, "classification", "without MetaFormer", "parc_net_s", 5.3, None, variant="no_meta_former"
    ),
    Ablation(
        5,
        "classification",
        "without channel attention",
        "parc_net_s",
        5.0,
        None,
        variant="no_attention",
    ),
    Ablation(6, "classification", _NO_POSITION, "parc_net_s", 5.0, None, variant="no_position"),
    Ablation(7, "classification", "ParC-Net-S", "parc_net_s", 5.0, 78.6),
    Ablation(8, "detection", "MobileViT-S", "mobilevit_s", 5.7, 27.7),
    Ablation(9, "detection", _NO_POSITION, "parc_net_s", 5.2, 27.5, variant="no_position"),
    Ablation(10, "detection", "ParC-Net-S", "parc_net_s", 5.2, 28.5),
    Ablation(11, "segmentation", "MobileViT-S", "mobilevit_s", 6.4, 79.1),
    Ablation(12, "segmentation", _NO_POSITION, "parc_net_s", 5.8, 79.2, variant="no_position"),
    Ablation(13, "segmentation", "ParC-Net-S", "parc_net_s", 5.8, 79.7),
)


def whole(row: Ablation) -> Ablation:
    """The row of the same task that leaves nothing out, which the others are compared with."""
    return next(
        r for r in ABLATIONS if (r.task, r.model, r.variant) == (row.task, "parc_net_s", "")
    )
