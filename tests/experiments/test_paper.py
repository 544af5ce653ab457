"""The paper's tables and figures: counts, claims, and a quick run through the command."""

import csv
import json

import pytest

from experiments.paper import ablation, rows, run, tables
from experiments.paper.__main__ import main
from keras_parc.support.files import read_rows
from keras_parc.tasks.task import find_task


@pytest.mark.parametrize(
    ("number", "parameters", "macs"),
    [
        # Of the authors' code.
        (2, 4_961_696, 1_632_878_080),
        (5, 4_951_672, 1_657_267_200),
        pytest.param(9, 5_171_682, 2_747_360_544, marks=pytest.mark.slow),
        pytest.param(13, 5_816_397, 9_754_237_440, marks=pytest.mark.slow),
    ],
)
def test_rows_of_the_ablation(number, parameters, macs):
    assert tables.size_of(rows.ABLATIONS[number - 1]) == (parameters, macs)


def test_every_row_of_the_ablation_has_a_recipe():
    for row in rows.ABLATIONS:
        recipe = ablation.row_recipe(row, seed=2)
        assert (recipe.task, recipe.seed, recipe.validation_split) == (row.task, 2, "test")
        assert find_task(recipe.task).learner.score == rows.SCORES[row.task]
    recipes = [ablation.row_recipe(row, 0) for row in rows.ABLATIONS]
    trained = {(r.task, r.model, str(r.model_arguments)) for r in recipes}
    assert len(trained) == len(rows.ABLATIONS)


def of(row, *percent):
    return [{"row": str(row), "value": str(value / 100)} for value in percent]


def test_a_claim_needs_two_standard_errors():
    whole = of(7, 90.0, 92.0, 91.0)
    found = ablation.summary(of(6, 80.0, 82.0) + of(5, 90.0, 92.5) + of(3, 95.0, 95.1) + whole)
    assert {each["row"]: each["claim"] for each in found} == {
        3: "contradicted",
        5: "open",
        6: "supported",
        7: "",
    }
    no_position = found[2]
    assert no_position["mean"] == pytest.approx(81.0)
    assert no_position["spread"] == pytest.approx(2**0.5)
    assert no_position["against"] == pytest.approx(10.0)
    one_seed = ablation.summary(of(6, 20.0) + whole)
    assert one_seed[0]["claim"] == "open"
    assert one_seed[0]["spread"] is None


def test_speeds_are_ratios_of_the_files(tmp_path):
    files = {
        "latency_1.csv": "parc_net_s_256_rewritten_fp32.tflite,30\n"
        "mobilevit_s_256_rewritten_fp32.tflite,40\n",
        "convnets.csv": "parc_resnet50_224_rewritten_int8.tflite,9\n"
        "resnet50_224_rewritten_int8.tflite,10\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text("model,median_ms\n" + text)
    for name in ("armv7x", "arm64"):
        (tmp_path / f"{name}.csv").write_text("model,instructions\n")
    lines = tables.table3(tmp_path).splitlines()
    assert lines[2] == (
        "| ParC-Net-S / MobileViT-S | 0.75 |  |  |  |  |  | 0.77 on RK3288, 0.27 on DP2000 |"
    )
    assert lines[3].startswith("| ParC-ResNet50 / ResNet50 |  | 0.90 |")


def test_what_is_stored_makes_the_tables(tmp_path):
    """The results in the repository, whose rows must be those of the tables."""
    stored = tables.RESULTS
    costs = run.read_costs(stored / "costs.csv")
    every = [*rows.MODELS, *rows.ABLATIONS]
    assert set(costs) == {tables.key_of(row) for row in every}
    results = read_rows(stored / "ablation.csv")
    for result in results:
        row = rows.ABLATIONS[int(result["row"]) - 1]
        recipe = ablation.row_recipe(row, int(result["seed"]))
        assert (result["model"], result["variant"]) == (recipe.model, row.variant)
        assert result["train_split"] == recipe.train_split
        assert (int(result["batch"]), int(result["epochs"])) == (recipe.batch, recipe.epochs)
    page = run.write_report(tmp_path, costs, results, speed=tmp_path)
    assert page.read_text().count("\n| ") == 2 * 2 + len(every)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("ablation.png", "figure_5.png", "figure_6.png", "figure_7.png", "tables.md"),
    ]


@pytest.mark.slow
def test_the_quick_form(tmp_path):
    """Trains two rows, keeps what is there, and goes on."""
    command = ["--out", str(tmp_path), "--quick", "--rows", "6"]
    assert main(command) == 0
    with (tmp_path / "ablation.csv").open() as file:
        (result,) = csv.DictReader(file)
    history = json.loads((tmp_path / "runs/table2_row6_seed0/result.json").read_text())["history"]
    assert float(result["value"]) == pytest.approx(history[-1]["val_top1"], abs=1e-5)
    assert (result["row"], result["data"]) == ("6", "digit_scenes/tiny")
    assert (
        "| 6 | without position embedding | 5,011,488 | 1,657 M |"
        in (tmp_path / "tables.md").read_text()
    )

    before = (tmp_path / "ablation.csv").read_text()
    assert main(command) == 0
    assert (tmp_path / "ablation.csv").read_text() == before


@pytest.mark.parametrize("numbers", [["0"], ["14"], ["6", "14"]])
def test_rows_that_do_not_exist(tmp_path, capsys, numbers):
    assert main(["--out", str(tmp_path), "--rows", *numbers]) == 2
    assert "numbers" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
