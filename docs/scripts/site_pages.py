"""The pages of the documentation site that are generated: a hook of MkDocs, see mkdocs.yml."""

import functools
import inspect
import tempfile
from pathlib import Path

import runtime_tables
import typer
from benchmark_tables import instructions
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from tables import RESULTS, medians, read, size, table
from typer.cli import get_docs_for_click
from typer.main import get_command

import keras_parc
from experiments.paper.run import read_costs, write_report
from experiments.paper.tables import RESULTS as PAPER
from keras_parc.cli import main as cli
from keras_parc.support.files import read_rows
from keras_parc.weights.presets import Preset, model_card

ROOT = Path(__file__).resolve().parents[2]
MODELS = "Published weights"  # the section of the navigation
# Pages that are files of the repository, read on their own too.
COPIES = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "device_tools.md": "tflite/README.md",
}
# The ranges that `to_tflite` chooses, and those it chose before, for models not measured since.
EXPORTED = (
    "the export: biases corrected where it helps",
    "least squared error behind the activation",
)


def on_config(config: MkDocsConfig) -> None:
    pages = [_path(preset) for preset in keras_parc.list_presets()]
    next(each for each in config.nav if MODELS in each)[MODELS] = ["models/index.md", *pages]


def on_files(files: Files, config: MkDocsConfig) -> None:
    made = {_path(preset): page(preset) for preset in keras_parc.list_presets()}
    made["models/index.md"] = overview()
    made["api/command.md"] = command()
    made |= paper()
    for name, source in COPIES.items():
        # Links from the root of the repository, and from a folder, into the folder of this site.
        text = (ROOT / source).read_text()
        made[name] = text.replace("](../docs/", "](").replace("](docs/", "](")
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))


def on_page_markdown(markdown: str, page: Page, **_) -> str:
    """Links into the repository, which work where it is read, as links to the copies."""
    above = "../" * page.file.src_uri.count("/")
    for name, source in COPIES.items():
        markdown = markdown.replace(f"](../{above}{source}", f"]({above}{name}")
    return markdown


def _path(preset: Preset) -> str:
    return f"models/{preset.name}.md"


def overview() -> str:
    rows = [
        [f"[{each.name}]({each.name}.md)", each.task, each.data, each.metric, each.licence]
        for each in keras_parc.list_presets()
    ]
    head = ["file", "task", "trained on", "published result", "licence"]
    return (
        "# Published weights\n\nThe authors' files, which `weights=` names: downloaded at first "
        "use, verified, converted without PyTorch and kept. A page for each says what it is for, "
        f"what it costs and what is not known.\n\n{table(head, rows)}\n"
    )


def command() -> str:
    """The reference of `keras-parc`, from its own help."""
    group = get_command(cli.app)
    context = typer.Context(group, info_name="keras-parc")
    text = get_docs_for_click(obj=group, ctx=context, name="keras-parc", title="Command line")
    about = (
        "All that needs no Python of your own. A mistake ends with one line that says what to do, "
        "and status 2. `--json` gives what a script can read; pictures, tables and progress bars "
        "are for people."
    )
    title, rest = text.split("\n", 1)
    return f"{title}\n\n{about}\n{rest}"


def paper() -> dict[str, str | bytes]:
    """The page of the paper's tables and its pictures, from what is stored."""
    with tempfile.TemporaryDirectory() as folder:
        costs = read_costs(PAPER / "costs.csv")
        report = write_report(folder, costs, read_rows(PAPER / "ablation.csv"), RESULTS)
        pictures = {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.png"))}
        tables = report.read_text()
    about = (
        "What this package counts and measures beside what the paper gives; `make paper` makes it "
        "anew and trains what is missing. The published weights could not be had where this was "
        "made, so no accuracy on ImageNet, COCO or VOC was measured here."
    )
    shown = "\n\n".join(f"![{Path(name).stem}](paper/{name})" for name in pictures)
    page = f"# The paper's tables\n\n{about}\n\n{tables}\n## Figures\n\n{shown}\n"
    return {"paper.md": page} | {f"paper/{name}": data for name, data in pictures.items()}


def page(preset: Preset) -> str:
    """The model card of a preset, and what was measured of its architecture."""
    return f"{model_card(preset)}\n{measured(preset.model)}"


@functools.cache
def measured(model: str) -> str:
    """Size, speed, partitions and the cost of int8 of a constructor's model."""
    name, parameters, macs = size(keras_parc.find_model(model))
    arguments = inspect.signature(getattr(keras_parc, model)).parameters
    stem = arguments["name"].default
    height, width, _ = arguments["input_shape"].default or (256, 256, 3)
    parts = [
        f"## Measured\n\n{name}, all of it: {parameters} parameters, {macs} multiply-adds at "
        f"{height}x{width}. Size and speed do not depend on the weights: the files measured had "
        "random ones."
    ]
    speed = _speed(stem)
    if not speed:
        return f"{parts[0]} Its `.tflite` files were not timed yet.\n"
    head = ["256x256, one image", "fp32", "int8"]
    parts.append(f"### Speed\n\n{table(head, speed)}")
    on_runtimes = runtime_tables.runtimes(model)
    if on_runtimes:
        parts.append(
            "### Runtimes\n\nHow much of a file XNNPACK runs, and how far its result is from that "
            "of ai-edge-litert on x86 (there: from Keras); see "
            f"[Device tools](../device_tools.md#what-each-runtime-makes-of-the-files).\n\n"
            f"{on_runtimes}"
        )
    parts.append(f"### int8 against float32\n\n{_int8(stem)}")
    return "\n\n".join(parts) + "\n"


def _speed(stem: str) -> list[list[str]]:
    rows = []
    for threads in (1, 2):
        found = read(f"latency_{threads}.csv")
        times, facts = medians(found), found[0]
        cells = [times.get(f"{stem}_256_rewritten_{dtype}") for dtype in ("fp32", "int8")]
        where = f"{facts['machine']}, {facts['runtime']}, threads: {threads}"
        rows.append([where, *(time and f"{time:.1f} ms" for time in cells)])
    for target, form in (("armv7x", "portable"), ("arm64", "rewritten")):
        found = instructions(target)
        cells = [found.get(f"{stem}_256_{form}_{dtype}") for dtype in ("fp32", "int8")]
        where = f"{target}, emulated, {read(f'{target}.csv')[0]['runtime']}: instructions"
        rows.append([where, *(count and f"{count:,.0f} M" for count in cells)])
    return [[where, *(cell or "" for cell in cells)] for where, *cells in rows if any(cells)]


def _int8(stem: str) -> str:
    found = {row["step"]: row for row in read("int8_steps.csv") if row["model"] == stem}
    for step in EXPORTED:
        if step in found:
            row = found[step]
            before, after = (100 * float(row[key]) for key in ("top1_float", "top1_int8"))
            older = "" if step == EXPORTED[0] else f", ranges of {step}"
            return (
                f"This architecture trained on digit scenes: top-1 {before:.1f} % in float32, "
                f"{after:.1f} % in int8 ({after - before:+.1f}{older}); both name the same class "
                f"for {100 * float(row['agreement']):.1f} % of the test images; "
                f"{float(row['logits_snr_db']):.1f} dB from signal to noise of the logits. With "
                "the published weights it was not measured: they could not be had where this was "
                "made."
            )
    return "Not measured yet."
