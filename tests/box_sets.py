"""COCO and VOC in small: made-up files in the sets' own formats, prepared by TFDS' own builders."""

import json
from pathlib import Path
from unittest import mock

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from image_files import encoded
from keras_parc.data.sets.coco import CATEGORIES

EMPTY, CROWD_ONLY, DEGENERATE = 5, 11, 17  # images of COCO's train split with no box to learn from
LABELS = list(CATEGORIES)


def scene(index):
    """Image of some size, with boxes in pixels (x, y, width, height) that tell its number."""
    rng = np.random.default_rng(index)
    height, width = rng.integers(40, 90, 2)
    image = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3)).astype("uint8")
    image = Image.fromarray(image.repeat(8, 0).repeat(8, 1)[:height, :width])
    boxes = []
    for _ in range(1 + index % 3):
        w, h = rng.uniform(8, width / 2), rng.uniform(8, height / 2)
        boxes.append([rng.uniform(0, width - w), rng.uniform(0, height - h), w, h])
    return image, np.array(boxes)


def relative(boxes, image):
    """x, y, width, height in pixels to ymin, xmin, ymax, xmax relative to the image."""
    x, y, w, h = np.transpose(boxes)
    size = [image.height, image.width] * 2
    return (np.stack([y, x, y + h, x + w], 1) / size).astype("float32")


def coco_annotations(index, training):
    image, boxes = scene(index)
    crowd = {"iscrowd": 1, "bbox": [1.0, 2.0, 20.0, 20.0]}
    flat = {"iscrowd": 0, "bbox": [5.0, 5.0, 0.0, 9.0]}
    objects = [{"iscrowd": 0, "bbox": box} for box in boxes.tolist()]
    if index % 4 == 0:
        objects = [crowd, flat, *objects]
    if training:
        objects = {EMPTY: [], CROWD_ONLY: [crowd], DEGENERATE: [flat]}.get(index, objects)
    for number, each in enumerate(objects):
        area = 0.5 * each["bbox"][2] * each["bbox"][3]  # that of the outline, less than of the box
        label = LABELS[(index + number) % 80]
        each |= {"id": 100 * index + number + 1, "area": area, "category_id": label}
        each |= {"image_id": 1000 + index}
    return image, objects


def prepare(name, root, folders):
    def download_and_extract(self, urls):
        return {key: folders(key) for key in urls}

    target = "tensorflow_datasets.download.DownloadManager.download_and_extract"
    with mock.patch(target, download_and_extract):
        tfds.builder(name, data_dir=root).download_and_prepare()
    return root


def prepare_coco(root: Path, train=44, validation=6):
    categories = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
    for split, count in (("train2017", train), ("val2017", validation), ("test2017", 1)):
        (root / split).mkdir(parents=True)
        images, annotations = [], []
        for index in range(count):
            image, objects = coco_annotations(index, training=split == "train2017")
            file = {"id": 1000 + index, "file_name": f"{1000 + index:012d}.jpg"}
            images.append({**file, "height": image.height, "width": image.width})
            annotations += objects
            (root / split / file["file_name"]).write_bytes(encoded(image))
        kind = "image_info" if split == "test2017" else "instances"
        (root / "annotations").mkdir(exist_ok=True)
        text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
        (root / "annotations" / f"{kind}_{split}.json").write_text(text)
    return prepare("coco/2017", root, lambda key: root)


def prepare_voc(root: Path, train=20, validation=4):
    base = root / "VOCdevkit" / "VOC2007"
    for part in ("ImageSets/Main", "JPEGImages", "Annotations"):
        (base / part).mkdir(parents=True)
    start = 0
    for split, count in (("train", train), ("val", validation), ("test", 1)):
        names = [f"{start + index:06d}" for index in range(count)]
        (base / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            image, boxes = scene(int(name))
            (base / "JPEGImages" / f"{name}.jpg").write_bytes(encoded(image))
            text = f"<size><width>{image.width}</width><height>{image.height}</height></size>"
            for number, (x, y, w, h) in enumerate(boxes):
                corners = {"xmin": x, "ymin": y, "xmax": x + w, "ymax": y + h}
                corners = "".join(f"<{key}>{value}</{key}>" for key, value in corners.items())
                text += (
                    f"<object><name>{('dog', 'cat', 'bird')[number]}</name><pose>Left</pose>"
                    f"<truncated>0</truncated><difficult>{int(number == 1)}</difficult>"
                    f"<bndbox>{corners}</bndbox></object>"
                )
            (base / "Annotations" / f"{name}.xml").write_text(f"<annotation>{text}</annotation>")
        start += count
    return prepare("voc/2007", root, lambda key: root)
