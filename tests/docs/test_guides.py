"""What the guides show runs: Python and `keras-parc`, from top to bottom, in an empty folder."""

import glob
import importlib
import inspect
import pkgutil
import re

import pytest
from guides import FOLDER, GUIDES, REASONS, blocks, missing_names

from keras_parc.lite import rewrite

# What cannot be had here; any other weights do for the code around it.
DOWNLOAD = 'weights="imagenet"'


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES)
def test_blocks_run(guide, run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for number, block in enumerate(blocks(guide), start=1):
        if block.not_run:
            continue
        if block.language == "python":
            code = block.code.replace(DOWNLOAD, "weights=None")
            exec(compile(code, f"{guide}.md, block {number}", "exec"), names)
        for command, *words in block.commands:
            assert command == "keras-parc", f"{guide}.md, block {number}: cannot run {command}"
            arguments = [each for word in words for each in sorted(glob.glob(word)) or [word]]
            code, _, errors = run_cli(*arguments)
            assert code == 0, f"{guide}.md, block {number}: {errors}"


@pytest.mark.parametrize("guide", GUIDES)
def test_every_block_is_at_least_right(guide, run_cli, tmp_path, monkeypatch):
    """Of all blocks, also of those that run: they compile, and commands understand their words."""
    monkeypatch.chdir(tmp_path)
    for block in blocks(guide):
        assert block.not_run is None or block.not_run in REASONS
        if block.language == "python":
            compile(block.code, guide, "exec")
            assert missing_names(block.code) == []
        for words in block.commands:
            if "keras-parc" not in words:
                continue
            arguments = words[words.index("keras-parc") + 1 :]  # behind KERAS_BACKEND=jax
            # `--show` resolves a recipe; `--help` stands after arguments that were understood.
            check = "--show" if "--recipe" in arguments else "--help"
            code, _, errors = run_cli(*arguments, check)
            assert code == 0, errors


def test_a_name_that_is_not_there_is_noticed():
    code = "import keras_parc\nfrom keras_parc.data import digit_scene, no_scene as x\n"
    code += "keras_parc.ParCNetXS()\nkeras_parc.ParCNetM()\n"
    assert missing_names(code) == ["keras_parc.ParCNetM", "keras_parc.data.no_scene"]


def test_a_guide_with_no_block_is_not_taken_for_one_that_runs():
    languages = {guide: {block.language for block in blocks(guide)} for guide in GUIDES}
    assert all({"python", "sh"} & found for found in languages.values()), languages


def test_every_rule_is_explained():
    text = (FOLDER / "rewrite.md").read_text()
    explained = set(re.findall(r"`(\w+)`", text))
    rules = {
        name
        for _, module, _ in pkgutil.iter_modules(rewrite.__path__)
        if module.startswith("rules_")
        for name, function in vars(importlib.import_module(f"{rewrite.__name__}.{module}")).items()
        if inspect.isfunction(function)
        and function.__module__.endswith(module)
        and not name.startswith("_")
        and [*inspect.signature(function).parameters] == ["graph", "node", "consumers"]
    }
    assert len(rules) > 10
    assert rules <= explained, rules - explained
