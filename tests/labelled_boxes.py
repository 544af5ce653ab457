"""Scenes with boxes, as the folders of several tools; and what is read of such a folder."""

import json
from pathlib import Path

import numpy as np

from box_sets import relative, scene
from image_files import encoded
from keras_parc.data.sets.splits import known_split
from keras_parc.tasks.detection.data import (
    class_names,
    evaluation_dataset,
    open_detection_source,
)

NAMES = ("dog", "cat", "bird")


def objects(index):
    """Names and boxes (x, y, width, height in pixels) of a scene; every fifth has none."""
    boxes = scene(index)[1] if index % 5 else np.zeros((0, 4))
    return [NAMES[(index + number) % 3] for number in range(len(boxes))], boxes


def truth(index):
    names, boxes = objects(index)
    return names, relative(boxes, scene(index)[0]) if len(boxes) else np.zeros((0, 4))


def write_image(path: Path, index, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(scene(index)[0], **options))
    return path


def coco_json(indices, ids, name="{}.jpg", **more):
    """The text of a COCO file; `ids` are those of NAMES. `more` is for each annotation."""
    images, annotations = [], []
    for index in indices:
        image = scene(index)[0]
        size = {"height": image.height, "width": image.width}
        images.append({"id": 100 + index, "file_name": name.format(index), **size})
        for label, box in zip(*objects(index), strict=True):
            each = {"image_id": 100 + index, "category_id": ids[NAMES.index(label)]}
            each |= {"id": len(annotations) + 1, "iscrowd": 0, "area": 7.5, "bbox": box.tolist()}
            annotations.append(each | more)
    categories = [
        {"id": number, "name": each, "supercategory": "animals"}
        for number, each in zip(ids, NAMES, strict=True)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_json(path: Path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def read_boxes(root, split):
    """Of each image, by its name without the ending: names, boxes and the rest of its target."""
    builder = open_detection_source(root)
    names, found = class_names(builder), {}
    paths = iter(builder.paths[known_split(split)])
    for images, targets in evaluation_dataset(builder, split, batch=4, size=32):
        for number in range(len(images)):
            target = {key: each[number].numpy() for key, each in targets.items()}
            labels = [names[label] for label in target.pop("labels")]
            found[Path(next(paths)).stem] = labels, target.pop("boxes"), target
    return found


def check_boxes(root, indices, split, tolerance=1e-6):
    found = read_boxes(root, split)
    assert sorted(found) == sorted(map(str, indices))
    for index in indices:
        names, boxes = truth(index)
        labels, others, target = found[str(index)]
        assert labels == names
        np.testing.assert_allclose(others, boxes.reshape(-1, 4), atol=tolerance)
        assert target["size"].tolist() == [scene(index)[0].height, scene(index)[0].width]
    return found
