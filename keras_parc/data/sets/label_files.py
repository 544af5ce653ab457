"""Label files that other tools wrote, read without trusting them: text, JSON, XML, YAML.

Whatever is wrong with one is a ValueError of one line with the file's name, and the line in it
where there is one.
"""

import json
from pathlib import Path
from typing import Any

from keras_parc.support.extras import needs_extra
from keras_parc.support.text import lines_of, one_line


def mentions(path: Path, word: str) -> bool:
    """Whether a word is in a file, also in one of UTF-16, of which reading then tells.

    Raises:
        OSError: It cannot be read.
    """
    return word.encode() in path.read_bytes().replace(b"\0", b"")


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, without a byte order mark.

    Raises:
        ValueError: It is in another encoding, or cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: not UTF-8; save the file as UTF-8.") from error


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Number, from 1, and text of each line that is not empty.

    Raises:
        ValueError: As `read_text`.
    """
    lines = enumerate(lines_of(read_text(path)), 1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: It is no JSON, is nested too deep, or is not UTF-8.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON: {error.msg}.") from error
    except RecursionError as error:
        raise ValueError(f"{path}: nested too deep to be a label file.") from error
    except ValueError as error:
        raise ValueError(f"{path}: a number of too many digits.") from error


def read_xml(path: Path):
    """The root element of an XML file. Entities, with which a small file fills memory, are refused.

    Raises:
        ImportError: defusedxml is not installed.
        ValueError: It is no XML, or has entities.
    """
    with needs_extra():
        import defusedxml
        import defusedxml.ElementTree
    try:
        return defusedxml.ElementTree.fromstring(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    except defusedxml.ElementTree.ParseError as error:
        raise ValueError(f"{path}, line {error.position[0]}: not XML: {error}.") from error
    except defusedxml.DefusedXmlException as error:
        raise ValueError(f"{path}: it defines entities, which no label file needs.") from error
    except (LookupError, ValueError) as error:  # an encoding that nobody knows
        raise ValueError(f"{path}: not XML: {one_line(str(error))}.") from error


def read_yaml(path: Path) -> Any:
    """What a YAML file holds: plain values only. Aliases, which multiply it, are refused.

    Raises:
        ImportError: PyYAML is not installed.
        ValueError: It is no YAML, has aliases, is nested too deep, or is not UTF-8.
    """
    with needs_extra():
        import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent, index):
            if self.check_event(yaml.AliasEvent):
                mark = self.peek_event().start_mark
                raise yaml.composer.ComposerError(None, None, "an alias, refused here", mark)
            return super().compose_node(parent, index)

    text = read_text(path)
    try:
        return yaml.load(text, Loader)  # of plain values: Loader is a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{path}, line {line}: not YAML: {one_line(error.problem)}.") from error
    except RecursionError as error:
        raise ValueError(f"{path}: nested too deep to be a label file.") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none
        raise ValueError(f"{path}: not YAML: {one_line(str(error))}.") from error
