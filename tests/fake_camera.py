"""A video file that Chromium takes for a camera."""

from pathlib import Path

import numpy as np

RATE = 10  # frames a second


def write_y4m(path: Path, images: list[np.ndarray], seconds: float = 1.0) -> Path:
    """Write pictures (height, width, 3) uint8 of even sides, each shown so long, as I420."""
    height, width, _ = images[0].shape
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{RATE}:1 Ip A1:1 C420jpeg\n".encode())
        for image in images:
            frame = b"FRAME\n" + _i420(image)
            file.write(frame * round(RATE * seconds))
    return path


def _i420(image):
    """BT.601, studio range: a plane of light, two of colour at half the sides."""
    red, green, blue = np.moveaxis(image.astype("float32") / 255, -1, 0)
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    planes = [16 + 219 * light]
    for colour, share in ((blue, 1.772), (red, 1.402)):
        plane = 128 + 224 * (colour - light) / share
        planes.append(plane.reshape(len(plane) // 2, 2, -1, 2).mean((1, 3)))
    return b"".join(np.rint(plane).clip(0, 255).astype("uint8").tobytes() for plane in planes)
