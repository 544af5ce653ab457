"""`keras-parc import`: the authors' checkpoints through real files, into weights that load."""

import functools

import keras
import numpy as np
import pytest
from children import Child
from torch_files import Call, Global, pickled, state_dict_bytes, zip_bytes
from weight_server import golden_file

import keras_parc
from keras_parc.models.checkpoints import import_checkpoint
from keras_parc.weights import names
from keras_parc.weights.names import load_state_dict
from keras_parc.weights.torch_file import CheckpointError, read_torch_file
from reference import TOLERANCE, error, image, outputs, state_dict

MODELS = {
    "parcnet_xs": "ParCNetXS",
    "parcnet_s": "ParCNetS",
    "parcnet_h": "ParCNetH",
    "mobilevit_s": "MobileViTS",
}


def logits(model):
    return keras.ops.convert_to_numpy(model(image(192), training=False))


@pytest.mark.parametrize(
    ("name", "legacy"),
    [
        *(
            pytest.param(name, False, marks=pytest.mark.slow if name == "parcnet_h" else [])
            for name in MODELS
        ),
        ("parcnet_xs", True),
    ],
)
def test_golden_logits_through_a_file(name, legacy, tmp_path):
    checkpoint, out = tmp_path / "checkpoint.pt", tmp_path / "new" / "out.weights.h5"
    checkpoint.write_bytes(golden_file(name, legacy))
    import_checkpoint(checkpoint, MODELS[name], out)
    options = {"classifier_activation": None, "include_preprocessing": False}
    build = functools.partial(getattr(keras_parc, MODELS[name]), **options)
    model = build(weights=out, input_shape=(192, 192, 3))
    assert error(logits(model), outputs(name)["S192/logits"]) <= TOLERANCE
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_an_ablation_through_a_file(tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(golden_file("parcnet_s_bk_1_2"))
    model = keras_parc.ParCNetS(
        kernel="big_1/2",
        classifier_activation=None,
        input_shape=(192, 192, 3),
        include_preprocessing=False,
    )
    load_state_dict(model, read_torch_file(path), names.parc_net)
    assert error(logits(model), outputs("parcnet_s_bk_1_2")["S192/logits"]) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 80])
def test_a_detector_through_a_file(classes, run_cli, tmp_path):
    """A user's two classes, and the published 80: the classes are the file's."""
    checkpoint, out = tmp_path / "checkpoint.pt", tmp_path / "out.weights.h5"
    state = state_dict("ssd_parcnet_s")
    for name, value in state.items():
        if name.startswith("ssd_heads.") and ".pw_conv.block.conv" in name.replace(
            "5.loc_cls_layer", "5.pw_conv"
        ):
            per_anchor = value.reshape(-1, 85, *value.shape[1:])[:, : 5 + classes]
            state[name] = per_anchor.reshape(-1, *value.shape[1:])
    checkpoint.write_bytes(state_dict_bytes(state))
    code, printed, _ = run_cli("import", checkpoint, out, "--model", "SSDParCNetS")
    assert code == 0
    assert f"classes={classes})" in printed
    line = printed.split("load it with ")[1].replace(
        ")", ", input_shape=(256, 256, 3), include_preprocessing=False)"
    )
    model = eval(line, {"keras_parc": keras_parc})
    found = model(image(256), training=False)
    expected = outputs("ssd_parcnet_s")["S256/scores"][..., : classes + 1]
    assert error(found["scores"], expected) <= TOLERANCE


@pytest.fixture
def ten_classes(tmp_path):
    """A user's checkpoint: ten classes, wrapped, saved from a data-parallel model."""
    state = {
        name: value[:10] if ".classifier." in name else value
        for name, value in state_dict("parcnet_xs", "module.").items()
    }
    path = tmp_path / "mine.pt"
    path.write_bytes(state_dict_bytes(state))
    return path


def test_the_command(run_cli, ten_classes, tmp_path):
    out = tmp_path / "mine.weights.h5"
    code, printed, _ = run_cli("import", ten_classes, out, "--model", "ParCNetXS")
    assert code == 0
    line = printed.split("load it with ")[1]
    model = eval(line, {"keras_parc": keras_parc})
    assert model.output_shape == (None, 10)
    kernel = state_dict("parcnet_xs")["classifier.fc.weight"][:10].T
    np.testing.assert_array_equal(model.get_layer("predictions").kernel, kernel)


@pytest.mark.slow
def test_a_segmenter(tmp_path):
    checkpoint, out = tmp_path / "segmenter.pt", tmp_path / "segmenter.weights.h5"
    checkpoint.write_bytes(golden_file("deeplabv3_parcnet_s"))
    model = import_checkpoint(checkpoint, "DeepLabV3ParCNetS", out)
    kernel = state_dict("deeplabv3_parcnet_s")["seg_head.classifier.classifier.block.conv.weight"]
    layer = model.get_layer("segmentation_logits")
    np.testing.assert_array_equal(layer.kernel, kernel.transpose(2, 3, 1, 0))
    keras_parc.DeepLabV3ParCNetS(weights=out, input_shape=(64, 64, 3), include_preprocessing=False)


def test_the_presets_command(run_cli, tmp_path):
    code, printed, _ = run_cli("presets", "--cards", tmp_path / "cards")
    assert code == 0
    assert "imagenet" in printed
    for preset in keras_parc.list_presets():
        assert preset.git_blob in (tmp_path / "cards" / f"{preset.name}.md").read_text()


def test_mistakes_end_in_one_line(run_cli, ten_classes, tmp_path):
    out = tmp_path / "out.weights.h5"

    def fails(message, checkpoint=ten_classes, model="ParCNetXS", target=out):
        code, _, errors = run_cli("import", checkpoint, target, "--model", model)
        assert code == 2
        assert message in errors
        assert not out.exists()

    fails("There is no checkpoint", tmp_path / "none.pt")
    fails("There is no model 'ParCNetM'. Did you mean 'ParCNetS'? There are", model="ParCNetM")
    fails("must end in .weights.h5", target=tmp_path / "out.h5")
    fails("classifier.fc.weight: (10, 640) for", model="ParCNetH")
    hostile = tmp_path / "hostile.pt"
    hostile.write_bytes(
        zip_bytes(pickled(Call(Global("os", "system"), (f"touch {tmp_path}/ran",))), {})
    )
    fails("It asks for 'os.system'", hostile)
    assert not (tmp_path / "ran").exists()
    detector = tmp_path / "detector.pt"
    detector.write_bytes(golden_file("ssd_parcnet_s"))
    fails("no 'classifier.fc.weight': it is no checkpoint of ParCNetS", detector, "ParCNetS")


def test_a_pytorch_file_as_weights(ten_classes):
    with pytest.raises(
        ValueError, match=r"keras-parc import .*mine\.pt --model ParCNetXS .*mine\."
    ):
        keras_parc.ParCNetXS(weights=ten_classes, include_preprocessing=False)


def test_no_room_for_the_output(ten_classes, tmp_path):
    out = tmp_path / "out.weights.h5"
    code = (
        "import resource, keras_parc.cli.main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20)); keras_parc.cli.main.main()"
    )
    process = Child(code, "import", ten_classes, out, "--model", "ParCNetXS")
    _, errors = process.communicate()
    assert process.returncode == 2, errors
    assert "File too large" in errors
    assert list(tmp_path.iterdir()) == [ten_classes]


def test_an_alias_that_differs_is_refused(tmp_path):
    state = state_dict("parcnet_xs")
    state["residual.block.exp_1x1.block.conv.weight"] = np.zeros((512, 128, 1, 1), "float32")
    path = tmp_path / "a.pt"
    path.write_bytes(state_dict_bytes(state))
    with pytest.raises(ValueError, match=r"differs from layer_5\.0\.block\.exp_1x1"):
        import_checkpoint(path, "ParCNetXS", tmp_path / "a.weights.h5")
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_without_a_head(tmp_path):
    path = tmp_path / "a.pt"
    for shape in ((), (0, 640), (10**6, 1), (10**9, 640, 0)):
        path.write_bytes(state_dict_bytes({"classifier.fc.weight": np.zeros(shape, "float32")}))
        with pytest.raises(ValueError, match=r"missing: classifier\.fc\.bias"):
            import_checkpoint(path, "ParCNetXS", tmp_path / "a.weights.h5")
    path.write_bytes(state_dict_bytes({"fc": np.float32(1)}))
    with pytest.raises(CheckpointError, match="Its names begin with 'fc'"):
        import_checkpoint(path, "ParCNetXS", tmp_path / "a.weights.h5")
