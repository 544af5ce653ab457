"""`weights="imagenet"` against local servers: what loads, what goes wrong, what is left behind."""

import dataclasses
import hashlib
import logging
import random
import signal
import time

import keras
import numpy as np
import pytest
from children import Child
from weight_server import GOLDEN, WeightServer, golden_file

import keras_parc
from keras_parc import ParCNetS, ParCNetXS
from keras_parc.models.classifier import weight_loader
from keras_parc.models.registry import find_model
from keras_parc.weights import fetch, presets
from keras_parc.weights.fetch import DownloadError
from keras_parc.weights.names import load_state_dict
from reference import TOLERANCE, error, image, name_map, outputs, state_dict

SMALL = (64, 64, 3)
FOLDER = "models/keras_parc"


@pytest.fixture(scope="session")
def files():
    return {weights: golden_file(name) for weights, name in GOLDEN.items()}


@pytest.fixture
def server(files):
    server = WeightServer(dict(files))
    yield server
    server.close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_PARC_WEIGHTS", raising=False)
    return tmp_path / FOLDER


@pytest.fixture
def serve(server, monkeypatch, cache):
    def use(*behaviours):
        monkeypatch.setattr(presets, "PRESETS", server.presets(*behaviours))
        return server

    return use


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    return tmp_path_factory.mktemp("converted")


@pytest.fixture
def published(serve, converted, monkeypatch):
    """All weights can be had; what one test has downloaded and converted serves the next."""
    serve("good")
    monkeypatch.setenv("KERAS_HOME", str(converted))


def kept(cache):
    """What is in the cache besides locks."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def run(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def golden_classifier(build=ParCNetS, name="parcnet_s"):
    model = build(input_shape=SMALL, include_preprocessing=False)
    load_state_dict(model, state_dict(name), name_map(name))
    return model


@pytest.mark.any_backend
def test_the_line(serve, cache):
    server = serve("good")
    model = ParCNetS(weights="imagenet", classifier_activation=None, include_preprocessing=False)
    assert error(run(model, image(256)), outputs("parcnet_s")["S256/logits"]) <= TOLERANCE
    names = kept(cache)
    stem = f"parc_net_s_imagenet-{presets.PRESETS[0].git_blob[:12]}"
    converted = f"{stem}-{keras_parc.__version__}.weights.h5"
    assert names == [converted, f"{converted}.sha256", f"{stem}.pt", f"{stem}.pt.sha256"]
    for name in (converted, f"{stem}.pt"):
        digest = hashlib.sha256((cache / name).read_bytes()).hexdigest()
        assert (cache / f"{name}.sha256").read_text() == f"{digest}  {name}\n"

    again = ParCNetS(
        weights="imagenet",
        classifier_activation=None,
        input_shape=SMALL,
        include_preprocessing=False,
    )
    assert len(server.requests) == 1
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])


@pytest.mark.slow
def test_everything_but_the_head(published, caplog):
    golden = golden_classifier(ParCNetXS, "parcnet_xs")
    x = image(64)
    with caplog.at_level(logging.INFO, "keras_parc"):
        headless = ParCNetXS(
            weights="small",
            include_top=False,
            pooling="avg",
            input_shape=SMALL,
            include_preprocessing=False,
        )
    assert "weights='small': everything but the head is loaded." in caplog.text
    pooled = keras.Model(golden.input, golden.get_layer("head_pool").output)
    assert error(run(headless, x), run(pooled, x)) <= TOLERANCE

    caplog.clear()
    ten = ParCNetXS(
        weights="small",
        classes=10,
        input_shape=SMALL,
        output_stride=16,
        include_preprocessing=False,
    )
    assert "everything but predictions is loaded; these layers keep their random" in caplog.text
    for layer in golden.layers:
        if layer.weights and layer.name != "predictions":
            for ours, theirs in zip(ten.get_layer(layer.name).weights, layer.weights, strict=True):
                np.testing.assert_array_equal(ours, theirs)
    assert np.array(ten.get_layer("predictions").kernel).std() > 0.01

    inputs = keras.Input(SMALL)
    own = keras.layers.Conv2D(3, 1, name="mine")(inputs)  # layers before the model are left alone
    before = ParCNetXS(
        weights="small", include_top=False, input_tensor=own, include_preprocessing=False
    )
    np.testing.assert_array_equal(
        before.get_layer("stem_conv").kernel, golden.get_layer("stem_conv").kernel
    )

    rgb = np.random.default_rng(0).integers(0, 256, (1, *SMALL)).astype("uint8")
    whole = ParCNetXS(weights="small", include_preprocessing=True, input_shape=SMALL)
    assert error(run(whole, rgb), run(golden, keras_parc.preprocess_input(rgb))) <= TOLERANCE


@pytest.mark.slow
def test_a_whole_segmenter(published):
    model = keras_parc.DeepLabV3ParCNetS(
        "voc", input_shape=(256, 256, 3), include_preprocessing=False
    )
    golden = outputs("deeplabv3_parcnet_s")["S256/logits_lowres"].transpose(0, 2, 3, 1)
    low = keras_parc.low_resolution(model)(image(256), training=False)
    assert error(keras.ops.convert_to_numpy(low), golden) <= TOLERANCE
    other = keras_parc.DeepLabV3ParCNetS(
        "voc", input_shape=SMALL, classes=4, include_preprocessing=False
    )
    assert other.output_shape == (None, 64, 64, 4)
    layer = "aspp_project_conv"
    ours, theirs = (each.get_layer(layer).kernel for each in (other, model))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_the_detector(published, caplog):
    whole = keras_parc.SSDParCNetS(
        weights="coco", input_shape=(256, 256, 3), include_preprocessing=False
    )
    found = whole(image(256), training=False)
    assert error(found["scores"], outputs("ssd_parcnet_s")["S256/scores"]) <= TOLERANCE
    assert caplog.text == ""
    two = keras_parc.SSDParCNetS(
        weights="coco", classes=2, input_shape=SMALL, include_preprocessing=False
    )
    scoring = ", ".join(f"head{number}_scores" for number in range(1, 7))
    assert f"everything but {scoring} is loaded" in caplog.text
    for name in ("stem_conv", "head1_boxes"):
        np.testing.assert_array_equal(two.get_layer(name).kernel, whole.get_layer(name).kernel)


@pytest.mark.parametrize("weights", ["coco", pytest.param("voc", marks=pytest.mark.slow)])
def test_backbone_of_a_detector_and_a_segmenter(published, caplog, weights):
    model = ParCNetS(
        weights=weights, include_top=False, input_shape=SMALL, include_preprocessing=False
    )
    assert "everything but head_expand_bn, head_expand_conv is loaded" in caplog.text
    # The same tensors through the strict map of the classifier, which is proven elsewhere.
    encoder = {
        name.removeprefix("encoder."): value
        for name, value in state_dict(GOLDEN[weights]).items()
        if name.startswith("encoder.")
    }
    reference = ParCNetS(input_shape=SMALL, include_preprocessing=False)
    load_state_dict(reference, state_dict("parcnet_s") | encoder, name_map("parcnet_s"))
    ours, theirs = keras_parc.features(model), keras_parc.features(reference)
    x = image(64)
    got = ours(x, training=False)
    for level, expected in theirs(x, training=False).items():
        assert error(got[level], expected) == 0


BROKEN = [
    ("wrong", "is not the published file: .* with git blob id .*, expected "),
    ("short", "is not the published file: "),
    ("page", "is not the published file: 43 bytes"),
    ("missing", "the server answers 404 Not Found"),
    ("drops", r"the connection ended after \d+ of \d+ bytes"),
    ("resets", "the connection broke|the connection ended after"),
    ("silent", "fell silent for 0.5 s"),
    ("stalls", "fell silent for 0.5 s"),
    ("trickles", r"too slow: \d+ bytes in 1 s"),
    ("endless", "more than 31457280 bytes came"),
]


@pytest.mark.parametrize(("behaviour", "message"), BROKEN, ids=[name for name, _ in BROKEN])
def test_a_broken_server(serve, cache, monkeypatch, behaviour, message):
    monkeypatch.setattr(fetch, "SILENCE", 0.5)
    monkeypatch.setattr(fetch, "PERIOD", 1.0)
    server = serve(behaviour)
    with pytest.raises(DownloadError, match=message) as caught:
        ParCNetS(weights="imagenet", include_preprocessing=False)
    text = str(caught.value)
    assert server.url(behaviour, "imagenet") in text
    assert "save it as parc_net_s_imagenet.pt in a folder and set KERAS_PARC_WEIGHTS" in text
    assert kept(cache) == []


def test_a_folder_of_that_name_is_no_file(serve, tmp_path, monkeypatch):
    serve("missing")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet").mkdir()
    with pytest.raises(DownloadError, match="404"):
        ParCNetS(weights="imagenet", include_preprocessing=False)


def test_no_server_and_the_second_url(serve, server, cache, monkeypatch):
    nowhere = WeightServer({})
    url = nowhere.url("good", "imagenet")
    nowhere.close()
    serve("missing", "good")
    ParCNetXS(weights="small", input_shape=SMALL, include_preprocessing=False)
    assert server.requests == ["/missing/small", "/good/small"]
    gone = dataclasses.replace(presets.PRESETS[1], urls=(url, "http://no-such-host.invalid/x"))
    monkeypatch.setattr(presets, "PRESETS", (gone,))
    start = time.monotonic()
    with pytest.raises(DownloadError, match=r"refused[\s\S]*no-such-host"):
        ParCNetS(weights="coco", include_top=False, include_preprocessing=False)
    assert time.monotonic() - start < 60  # not a hang


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.slow
def test_damaged_files_in_the_cache(serve, cache, caplog):
    server = serve("good")
    model = ParCNetXS(weights="small", input_shape=SMALL, include_preprocessing=False)
    expected = model.get_weights()
    converted, record, source, _ = (cache / name for name in kept(cache))

    def loads(requests):
        """What a model's constructor does, with one model for all."""
        model.set_weights([np.zeros_like(value) for value in expected])
        weight_loader("small", find_model("ParCNetXS"))(model, model)
        weights = model.get_weights()
        assert all(np.array_equal(a, b) for a, b in zip(weights, expected, strict=True))
        assert len(server.requests) == requests

    damage(converted)
    loads(requests=1)
    assert f"{converted} is damaged and made anew" in caplog.text
    record.unlink()
    loads(requests=1)
    converted.write_bytes(converted.read_bytes()[:1000])
    damage(source)
    loads(requests=2)
    assert f"Downloading {source} again" in caplog.text
    # Damaged and not to be had: an error, and the damaged file does not load.
    damage(converted)
    damage(source)
    serve("missing")
    with pytest.raises(DownloadError, match="404"):
        weight_loader("small", find_model("ParCNetXS"))
    serve("good")
    loads(requests=4)


def test_a_file_put_by_hand(serve, files, cache, tmp_path, monkeypatch):
    server = serve("good")
    folder = tmp_path / "by hand"
    folder.mkdir()
    monkeypatch.setenv("KERAS_PARC_WEIGHTS", str(folder))
    with pytest.raises(DownloadError, match=r"no '.*by hand/parc_net_s_imagenet\.pt'.*Save http"):
        ParCNetS(weights="imagenet", include_preprocessing=False)
    path = folder / "parc_net_s_imagenet.pt"
    path.write_bytes(files["coco"])
    with pytest.raises(DownloadError, match="is not the published file"):
        ParCNetS(weights="imagenet", include_preprocessing=False)
    path.write_bytes(files["imagenet"])
    model = ParCNetS(weights="imagenet", input_shape=SMALL, include_preprocessing=False)
    np.testing.assert_array_equal(model.get_weights()[0], golden_classifier().get_weights()[0])
    assert server.requests == []
    assert [name.split(".weights.")[1] for name in kept(cache)] == ["h5", "h5.sha256"]


def test_loading_leaves_the_users_settings_alone(published):
    keras.utils.set_random_seed(5)
    expected = [
        random.random(),
        ParCNetXS(input_shape=SMALL, classes=3, include_preprocessing=False).get_weights()[0],
    ]
    keras.utils.set_random_seed(5)
    first = random.random()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        state = random.getstate()
        model = ParCNetXS(
            weights="small", include_top=False, input_shape=SMALL, include_preprocessing=False
        )
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        assert model.get_layer("stem_conv").dtype_policy.name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("stem_conv").kernel.dtype == "float32"
    after = random.getstate()
    random.setstate(state)
    ParCNetXS(include_top=False, input_shape=SMALL, include_preprocessing=False)
    assert random.getstate() == after  # as without weights
    random.setstate(state)
    assert [
        first,
        ParCNetXS(input_shape=SMALL, classes=3, include_preprocessing=False)
        .get_weights()[0]
        .tolist(),
    ] == [
        expected[0],
        expected[1].tolist(),
    ]


@pytest.mark.parametrize(
    ("build", "arguments", "message"),
    [
        (ParCNetXS, {"weights": "imagenet"}, "ParCNetXS has no pretrained.*ParCNetS: 'imagenet'"),
        (ParCNetS, {"weights": "imagenet21k"}, "no pretrained weights of this name"),
        (ParCNetS, {"weights": "coco"}, "are of detection and have no classifier"),
        (
            ParCNetS,
            {"weights": "imagenet", "position_embedding": False},
            "not as there: stage3_block1_h1_position, ",
        ),
        (
            ParCNetS,
            {
                "weights": "imagenet",
                "input_shape": (64, 64, 1),
                "include_preprocessing": False,
            },
            "three input channels; these layers are not as there: stem_conv",
        ),
    ],
)
def test_a_model_that_does_not_fit(published, build, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)


CHILD = """
import os, sys
from keras_parc.models.classifier import weight_loader
from keras_parc.models.registry import find_model
from keras_parc.weights import fetch, presets
presets.PRESETS = eval(os.environ["PRESETS"], {"Preset": presets.Preset})
import keras_parc
"""


def child(code, **more):
    """Start a Python process that knows the presets of this one."""
    return Child(CHILD + code, PRESETS=repr(presets.PRESETS), **more)


LOAD = """
model = keras_parc.ParCNetXS(weights="small", input_shape=(64, 64, 3))
print(repr([float(w.sum()) for w in model.get_weights()]))
"""


@pytest.mark.slow
def test_two_processes_at_once(serve, cache):
    server = serve("good")
    both = [child(LOAD), child(LOAD)]
    printed = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert printed[0][0] == printed[1][0] != ""
    assert len(server.requests) == 1
    assert len(kept(cache)) == 4


@pytest.mark.slow
def test_a_killed_download(serve, server, cache):
    serve("stalls")
    process = child(LOAD)
    while not (cache.is_dir() and any(p.stat().st_size for p in cache.glob(".*.pt"))):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (leftover,) = kept(cache)
    assert leftover.startswith(".")
    serve("good")
    ParCNetXS(weights="small", input_shape=SMALL, include_preprocessing=False)
    assert len(kept(cache)) == 4
    assert leftover not in kept(cache)


FULL = """
import resource
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for folder in ("", os.environ["BY_HAND"]):
    os.environ["KERAS_PARC_WEIGHTS"] = folder
    for room in (2**20, hard):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            keras_parc.ParCNetXS(weights="small", input_shape=(64, 64, 3))
            print("loaded")
        except OSError as error:
            print(type(error).__name__, error)
        cached = os.path.join(os.environ["KERAS_HOME"], "models/keras_parc")
        print([name for name in os.listdir(cached) if not name.endswith(".lock")])
    import shutil; shutil.rmtree(cached)
"""


@pytest.mark.slow
def test_a_full_disk(serve, files, cache, tmp_path):
    """Both the download and the conversion meet a limit of 1 MiB, and work when it is gone."""
    serve("good")
    (tmp_path / "parc_net_xs_small.pt").write_bytes(files["small"])
    process = child(FULL, BY_HAND=str(tmp_path))
    printed, errors = process.communicate()
    assert process.returncode == 0, errors[-2000:]
    lines = printed.splitlines()
    for failed, left, loaded, remaining in (lines[:4], lines[4:]):
        assert failed.startswith("OSError The weights 'small' of ParCNetXS cannot be cached in")
        assert "Make room or set KERAS_HOME" in failed
        assert left == "[]"
        assert loaded == "loaded"
        assert "weights.h5" in remaining


@pytest.mark.parametrize("preset", presets.PRESETS, ids=lambda preset: preset.name)
def test_model_cards(preset):
    card = presets.model_card(preset)
    for fact in (preset.git_blob, preset.metric, preset.licence, preset.data, *preset.urls):
        assert fact in card
    assert f'weights="{preset.weights}"' in card
    assert len(preset.git_blob) == 40
    assert keras_parc.list_presets() == presets.PRESETS
