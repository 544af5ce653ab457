"""A griffe extension: the `Example:` of a docstring is what griffe calls `Examples:`, code."""

import re

import griffe


class DocstringExamples(griffe.Extension):
    def on_package(self, *, pkg: griffe.Module, **_) -> None:
        _rename(pkg)


def _rename(thing: griffe.Object) -> None:
    if thing.docstring:
        thing.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", thing.docstring.value)
    for member in thing.members.values():
        if not member.is_alias:
            _rename(member)
