"""Run a MediaPipe task on a model file; needs MediaPipe and nothing of keras_parc.

    python mediapipe_client.py classify|detect|embed|segment MODEL IMAGES.npy

Prints a JSON object: "results" for each image (n, height, width, 3) of uint8, the "metadata" as
MediaPipe's displayer reads it, and the packed "files".
"""

import json
import sys
import types

import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision


def classify(options, images):
    with vision.ImageClassifier.create_from_options(
        vision.ImageClassifierOptions(base_options=options)
    ) as task:
        for image in images:
            (head,) = task.classify(image).classifications
            yield [[each.index, each.category_name, each.score] for each in head.categories]


def detect(options, images):
    with vision.ObjectDetector.create_from_options(
        vision.ObjectDetectorOptions(base_options=options)
    ) as task:
        for image in images:
            found = []
            for each in task.detect(image).detections:
                box, (best, *_) = each.bounding_box, each.categories
                corner = [box.origin_x, box.origin_y, box.width, box.height]
                found.append([best.category_name, best.score, corner])
            yield found


def embed(options, images):
    with vision.ImageEmbedder.create_from_options(
        vision.ImageEmbedderOptions(base_options=options)
    ) as task:
        for image in images:
            (found,) = task.embed(image).embeddings
            yield np.asarray(found.embedding, "float64").tolist()


def segment(options, images):
    with vision.ImageSegmenter.create_from_options(
        vision.ImageSegmenterOptions(base_options=options, output_confidence_masks=True)
    ) as task:
        for image in images:
            masks = task.segment(image).confidence_masks
            yield {
                "labels": task.labels,
                "masks": [np.squeeze(mask.numpy_view()).tolist() for mask in masks],
            }


def displayed(path):
    """The metadata and the packed files, as MediaPipe's displayer reads them."""
    # The package lacks a module that this one imports; only the writer needs it.
    parent = "mediapipe.tasks.cc"
    for name in (parent, f"{parent}.metadata", f"{parent}.metadata.python"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules[name]._pywrap_metadata_version = None
    from mediapipe.tasks.python.metadata import metadata
    from mediapipe.tasks.python.metadata.metadata_writers import image_segmenter

    displayer = metadata.MetadataDisplayer.with_model_file(path)
    names = displayer.get_packed_associated_file_list()
    return {
        "metadata": json.loads(image_segmenter.convert_to_json(displayer.get_metadata_buffer())),
        "files": {name: displayer.get_associated_file_buffer(name).decode() for name in names},
    }


def main(task, path, images):
    tasks = {"classify": classify, "detect": detect, "embed": embed, "segment": segment}
    images = [mp.Image(mp.ImageFormat.SRGB, image) for image in np.load(images)]
    results = list(tasks[task](BaseOptions(model_asset_path=path), images))
    print(json.dumps({"results": results, **displayed(path)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
