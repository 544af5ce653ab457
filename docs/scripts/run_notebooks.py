"""Execute notebooks from top to bottom: in place, or with --check only to see that they run.

python docs/scripts/run_notebooks.py [--check] [NOTEBOOK ...]     default: all of notebooks/
"""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
# No time, no machine, no version: what is stored is the same wherever it was run.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# What TensorFlow and the runtime write past Python is theirs to say, not the notebook's.
QUIET = [
    "--IPKernelApp.capture_fd_output=False",
    "--IPKernelApp.log_level=ERROR",
    "--HistoryManager.enabled=False",
]


def execute(path: Path) -> nbformat.NotebookNode:
    """Run a notebook in a temporary copy of its folder.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        for source in path.parent.glob("*.py"):
            shutil.copy(source, folder)
        client = NotebookClient(
            notebook,
            timeout=600,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": folder}},
            extra_arguments=QUIET,
        )
        client.execute()
    notebook.metadata = METADATA
    for cell in notebook.cells:
        cell.metadata = {}
    return notebook


def main() -> None:
    """Run the notebooks that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # `experiments` is not installed, and a notebook runs in a copy of its folder.
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(FOLDER.parent), *([known] if known else [])])
    for path in arguments.notebooks or sorted(FOLDER.glob("*.ipynb")):
        start = time.perf_counter()
        notebook = execute(path)
        if not arguments.check:
            # Not `keras_parc.support.files.replacing`: its import takes seconds of every test.
            temporary = path.with_suffix(".new")
            nbformat.write(notebook, temporary)
            temporary.replace(path)
        print(f"{path.name}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
