"""How fast photographs are read: files that differ, and rates of the same images."""

import io

import pytest
from PIL import Image

from experiments import reading_rates


def test_every_file_is_another_photograph(tmp_path):
    count = reading_rates.DIFFERENT + 10
    reading_rates.photographs(tmp_path, count)
    files = sorted(tmp_path.glob("class*/*.jpg"))
    assert len(files) == len({path.read_bytes() for path in files}) == count
    for path in files[:: len(files) - 1]:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()
            assert image.size == reading_rates.SIDES


@pytest.mark.slow
def test_rates_are_of_all_images(tmp_path):
    rows = {row["what"]: row for row in reading_rates.reading_rows(tmp_path, 24, rounds=1)}
    alone, check = rows["decoding alone"], rows["check"]
    assert alone["images"] == check["images"] == 24
    assert float(alone["rate_to_decoding"]) == 1
    assert float(check["rate_by_processors"]) > 0
