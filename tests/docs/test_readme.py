"""The README's tables are those its command writes, and its Python examples run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from guides import missing_names

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_tables_are_up_to_date():
    done = subprocess.run(
        [sys.executable, ROOT / "docs/scripts/update_readme.py", "--check"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def python_examples():
    """Each goes on where the one before ended."""
    parts = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return "\n".join(parts)


def test_python_examples_compile_and_name_what_is_there():
    compile(python_examples(), "README.md", "exec")
    assert "keras_parc." in python_examples()
    assert missing_names(python_examples()) == []


@pytest.mark.slow
def test_python_examples_run(tmp_path):
    code = python_examples()
    # Three models train one step each: to trace it would take minutes.
    assert code.count("jit_compile=False") == 3
    code = code.replace("jit_compile=False", "run_eagerly=True")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "parc.tflite").is_file()
