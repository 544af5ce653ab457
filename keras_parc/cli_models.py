"""Commands that use a finished model: `keras-parc predict` and `keras-parc evaluate`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def predict(
    model: Annotated[Path, typer.Argument(help="A .keras or .tflite classifier.")],
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="Class names, one a line. Default: in or beside the model, labels.txt."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Guesses to show for an image.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Classify image files with a Keras or a .tflite model."""
    from keras_parc.predict import classify, load_classifier

    scores = classify(load_classifier(model), images)
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


def evaluate(
    model: Annotated[
        str, typer.Argument(help="A .keras or .tflite classifier, or a name as ParCNetS.")
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
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 64,
    threads: Annotated[int, typer.Option(min=1, help="Threads of a .tflite file.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure top-1 and top-5 of a classifier on a data set."""
    from keras_parc.data.classification import class_names
    from keras_parc.evaluate import evaluate_classifier
    from keras_parc.predict import load_classifier, zoo_classifier

    if Path(model).suffix:
        loaded = load_classifier(model, threads)
    elif weights is None:
        raise ValueError(f"The model {model!r} needs --weights.")
    else:
        # A file of weights is of this data set; a published preset has classes of its own.
        of_set = {"classes": len(class_names(dataset, data_dir))} if Path(weights).is_file() else {}
        loaded = zoo_classifier(model, weights, **of_set)
    result = evaluate_classifier(
        loaded,
        dataset,
        split,
        size=size,
        short_side=short_side,
        batch_size=batch,
        data_dir=data_dir,
    )
    if as_json:
        print(json.dumps({"model": model, "dataset": dataset, "split": split, **result}, indent=1))
        return
    table = Table("", model)
    for key, value in result.items():
        text = f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
        text = f"{100 * value:.2f} %" if key.startswith("top") else text
        table.add_row(key.replace("_", " "), text)
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
