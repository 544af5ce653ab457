"""PASCAL VOC 2012 segmentation, with SBD's and COCO's masks, as a TensorFlow Datasets builder.

TFDS' own `voc/2012` has no masks, its `coco/2017` has boxes only. This builder reads the folders
that the sets are published as and writes one TFDS set, so that order, shards and resuming are those
of every other set.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from keras_parc.data.augment.masks import flaw
from keras_parc.support.class_maps import IGNORED
from keras_parc.support.extras import needs_extra

with needs_extra():
    import tensorflow_datasets as tfds


CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat"),
    *("chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
    *("sheep", "sofa", "train", "tvmonitor"),
)
# COCO's number of each of VOC's classes but the background.
COCO_IDS = (5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)
MOST_BACKGROUND = 1000  # a COCO image needs more pixels of VOC's classes than that

_DESCRIPTION = "PASCAL VOC 2012 semantic segmentation: 20 classes and the background."
_CITATION = """
@misc{everingham2012voc,
  author = {Everingham, M. and Van Gool, L. and Williams, C. and Winn, J. and Zisserman, A.},
  title  = {The PASCAL Visual Object Classes Challenge 2012},
  year   = {2012},
}
"""
_MANUAL = """
Put into the manual_dir the folder VOCdevkit (of VOCtrainval_11-May-2012.tar,
http://host.robots.ox.ac.uk/pascal/VOC/voc2012/). For the configurations trainaug and coco, put into
VOCdevkit/VOC2012 the folder SegmentationClassAug of the masks made of the Semantic Boundaries
Dataset and, as ImageSets/Segmentation/trainaug.txt, its list of 10,582 images. For coco, also put
into the manual_dir a folder coco with train2017 and annotations/instances_train2017.json
(https://cocodataset.org/#download), and pip install pycocotools.
"""


class VocSegmentation(tfds.core.GeneratorBasedBuilder):
    """The `voc_segmentation` data set; importing this module registers it.

    Configurations, with the same 1449 images in `validation`: `train` (1464 images), `trainaug`
    (10,582: default) and `coco` (trainaug and the images of COCO 2017 with more than 1000 pixels
    of VOC's classes: what the authors train on).

    Each example has `image`, `file_name` and `segmentation_mask` uint8 (height, width, 1): class
    numbers, 255 for pixels to ignore (outlines; crowds in COCO). The order is random, so that
    COCO's images lie between VOC's.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = _MANUAL
    BUILDER_CONFIGS = [  # noqa: RUF012 (TFDS' own form)
        tfds.core.BuilderConfig(name="trainaug", description="VOC 2012 with SBD's masks."),
        tfds.core.BuilderConfig(name="train", description="VOC 2012 alone."),
        tfds.core.BuilderConfig(name="coco", description="trainaug and COCO 2017."),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            citation=_CITATION,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "file_name": tfds.features.Text(),
                    "segmentation_mask": tfds.features.LabeledImage(
                        labels=list(CLASSES), shape=(None, None, 1)
                    ),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        root = Path(dl_manager.manual_dir)
        training = "train" if self.builder_config.name == "train" else "trainaug"
        return {
            "train": self._generate_examples(root, training),
            "validation": _voc(root, "val"),
        }

    def _generate_examples(self, root: Path, name: str) -> Iterator[tuple[str, dict]]:
        yield from _voc(root, name)
        if self.builder_config.name == "coco":
            yield from _coco(root)


def _voc(root: Path, name: str) -> Iterator[tuple[str, dict]]:
    folder = root / "VOCdevkit" / "VOC2012"
    masks = folder / ("SegmentationClassAug" if name == "trainaug" else "SegmentationClass")
    names = folder / "ImageSets" / "Segmentation" / f"{name}.txt"
    for path in (folder / "JPEGImages", masks, names):
        _there(path)
    # Some lists have "/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png" a line.
    for stem in (Path(line.split()[0]).stem for line in names.read_text().splitlines() if line):
        image, mask = folder / "JPEGImages" / f"{stem}.jpg", masks / f"{stem}.png"
        for path in (image, mask):
            _there(path)
        with Image.open(mask) as labels:  # a palette's index is the class
            yield _example(f"voc_{stem}", image, np.asarray(labels))


def _coco(root: Path) -> Iterator[tuple[str, dict]]:
    from pycocotools.coco import COCO

    images = root / "coco" / "train2017"
    listed = root / "coco" / "annotations" / "instances_train2017.json"
    for path in (images, listed):
        _there(path)
    coco = COCO(str(listed))
    number = {category: label for label, category in enumerate(COCO_IDS, start=1)}
    for index in sorted(coco.imgs):
        entry = coco.imgs[index]
        found = coco.loadAnns(coco.getAnnIds(index, catIds=list(COCO_IDS)))
        labels = np.zeros((entry["height"], entry["width"]), np.uint8)
        for each in sorted(found, key=lambda each: each["iscrowd"]):
            label = IGNORED if each["iscrowd"] else number[each["category_id"]]
            labels[coco.annToMask(each) > 0] = label
        if np.count_nonzero((labels > 0) & (labels != IGNORED)) > MOST_BACKGROUND:
            path = images / entry["file_name"]
            _there(path)
            yield _example(f"coco_{index:012d}", path, labels)


def _example(key: str, path: Path, labels: np.ndarray) -> tuple[str, dict]:
    data, mask = path.read_bytes(), io.BytesIO()
    Image.fromarray(labels).save(mask, "PNG")
    problem = flaw(data, mask.getvalue(), len(CLASSES))
    if problem:
        raise ValueError(f"{str(path)!r}: {problem}.")
    return key, {
        "image": io.BytesIO(data),
        "file_name": path.name,
        "segmentation_mask": io.BytesIO(mask.getvalue()),
    }


def _there(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"There is no {str(path)!r}. " + " ".join(_MANUAL.split()))
