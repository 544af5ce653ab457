"""Commands that use a finished model: `keras-parc predict` and `keras-parc evaluate`."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table


def predict(
    model: Annotated[
        Path, typer.Argument(help="A .keras or .tflite classifier, detector or segmenter.")
    ],
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="Class names, one a line. Default: in or beside the model, labels.txt."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Guesses to show for an image.")] = 3,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="For a detector: the least score of a box.")
    ] = 0.3,
    draw: Annotated[
        Path | None,
        typer.Option(help="Write pictures with boxes, or painted masks, to this folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Classify image files, or find the objects or the class of every pixel in them."""
    from keras_parc.tasks.classification.predicting import classify
    from keras_parc.tasks.model_files import detects, is_segmenter, load_model

    loaded = load_model(model)
    if detects(loaded):
        _predict_boxes(loaded, model, images, labels, threshold, draw, as_json)
        return
    if is_segmenter(loaded):
        _predict_masks(loaded, model, images, labels, top, draw, as_json)
        return
    if draw is not None:
        raise ValueError(f"--draw is for detectors and segmenters, {str(model)!r} is a classifier.")
    scores = classify(loaded, images)
    names = _class_names(labels, model, scores.shape[1])
    results = [
        {
            "image": str(path),
            "guesses": [
                {"class": names[i], "score": float(row[i])} for i in (-row).argsort()[:top]
            ],
        }
        for path, row in zip(images, scores, strict=True)
    ]
    if as_json:
        print(json.dumps(results, indent=1))
        return
    table = Table("image", *(f"guess {i + 1}" for i in range(min(top, scores.shape[1]))))
    for result in results:
        guesses = (f"{each['class']}  {each['score']:.3f}" for each in result["guesses"])
        table.add_row(result["image"], *guesses)
    Console().print(table)


def _predict_boxes(loaded, model, images, labels, threshold, draw, as_json) -> None:
    from keras_parc.support.images import open_image
    from keras_parc.tasks.detection.predicting import class_total, detect_files, save_drawn

    found = detect_files(loaded, images, threshold)
    names = _class_names(labels, model, class_total(loaded))
    results = []
    for path, each in zip(images, found, strict=True):
        boxes = [
            {"class": names[label], "score": float(score), "box": box.tolist()}
            for box, score, label in zip(each["boxes"], each["scores"], each["labels"], strict=True)
        ]
        results.append({"image": str(path), "boxes": boxes})
        if draw is not None:
            save_drawn(draw / f"{path.stem}.png", open_image(path), each, names)
    if as_json:
        print(json.dumps(results, indent=1))
        return
    table = Table("image", "class", "score", "top, left, bottom, right")
    for result in results:
        for each in result["boxes"] or [None]:
            box = each and ", ".join(f"{100 * side:.0f} %" for side in each["box"])
            row = (
                (each["class"], f"{each['score']:.3f}", box) if each else ("nothing found", "", "")
            )
            table.add_row(result["image"], *row)
    Console().print(table)


def _predict_masks(loaded, model, images, labels, top, draw, as_json) -> None:
    from keras_parc.tasks.segmentation.predicting import save_painted, segment_files

    names = _class_names(labels, model, loaded.output_shape[-1])
    results = []
    for path, classes in zip(images, segment_files(loaded, images), strict=True):
        shares = np.bincount(classes.ravel(), minlength=len(names)) / classes.size
        found = [i for i in (-shares).argsort(kind="stable") if shares[i]]
        pixels = [{"class": names[i], "share": float(shares[i])} for i in found]
        results.append({"image": str(path), "pixels": pixels})
        if draw is not None:
            save_painted(draw / f"{path.stem}.png", path, classes)
    if as_json:
        print(json.dumps(results, indent=1))
        return
    table = Table("image", "class", "of the pixels")
    for result in results:
        for each in result["pixels"][:top]:
            table.add_row(result["image"], each["class"], f"{100 * each['share']:.1f} %")
    Console().print(table)


def evaluate(
    model: Annotated[
        str, typer.Argument(help="A .keras or .tflite model, or a classifier's name as ParCNetS.")
    ],
    dataset: Annotated[
        str, typer.Option(help="A TFDS set as imagenet2012, or a folder split/class/image.")
    ] = "imagenet2012",
    split: Annotated[
        str, typer.Option(help="A split, or a part: validation[:1000].")
    ] = "validation",
    data_dir: Annotated[
        Path | None, typer.Option(help="Prepared TFDS sets. Default: ~/tensorflow_datasets.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="For a name: what its constructor takes as weights.")
    ] = None,
    size: Annotated[
        int, typer.Option(min=1, help="Side of the images, where the model leaves it open.")
    ] = 256,
    short_side: Annotated[
        int | None,
        typer.Option(help="Shorter side before the centre is cut out. Default: size + 32."),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="For a segmenter: authors, or native (what a client shows).")
    ] = "authors",
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 64,
    threads: Annotated[int, typer.Option(min=1, help="Threads of a .tflite file.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure a classifier (top-1, top-5), a detector (mAP) or a segmenter (mean IoU)."""
    from keras_parc.models.inputs import input_size
    from keras_parc.tasks.classification.data import class_names
    from keras_parc.tasks.classification.measuring import evaluate_classifier
    from keras_parc.tasks.classification.predicting import zoo_classifier
    from keras_parc.tasks.detection import data as detection
    from keras_parc.tasks.detection.measuring import evaluate_detector
    from keras_parc.tasks.detection.predicting import class_total, detector_of
    from keras_parc.tasks.model_files import detects, is_segmenter, load_model
    from keras_parc.tasks.segmentation.measuring import evaluate_segmenter

    if Path(model).suffix:
        loaded = load_model(model, threads)
    elif weights is None:
        raise ValueError(f"The model {model!r} needs --weights.")
    else:
        # A file of weights is of this data set; a published preset has classes of its own.
        of_set = {"classes": len(class_names(dataset, data_dir))} if Path(weights).is_file() else {}
        loaded = zoo_classifier(model, weights, **of_set)
    if detects(loaded):
        known, there = class_total(loaded), len(detection.class_names(dataset, data_dir))
        if known != there:
            raise ValueError(
                f"{model!r} has {known} classes, but {dataset!r} has {there}: expected a detector "
                "trained on this data set."
            )
        result = evaluate_detector(
            detector_of(loaded, score_threshold=0.01, batch_size=batch),
            dataset,
            split,
            size=input_size(loaded, size),
            batch_size=batch,
            data_dir=data_dir,
        )
    elif is_segmenter(loaded):
        result = evaluate_segmenter(
            loaded,
            dataset,
            split,
            protocol=protocol,
            size=size,
            batch_size=min(batch, 8),  # large images
            data_dir=data_dir,
        )
    else:
        result = evaluate_classifier(
            loaded,
            dataset,
            split,
            size=size,
            short_side=short_side,
            batch_size=batch,
            data_dir=data_dir,
        )
    _print_measures(result, model, dataset, split, as_json)


def _print_measures(result: dict, model: str, dataset: str, split: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"model": model, "dataset": dataset, "split": split, **result}, indent=1))
        return
    table = Table("", model)
    result |= {f"IoU of {name}": value for name, value in result.pop("iou", {}).items()}
    by_class = result.pop("per_class", {})
    result |= {f"map of {name}": value for name, value in by_class.items()}
    for key, value in result.items():
        if value is None:  # nothing of this kind in the set
            continue
        text = f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
        share = key.startswith(("top", "map", "miou", "IoU", "pixel"))
        table.add_row(key.replace("_", " "), f"{100 * value:.2f} %" if share else text)
    Console().print(table)


def _class_names(labels: Path | None, model: Path, classes: int) -> list[str]:
    beside = model.with_name("labels.txt")
    if labels is None and model.suffix == ".tflite":
        from keras_parc.lite import read_metadata

        metadata = read_metadata(model)
        if metadata is not None:
            return list(metadata.labels)
    if labels is None and not beside.is_file():
        return [str(number) for number in range(classes)]
    path = labels or beside
    names = read_labels(path)
    if len(names) != classes:
        raise ValueError(
            f"{str(path)!r} has {len(names)} lines, but the model has {classes} classes."
        )
    return names


def read_labels(path: Path) -> list[str]:
    """The class names in a text file, one a line."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no label file {str(path)!r}.")
    try:
        names = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"The label file {str(path)!r} is not UTF-8 text: {error}") from error
    if not names:
        raise ValueError(f"The label file {str(path)!r} is empty: one class name a line.")
    return names
