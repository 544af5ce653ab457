"""What a run says while it trains."""

import io
import itertools

from rich.console import Console

from keras_parc.support import progress


def test_without_a_terminal_a_line_now_and_then(monkeypatch):
    clock = itertools.count(0, 10)
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    console = Console(file=io.StringIO())
    with progress.ProgressBar(steps=9, console=console) as bar:
        bar.begin([(64, 32)] * 9, done=0)
        for batch in range(9):
            bar.on_train_batch_begin(batch)
            bar.on_train_batch_end(batch, {"loss": 0.5})
    lines = console.file.getvalue().splitlines()
    steps = [int(line.split()[1].partition("/")[0]) for line in lines]
    assert 2 <= len(steps) < 9
    assert steps == sorted(set(steps))
    assert all("/9  loss 0.5" in line for line in lines)
