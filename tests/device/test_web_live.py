"""tflite/web in a headless Chromium: camera, pictures and videos, for all three tasks as in Python.

The camera is a video file of scenes. The page hands out the frames it looked at, losslessly, and
Python looks at the same ones.
"""

import base64
import io
import shutil

import keras
import masks
import numpy as np
import pytest
from fake_camera import write_y4m
from PIL import Image
from shared import made_once

import keras_parc
import squares
from keras_parc.data import digit_scene
from keras_parc.data.sets.scenes import VARIANTS
from keras_parc.tasks.classification.predicting import classify
from keras_parc.tasks.detection.predicting import detect_files
from keras_parc.tasks.model_files import load_model
from keras_parc.tasks.segmentation.predicting import segment_files

pytestmark = pytest.mark.web

SIDE, PAD = 240, ((0, 0), (40, 40), (0, 0))  # of a frame of the camera
CAMERA = """
$("camera").click();
const reports = [];
while (reports.length < 12) reports.push(await next());
$("stop").click();
return {reports, times: $("times").textContent};
"""


def larger(images):
    """As frames of a camera: larger, not square."""
    return [
        np.pad(np.kron(each, np.ones((SIDE // len(each), SIDE // len(each), 1), "uint8")), PAD)
        for each in np.asarray(images, "uint8")
    ]


@pytest.fixture
def on_camera(browse, server, tmp_path):
    """What the page finds with a file (path) on a camera that shows pictures; with its frames."""

    def look(path, images):
        shutil.copy(path, server.folder / "model.tflite")
        video = write_y4m(tmp_path / "camera.y4m", images, seconds=0.5)
        flags = ["--disable-gpu", "--use-fake-device-for-media-stream"]
        flags += ["--use-fake-ui-for-media-stream", f"--use-file-for-fake-video-capture={video}"]
        answer = browse("model.tflite", script=CAMERA, flags=flags)
        assert "FPS, model alone" in answer["times"]
        reports = answer["reports"]
        assert not any(each["failed"] for each in reports)
        assert all(each["isolated"] for each in reports)
        paths = [saved(each, tmp_path / f"{number}.png") for number, each in enumerate(reports)]
        assert len({path.read_bytes() for path in paths}) >= 3  # it is a video
        return reports, paths

    return look


def saved(report, path):
    """The frame that was looked at, as a file."""
    path.write_bytes(base64.b64decode(report["image"].partition(",")[2]))
    return path


@pytest.fixture(scope="module")
def digits():
    """An int8 file that tells digits, learned in seconds."""

    def make(folder):
        scenes = [digit_scene(i, "train", VARIANTS["small"], 0) for i in range(3000)]
        images = np.stack([each.image for each in scenes]).astype("float32")
        keras.utils.set_random_seed(0)
        image = keras.Input(images.shape[1:])
        x = keras.layers.Rescaling(1 / 128, -1)(image)
        for width in (24, 48, 96):
            x = keras.layers.Conv2D(width, 3, 2, "same", activation="relu")(x)
        x = keras.layers.GlobalMaxPooling2D()(x)
        model = keras.Model(image, keras.layers.Dense(10, activation="softmax")(x))
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(images, np.array([each.label for each in scenes]), epochs=6, verbose=0)
        metadata = keras_parc.Metadata(labels=[f"digit {i}" for i in range(10)])
        keras_parc.to_tflite(
            model,
            folder / "int8.tflite",
            quantize="int8",
            calibration=images[:100],
            metadata=metadata,
        )

    return made_once("digits_int8", make) / "int8.tflite"


def test_a_classifier_on_the_camera(on_camera, digits):
    scenes = [digit_scene(i, "validation", VARIANTS["small"], 0) for i in range(6)]
    reports, paths = on_camera(digits, larger([each.image for each in scenes]))
    expected = classify(load_model(digits), paths)
    found = np.float32([each["found"]["scores"] for each in reports])
    assert (found.argmax(1) == expected.argmax(1)).all()
    assert len(set(expected.argmax(1))) >= 3
    np.testing.assert_allclose(found, expected, atol=0.02)  # the runtimes round otherwise
    for report, best in zip(reports, expected.argmax(1), strict=True):
        assert report["rows"][0].startswith(f"digit {best}\n")


@pytest.mark.parametrize("raw", [False, True])
def test_a_detector_on_the_camera(on_camera, detector_files, raw):
    images, _, _ = squares.scenes(6, seed=2)
    reports, paths = on_camera(detector_files["int8", raw], larger(images))
    expected = detect_files(load_model(detector_files["int8", False]), paths, 0.5)
    check_objects(reports, expected, (SIDE, SIDE + 80))


def check_objects(reports, expected, size):
    """What scores 0.5 or more: the same labels, IoU of 0.95, no corner further than a pixel."""
    count = 0
    for report, theirs in zip(reports, expected, strict=True):
        objects = [each for each in report["found"]["objects"] if each["score"] >= 0.5]
        assert [each["label"] for each in objects] == theirs["labels"].tolist()
        ours = np.float32([each["box"] for each in objects]).reshape(-1, 4)
        assert (squares.overlap(ours, theirs["boxes"]) >= 0.95).all()
        assert (np.abs(ours - theirs["boxes"]) * np.tile(size, 2) <= 1).all()
        np.testing.assert_allclose([each["score"] for each in objects], theirs["scores"], atol=0.02)
        count += len(objects)
    assert count >= len(reports) / 2


def test_a_segmenter_on_the_camera(on_camera, segmenter_files):
    images, _ = masks.images_and_masks(6, seed=2)
    path = segmenter_files["int8", "float32"]
    reports, paths = on_camera(path, larger(images))
    several = 0
    for report, expected in zip(reports, segment_files(load_model(path), paths), strict=True):
        found = report["found"]
        ours = np.array(found["map"]).reshape(found["height"], found["width"])
        assert ours.shape == expected.shape
        assert (ours == expected).mean() >= 0.97
        several += len(np.unique(expected)) > 1
    assert several >= len(reports) / 2


@pytest.fixture(scope="module")
def scene(server):
    """A picture with a square, in the server's folder."""
    images, _, _ = squares.scenes(6, seed=2)
    Image.fromarray(larger(images)[1]).save(server.folder / "scene.png")
    return server.folder / "scene.png"


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_boxes_that_the_page_decodes_are_those_of_the_file(
    browse, server, scene, detector_files, quantize
):
    """Deltas decoded and suppressed in the page, and the runtime's own post-processing."""
    expected = detect_files(load_model(detector_files[quantize, False]), [scene], 0.5)
    for raw in (False, True):
        shutil.copy(detector_files[quantize, raw], server.folder / f"raw_{raw}.tflite")
        check_objects([browse(f"raw_{raw}.tflite", scene.name)], expected, (SIDE, SIDE + 80))


def test_a_raw_detector_that_does_not_say_how(browse, server, scene, tmp_path):
    """Without metadata there are no anchors in the file."""
    model, _ = squares.detector()
    path = server.folder / "silent.tflite"
    keras_parc.to_tflite(model, path, postprocess=keras_parc.Postprocess(raw=True))
    assert "does not say how: export it with labels" in browse(path.name, scene.name)["status"]


def test_what_the_user_does(browse, server, scene, detector_files):
    """Drops a picture, moves the threshold, takes one thread, chooses another file, a wrong one."""
    shutil.copy(detector_files["int8", True], server.folder / "raw.tflite")
    shutil.copy(detector_files[None, True], server.folder / "float.tflite")
    answer = browse(
        "raw.tflite",
        script="""
        const bytes = async (name) => await (await fetch(name)).arrayBuffer();
        await until(() => $("task").textContent, "the model");
        const dataTransfer = put("scene.png", await bytes("/scene.png"));
        const drop = {bubbles: true, cancelable: true, dataTransfer};
        $("stage").dispatchEvent(new page.contentWindow.DragEvent("drop", drop));
        const first = await next();
        $("threshold").value = "0.05";
        $("threshold").dispatchEvent(new page.contentWindow.Event("input"));
        const low = report();
        $("threads").value = "1";
        $("threads").dispatchEvent(new page.contentWindow.Event("change"));
        const single = await next();
        choose("own", "own file.tflite", await bytes("/models/float.tflite"));
        const float = await next();
        const named = $("model").selectedOptions[0].textContent;
        choose("picture", "notes.txt", new TextEncoder().encode("no picture"));
        await until(failed, "a complaint");
        const nothing = $("status").textContent;
        choose("own", "scene.tflite", await bytes("/scene.png"));
        await until(() => $("status").textContent.includes(".tflite"), "a complaint");
        const wrong = $("status").textContent;
        const controls = [...page.contentDocument.querySelectorAll("button, input, select")].map(
          (each) => (each.labels?.[0] ?? each).textContent.trim().split("\\n")[0]);
        const spoken = $("spoken").textContent;
        return {first, low, single, float, named, nothing, wrong, controls, spoken};
        """,
    )
    objects = answer["first"]["found"]["objects"]
    assert len(answer["first"]["rows"]) == sum(each["score"] >= 0.3 for each in objects) > 0
    assert answer["first"]["rows"][0].startswith(squares.LABELS[objects[0]["label"]])
    assert len(answer["low"]["rows"]) > len(answer["first"]["rows"])
    assert answer["spoken"] == ""  # of a picture that is gone
    assert answer["single"]["found"]["objects"][0] == objects[0]
    assert answer["float"]["found"]["objects"][0] != objects[0]
    assert answer["named"] == "own file.tflite"
    assert answer["nothing"] == "notes.txt is not a picture that this browser can read."
    assert answer["wrong"].startswith("this is not a .tflite file")
    assert all(answer["controls"]), answer["controls"]


def test_a_video_file(browse, server, segmenter_files, scene):
    """Made by the browser itself; each of its frames is looked at."""
    shutil.copy(segmenter_files["int8", "float32"], server.folder / "segmenter.tflite")
    answer = browse(
        "segmenter.tflite",
        script="""
        await until(() => $("task").textContent, "the model");
        const canvas = Object.assign(document.createElement("canvas"), {width: 320, height: 240});
        const picture = await createImageBitmap(await (await fetch("/scene.png")).blob());
        const recorder = new MediaRecorder(canvas.captureStream(10), {mimeType: "video/webm"});
        const parts = [];
        recorder.ondataavailable = ({data}) => parts.push(data);
        const done = new Promise((resolve) => (recorder.onstop = resolve));
        recorder.start();
        for (let i = 0; i < 10; i++) {
          canvas.getContext("2d").drawImage(picture, 0, 0);
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
        recorder.stop();
        await done;
        choose("picture", "film.webm", await new Blob(parts).arrayBuffer());
        const found = [await next(), await next()];
        choose("picture", "broken.webm", new TextEncoder().encode("no video"));
        await until(failed, "a complaint");
        return {found, broken: $("status").textContent};
        """,
    )
    for each in answer["found"]:
        content = io.BytesIO(base64.b64decode(each["image"].partition(",")[2]))
        path = server.folder / "frame.png"
        Image.open(content).save(path)
        (expected,) = segment_files(load_model(server.folder / "segmenter.tflite"), [path])
        assert (np.array(each["found"]["map"]) == expected.ravel()).mean() >= 0.97
        assert len(np.unique(expected)) > 1
    assert answer["broken"] == "broken.webm cannot be played in this browser."


PRESS = """
await until(() => $("task").textContent, "the model");
$("camera").click();
await until(failed, "a complaint");
return {status: $("status").textContent, again: !$("camera").hidden && $("stop").hidden};
"""


@pytest.mark.parametrize(
    ("flags", "prelude", "sentence"),
    [
        (["--use-fake-ui-for-media-stream"], "", "There is no camera here: choose a picture"),
        (
            ["--use-fake-device-for-media-stream", "--deny-permission-prompts"],
            "",
            "The camera was refused: allow it in the browser's settings",
        ),
        (
            [],
            "Object.defineProperty(Navigator.prototype, 'mediaDevices', {value: undefined});"
            "Object.defineProperty(self, 'isSecureContext', {value: false});",
            "The browser gives the camera only to https:// and http://localhost",
        ),
    ],
    ids=["none", "refused", "no HTTPS"],
)
def test_no_camera(browse, server, detector_files, flags, prelude, sentence):
    shutil.copy(detector_files["int8", True], server.folder / "raw.tflite")
    flags = ["--disable-gpu", *flags]
    answer = browse("raw.tflite", script=PRESS, flags=flags, prelude=prelude)
    assert answer["status"].startswith(sentence)
    assert answer["again"]


@pytest.mark.parametrize(
    ("prelude", "sentence"),
    [
        ("HTMLScriptElement.supports = undefined;", "This browser is too old for the page"),
        ("delete self.WebAssembly;", "This browser has no WebAssembly, which runs the model"),
    ],
)
def test_an_old_browser(browse, detector_files, prelude, sentence):
    script = 'await until(failed, "a complaint"); return report();'
    answer = browse(script=script, prelude=prelude)
    assert answer["status"].startswith(sentence)


def test_offline_once_loaded(browse, server, scene, detector_files):
    """The server goes away; the page opens again, with model and picture."""
    shutil.copy(detector_files["int8", True], server.folder / "raw.tflite")
    answer = browse(
        "raw.tflite",
        scene.name,
        script="""
        const first = await next();
        await until(() => page.contentDocument.body.dataset.offline === "ready", "the cache");
        await fetch("/down", {method: "POST"});
        last = null;
        await open(page.src);
        const again = await next();
        const worker = await page.contentWindow.navigator.serviceWorker.getRegistration();
        await worker.unregister();
        return {first, again};
        """,
    )
    assert answer["again"]["found"]["objects"] == answer["first"]["found"]["objects"]
    assert answer["again"]["isolated"]  # threads, offline too


GPU_FLAGS = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
GPU_FLAGS += ["--enable-features=Vulkan"]  # a GPU in software
ON_BOTH = """
const cpu = await next();
$("processor").value = "gpu";
$("processor").dispatchEvent(new page.contentWindow.Event("change"));
const gpu = await next();
await until(() => $("times").textContent.includes("median"), "the end");
return {cpu, gpu, status: $("status").textContent, offered: !$("processor-row").hidden};
"""


@pytest.mark.parametrize("quantize", [None, "float16"])
@pytest.mark.parametrize("task", ["classification", "detection", "raw detection", "segmentation"])
def test_the_gpu_gives_what_the_cpu_gives(browse, server, scene, quantize, task):
    """Within half precision; what it does not take is named."""
    options = {}
    if task == "classification":
        model = keras_parc.ParCNetTiny(input_shape=(64, 64, 3), classes=3)
        metadata = keras_parc.Metadata(labels=["a", "b", "c"])
    elif task == "segmentation":
        model, metadata = masks.segmenter(), masks.METADATA
    else:
        (model, _), metadata = squares.detector(), squares.METADATA
        options["postprocess"] = keras_parc.Postprocess(raw=task.startswith("raw"))
    path = server.folder / "gpu.tflite"
    keras_parc.to_tflite(model, path, quantize=quantize, metadata=metadata, **options)
    answer = browse(path.name, scene.name, script=ON_BOTH, flags=GPU_FLAGS)
    if not answer["offered"]:
        pytest.skip("this Chromium has no GPU in software (--use-webgpu-adapter=swiftshader)")
    assert not answer["gpu"]["failed"], answer["gpu"]["status"]
    cpu, gpu = answer["cpu"]["found"], answer["gpu"]["found"]
    if task == "classification":
        np.testing.assert_allclose(gpu["scores"], cpu["scores"], atol=2e-3)
    elif task == "segmentation":
        assert (np.array(gpu["map"]) == np.array(cpu["map"])).mean() >= 0.99
    else:
        sure = [[each for each in one["objects"] if each["score"] >= 0.3] for one in (cpu, gpu)]
        assert len(sure[0]) > 0
        for ours, theirs in zip(*sure, strict=True):
            assert ours["label"] == theirs["label"]
            assert ours["score"] == pytest.approx(theirs["score"], abs=5e-3)
            np.testing.assert_allclose(ours["box"], theirs["box"], atol=1 / SIDE)
    if task == "detection":
        left = "Not taken by the GPU, so on the CPU: TFLite_Detection_PostProcess"
        assert answer["status"].startswith(left)
    else:
        assert answer["status"] == ""
