"""The page of a report: one HTML file with everything in it."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from PIL import Image

from keras_parc.report.charts import svg
from keras_parc.support.extras import needs_extra
from keras_parc.support.text import printable
from keras_parc.tasks.analysis import Chart, Gallery, Matrix, Section


@dataclass(frozen=True)
class Listing:
    """A list of sentences."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Commands:
    """Command lines, each after what it does."""

    lines: Sequence[tuple[str, str]]


def html(
    title: str, sentence: str, warnings: Sequence[str], sections: Sequence[Section], footer: str
) -> str:
    """The page.

    Args:
        title: Its heading.
        sentence: The result.
        warnings: What to know before trusting it.
        sections: The rest.
        footer: Below it.

    Returns:
        HTML that refers to nothing outside itself. Text of others is escaped.

    Raises:
        ImportError: jinja2 or matplotlib is not installed.
    """
    with needs_extra():
        import jinja2
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    template = environment.from_string(
        resources.files(__package__).joinpath("page.html").read_text()
    )
    views = [
        len(picture.views)
        for section in sections
        for part in section.parts
        if isinstance(part, Gallery)
        for picture in part.pictures
    ]
    return template.render(
        title=title,
        sentence=sentence,
        warnings=warnings,
        sections=[{"title": each.title, "groups": _groups(each.parts)} for each in sections],
        narrow=max(views, default=1) == 1,
        footer=footer,
    )


def _groups(parts) -> list:
    """Parts in order, charts that follow each other together: they stand side by side."""
    return [
        (charts, [_drawn(part) for part in group])
        for charts, group in itertools.groupby(parts, lambda part: isinstance(part, Chart))
    ]


def _drawn(part):
    """A part with its pictures as data."""
    if isinstance(part, str):
        return part
    drawn = {"kind": type(part).__name__, "part": part}
    if isinstance(part, Chart):
        files = svg(part)
        drawn |= {page: _data("svg+xml", text.encode()) for page, text in files.items()}
    elif isinstance(part, Matrix):
        shares = part.counts / part.counts.sum(1, keepdims=True).clip(1)
        texts = (100 * shares).round(1) if part.in_percent else part.counts
        drawn["rows"] = [
            (name, list(zip(cells, colours, strict=True)))
            for name, cells, colours in zip(
                part.names, texts.tolist(), (0.6 * shares).round(3).tolist(), strict=True
            )
        ]
    elif isinstance(part, Gallery):
        drawn["pictures"] = [
            {
                "name": picture.name,
                "says": picture.says,
                "views": [(title, _jpeg(view)) for title, view in picture.views.items()],
            }
            for picture in part.pictures
        ]
    return drawn


def _jpeg(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=85)
    return _data("jpeg", file.getvalue())


def _data(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
