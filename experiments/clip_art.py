"""A small data set of real pictures, for all three tasks: clip art pasted into photographs.

    python -m experiments.clip_art --clip-art /usr/share/openclipart/png --photos FOLDER OUT

The clip art is Debian's package openclipart-png, in the public domain; the photographs are those
of scikit-learn and of the folder given, such as `skimage/data` of scikit-image. The test
images have the objects of the training images in other photographs, at other places and sizes.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = {
    "bird": "animals/birds",
    "bug": "animals/bugs",
    "flower": "plants/flowers",
    "fruit": "food/fruit",
    "instrument": "recreation/music",
    "vehicle": "transportation/vehicles",
}
PHOTOS = {
    "train": ("astronaut.png", "brick.png", "china.jpg", "coffee.png", "coins.png", "moon.png"),
    "test": ("camera.png", "chelsea.png", "grass.png", "hubble_deep_field.jpg", "rocket.jpg"),
}
PIECES = 12  # of clip art, each class
COUNTS = {"train": 204, "test": 120}  # images of each task
WIDTH, HEIGHT = 256, 256
SHARE = (0.4, 0.8)  # of the height: the longer side of an object


def objects(folder: Path, rng: np.random.Generator) -> dict[str, list[Image.Image]]:
    """The clip art by class, cut to what is not transparent."""
    found = {}
    for name, place in CLASSES.items():
        files = sorted((folder / place).glob("*.png"))
        pieces = []
        for number in rng.permutation(len(files)):
            picture = Image.open(files[number]).convert("RGBA")
            box = picture.getchannel("A").getbbox()
            if box and min(box[2] - box[0], box[3] - box[1]) >= 64:
                pieces.append(picture.crop(box))
        found[name] = pieces[:PIECES]
    return found


def photographs(folder: Path) -> dict[str, list[Image.Image]]:
    """The backgrounds by split."""
    import sklearn.datasets

    own = Path(sklearn.datasets.__file__).parent / "images"
    return {
        split: [
            Image.open(own / name if (own / name).exists() else folder / name).convert("RGB")
            for name in names
        ]
        for split, names in PHOTOS.items()
    }


def background(photos: list[Image.Image], rng: np.random.Generator) -> Image.Image:
    """A random part of a random photograph."""
    photo = photos[rng.integers(len(photos))]
    height = int(rng.uniform(0.5, 1) * min(photo.height, photo.width * HEIGHT / WIDTH))
    width = height * WIDTH // HEIGHT
    left, top = rng.integers(photo.width - width + 1), rng.integers(photo.height - height + 1)
    return photo.crop((left, top, left + width, top + height)).resize((WIDTH, HEIGHT))


def paste(
    scene: Image.Image, mask: np.ndarray, piece: Image.Image, label: int, rng: np.random.Generator
) -> list[int]:
    """Put an object anywhere into a scene and its mask; return its box, COCO's way."""
    scale = rng.uniform(*SHARE) * HEIGHT / max(piece.size)
    piece = piece.resize([max(8, int(side * scale)) for side in piece.size])
    left = int(rng.integers(WIDTH - piece.width + 1))
    top = int(rng.integers(HEIGHT - piece.height + 1))
    scene.paste(piece, (left, top), piece)
    part = mask[top : top + piece.height, left : left + piece.width]
    part[np.asarray(piece.getchannel("A")) > 127] = label
    return [left, top, piece.width, piece.height]


def make(
    pieces: dict[str, list[Image.Image]],
    photos: dict[str, list[Image.Image]],
    out: Path,
    counts: dict[str, int],
    rng: np.random.Generator,
) -> None:
    """Write `classes/`, `boxes/` and `masks/`, a data set for each task.

    Args:
        pieces: Objects by class.
        photos: Backgrounds by split.
        out: Where to write.
        counts: Images of each split and task.
        rng: Of everything that is drawn.
    """
    names = list(pieces)
    for split, count in counts.items():
        coco = {"images": [], "annotations": [], "categories": []}
        coco["categories"] = [{"id": n, "name": name} for n, name in enumerate(names, 1)]
        for number in range(count):
            name = names[number % len(names)]
            scene, mask = background(photos[split], rng), np.zeros((HEIGHT, WIDTH), "uint8")
            own = pieces[name]
            paste(scene, mask, own[rng.integers(len(own))], 0, rng)
            save(scene, out / "classes" / split / name / f"{number:03d}.jpg")
            scene, mask = background(photos[split], rng), np.zeros((HEIGHT, WIDTH), "uint8")
            for _ in range(rng.integers(1, 4)):
                label = int(rng.integers(len(names)))
                own = pieces[names[label]]
                box = paste(scene, mask, own[rng.integers(len(own))], label + 1, rng)
                about = {"id": len(coco["annotations"]) + 1, "image_id": number, "bbox": box}
                about |= {"category_id": label + 1, "area": box[2] * box[3], "iscrowd": 0}
                coco["annotations"].append(about)
            file = f"{number:03d}.jpg"
            coco["images"].append(
                {"id": number, "file_name": file, "width": WIDTH, "height": HEIGHT}
            )
            save(scene, out / "boxes" / split / file)
            save(scene, out / "masks" / "images" / split / file)
            save(Image.fromarray(mask), out / "masks" / "masks" / split / f"{number:03d}.png")
        (out / "boxes" / split / "_annotations.coco.json").write_text(json.dumps(coco))
    (out / "masks" / "labels.txt").write_text("\n".join(["background", *names]) + "\n")


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture into a folder that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=90)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--clip-art", type=Path, default=Path("/usr/share/openclipart/png"))
    parser.add_argument("--photos", type=Path, required=True)
    chosen = parser.parse_args()
    generator = np.random.default_rng(0)
    drawn = objects(chosen.clip_art, generator)
    make(drawn, photographs(chosen.photos), chosen.out, COUNTS, generator)
