"""Feeds the reader of PyTorch files mutated, truncated and hostile files; run by its test.

Runs on its own since it limits its memory and watches everything that Python does while a file is
read: it prints how many files loaded or were refused, and every other outcome, as JSON.
"""

import collections
import io
import json
import random
import resource
import signal
import struct
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib.array_utils import byte_bounds
from torch_files import (
    FOLDER,
    Call,
    Global,
    Raw,
    examples,
    legacy_bytes,
    pickled,
    state_dict_bytes,
    tensor,
    zip_bytes,
)

from keras_parc.weights.torch_file import CheckpointError, read_torch_file

FILES = 3000
SECONDS = 5
MEMORY = 512 * 2**20
WATCHED = {
    *("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "pty.spawn"),
    *("exec", "compile", "import", "pickle.find_class", "marshal.loads", "ctypes.dlopen"),
    *("socket.connect", "os.remove", "os.rename", "os.mkdir", "shutil.rmtree"),
}
HOSTILE = [
    *(("os", "system"), ("posix", "system"), ("builtins", "eval"), ("builtins", "exec")),
    *(("subprocess", "Popen"), ("builtins", "getattr"), ("builtins", "__import__")),
    *(("torch", "load"), ("torch.serialization", "load"), ("numpy", "load")),
    *(
        ("collections", "OrderedDict.__reduce__"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
    ),
]
HUGE = [-1, 2**31, 2**40, 2**62, 2**63, 2**2000]
WEIGHTS = {"a": np.arange(12, dtype="float32").reshape(3, 4), "b": np.arange(3)}


def damaged(rng: random.Random, data: bytes) -> bytes:
    """A few bytes changed, cut out, doubled or cut off."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        start = rng.randrange(len(data) or 1)
        stop = start + rng.choice((1, 1, 4, 50))
        kind = rng.randrange(5)
        if kind <= 1:
            data[start:stop] = rng.randbytes(len(data[start:stop]))
        elif kind == 2:
            del data[start:stop]
        elif kind == 3:
            data[start:start] = data[start:stop]
        else:
            del data[start:]
    return bytes(data)


def operations(rng: random.Random) -> bytes:
    """A random sequence of pickle operations, well formed one by one."""
    parts = [b"\x80\x02"]
    for _ in range(rng.randrange(1, 60)):
        index = bytes([rng.randrange(6)])
        module, name = rng.choice(HOSTILE)
        parts.append(
            rng.choice(
                [
                    *(b"(", b"t", b"}", b"]", b")", b"u", b"e", b"a", b"s", b"R", b"b", b"Q", b"0"),
                    *(b"2", b"l", b"d", b"o", b"\x81", b"\x92", b"\x8f", b"\x90", b"\x91", b"N"),
                    *(b"\x85", b"\x86", b"\x87", b"\x88", b"\x94", b"\x93", b"1", b"."),
                    *(b"q" + index, b"h" + index, b"K" + index, b"X\x01\x00\x00\x00a"),
                    *(b"r\xff\xff\xff\xff", b"\x8e" + b"\xff" * 8, b"\x96" + b"\x7f" * 8),
                    f"c{module}\n{name}\n".encode(),
                    f"i{module}\n{name}\n".encode(),
                    b"ctorch._utils\n_rebuild_tensor_v2\n",
                    b"ctorch\nFloatStorage\n",
                    b"ccollections\nOrderedDict\n",
                    *(b"V" + b"9" * 300 + b"\n", b"I" + b"9" * 9000 + b"\n", b"P7\n", b"\x82\x01"),
                ]
            )
        )
    return b"".join(parts) + rng.choice((b".", b""))


DOUBLED = b")q\x00" + b"h\x00\x86q\x00h\x00" * 60 + b"\x86"  # 2^60 leaves
DEEP = b")" + b"\x85" * 100_000
REBUILD = Global("torch._utils", "_rebuild_tensor_v2")


def nested(rng: random.Random) -> bytes:
    """Small pickles of something cyclic, or hostile in a tensor's place, or that doubles."""
    hostile = Global(*rng.choice(HOSTILE))
    return rng.choice(
        [
            pickled({"a": Raw(b"]q\x00h\x00a")}),
            pickled({"a": Raw(DOUBLED)}),
            b"\x80\x02}(" + DOUBLED + b"K\x01u.",
            b"\x80\x02}q\x00(X\x05\x00\x00\x00modelh\x00u.",
            pickled(Call(REBUILD, Raw(DOUBLED))),
            pickled(Call(Global("torch._utils", "_rebuild_parameter"), (Raw(DOUBLED),))),
            b"\x80\x02" + DOUBLED + b"Q.",
            pickled({"a": Call(hostile, ("touch touched",))}),
            pickled({"a": Call(Call(hostile, (1,)), ("id",))}),
            pickled({"a": Call(REBUILD, (Call(hostile, ()),) * 6)}),
        ]
    )


ENDLESS = [
    pickled({"a": Raw(DEEP)}),
    b"\x80\x02}(" + DEEP + b"K\x01u.",
    pickled(Call(REBUILD, (Raw(DEEP),) * 6)),
    b"\x80\x02" + DEEP + b"Q.",
    b"\x80\x02" + b"}" * 600_000 + b".",
    b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".",
    b"\x80\x02" + b"\x8b\xff\xff\xff\x7f" + bytes(2**22),
    b"\x80\x02" + b"N" * 2**23,
]
# A long text or number once, which a dict or a sort would compare or hash again and again.
TEXTS = b"".join(
    b"X" + struct.pack("<I", 1_400_000) + b"a" * 1_400_000 + b"q" + index
    for index in (b"\0", b"\1")
)
LONG = b"\x8b" + struct.pack("<I", 3_000_000) + bytes([1]) * 3_000_000 + b"q\0"
ENDLESS += [
    b"\x80\x02" + LONG + b"}(" + b"h\0N" * 160_000 + b"u.",
    b"\x80\x02" + TEXTS + b"}(" + b"h\0Nh\1N" * 120_000 + b"u.",
]
LONG_KEYS = b"\x80\x02(" + TEXTS + b"t](" + b"h\0h\1" * 200_000 + b"e."


def lying(rng: random.Random, legacy: bool) -> bytes:
    """A tensor whose numbers do not match its storage."""
    array = WEIGHTS["a"]
    numbers = (*HUGE, 0, 1, 3, 12, 13)
    changes = {
        "offset": rng.choice(numbers),
        "shape": tuple(rng.choice(numbers) for _ in range(rng.choice((1, 2, 2, 3, 40)))),
        "strides": tuple(rng.choice(numbers) for _ in range(2)),
        "count": rng.choice(numbers),
        "storage": rng.choice(("LongStorage", "BFloat16Storage", "QInt8Storage", "load")),
    }
    chosen = rng.sample(sorted(changes), rng.choice((1, 1, 2, 3)))
    pickle = pickled({"a": tensor("0", array, legacy, **{key: changes[key] for key in chosen})})
    if legacy:
        return legacy_bytes(pickle, {"0": array})
    return zip_bytes(pickle, {"0": array.tobytes()})


def bomb(rng: random.Random) -> bytes:
    """An archive that would grow, or whose records share their bytes or are there twice."""
    pickle = pickled({"a": tensor("0", np.zeros(2**22, "float32"))})
    file = io.BytesIO()
    kind = rng.randrange(3)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if kind == 0 else 0) as archive:
        archive.writestr("archive/data.pkl", pickle)
        archive.writestr("archive/data/0", bytes(2**24) if kind == 0 else bytes(64))
        if kind == 1:
            archive.NameToInfo.clear()
            archive.writestr("archive/data/0", bytes(64))
        if kind == 2:
            first, second = archive.filelist
            second.header_offset = first.header_offset
    return file.getvalue()


def files(rng: random.Random):
    """Yield kind, content, and what it may load as (None: only sizes are checked)."""
    stored = {name: (FOLDER / f"torch_{name}.pt").read_bytes() for name in ("zip", "legacy")}
    with zipfile.ZipFile(io.BytesIO(stored["zip"])) as archive:
        records = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
    pickle = records.pop("data.pkl")
    small = [state_dict_bytes(WEIGHTS, legacy) for legacy in (False, True)]
    for _ in range(FILES // 10):
        yield "zip, damaged", damaged(rng, stored["zip"]), examples()
        yield "zip, damaged", damaged(rng, small[0]), WEIGHTS
        yield "zip, damaged inside", zip_bytes(damaged(rng, pickle), {}, **records), None
        yield "legacy, damaged", damaged(rng, stored["legacy"]), None
        yield "legacy, damaged", damaged(rng, small[1]), None
        yield "zip, random operations", zip_bytes(operations(rng), {}), None
        yield "legacy, random operations", legacy_bytes(operations(rng), {}), None
        yield "nested", zip_bytes(nested(rng), {}), None
        legacy = rng.random() < 0.5
        yield "lying", lying(rng, legacy), None
        yield "legacy, nested", legacy_bytes(nested(rng), {}), None
    for pickle in ENDLESS:
        yield "zip, endless", zip_bytes(pickle, {}), None
        yield "legacy, endless", legacy_bytes(pickle, {}), None
    head = legacy_bytes(pickled({"a": tensor("0", WEIGHTS["a"], True)}), {})
    yield "legacy, endless", head.removesuffix(pickled([])) + LONG_KEYS, None
    for _ in range(10):
        yield "bomb", bomb(rng), None


def within_its_storage(view: np.ndarray) -> bool:
    """Whether all of a view lies in the array at the end of its chain of bases."""
    root, link = view, view
    while link is not None:
        root = link if isinstance(link, np.ndarray) else root
        link = getattr(link, "base", None)
    low, high = byte_bounds(view)
    start, end = byte_bounds(root)
    return view.size == 0 or start <= low <= high <= end


def main() -> None:
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (limit + MEMORY, limit + MEMORY))
    for encoding in ("cp437", "utf-8", "ascii", "latin-1", "raw-unicode-escape"):
        "a".encode(encoding).decode(encoding)
    seen, watching = [], False

    def hook(event, arguments):
        if watching and event in WATCHED:
            seen.append(f"{event} {arguments!r:.80}")

    sys.addaudithook(hook)

    def alarm(*_):
        raise TimeoutError(f"not done in {SECONDS} s")

    signal.signal(signal.SIGALRM, alarm)
    outcomes, failures = collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.pt"
        for index, (kind, content, expected) in enumerate(files(random.Random(0))):
            path.write_bytes(content)
            signal.alarm(SECONDS)
            watching = True
            try:
                state = read_torch_file(path)
                outcome = "loaded"
            except CheckpointError as error:
                state, outcome = None, "refused"
                if len(str(error)) > 1000:
                    failures.append(f"{index}, {kind}: a message of {len(str(error))} letters")
            except BaseException as error:
                state, outcome = None, "failed"
                failures.append(f"{index}, {kind}: {type(error).__name__}: {error!s:.200}")
            watching = False
            signal.alarm(0)
            outcomes[f"{kind}: {outcome}"] += 1
            if seen:
                failures.append(f"{index}, {kind}: while reading, {seen}")
                seen.clear()
            if state is not None and expected is not None:
                same = state.keys() == expected.keys() and all(
                    np.array_equal(state[name], expected[name]) for name in state
                )
                if not same:
                    failures.append(f"{index}, {kind}: loaded with other values")
            elif state is not None:
                largest = max(value.nbytes for value in state.values())
                if not all(map(within_its_storage, state.values())):
                    failures.append(f"{index}, {kind}: a tensor reaches beyond its storage")
                if largest > 2 * len(content):
                    failures.append(f"{index}, {kind}: {largest} bytes from {len(content)}")
    print(json.dumps({"outcomes": outcomes, "failures": failures[:20]}))


if __name__ == "__main__":
    main()
