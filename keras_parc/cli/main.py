"""The command `keras-parc`: its subcommands, and how a mistake ends."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Annotated

import typer

from keras_parc.cli import (
    benchmark,
    check,
    demo,
    evaluate,
    export,
    import_,
    package,
    predict,
    presets,
    report,
    serve,
    train,
)
from keras_parc.cli.console import import_module
from keras_parc.support.extras import needs_extra
from keras_parc.support.notices import show_notices
from keras_parc.support.text import printable
from keras_parc.support.version import VERSION

app = typer.Typer(
    help="From a Keras vision model to a fast, correct int8 .tflite, with ParC-Net as the zoo.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


# What a wrong command line raises; Typer names only its subclasses.
UsageError = typer.BadParameter.__base__


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"keras_parc {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Also print what TensorFlow logs.")
    ] = False,
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            help="Import a module of yours first, one that calls keras_parc.register_model; "
            "repeatable.",
        ),
    ] = None,
) -> None:
    show_notices(verbose)
    for name in modules or ():
        import_module(name)


app.command()(demo.demo)
app.command()(check.check)
app.command()(train.train)
app.command()(report.report)
app.command()(predict.predict)
app.command()(evaluate.evaluate)
app.command()(export.export)
app.command()(serve.serve)
app.command()(package.package)
app.command()(benchmark.benchmark)
app.command()(benchmark.benchmark_data)
app.command("import")(import_.import_)
app.command()(presets.presets)


INTERRUPTED = 130  # by Ctrl-C, as shells have it; Typer returns it


def main() -> None:
    """Run the command; a user's mistake ends in one line and status 2."""
    try:
        with needs_extra(), _ctrl_c_arrives():
            status = app(prog_name="keras-parc", standalone_mode=False)
    except typer.Abort:
        status = INTERRUPTED
    except UsageError as error:
        if message := error.format_message():  # none where the help was printed
            print(f"keras-parc: {message.rstrip('.')}.{_see(error)}", file=sys.stderr)
        sys.exit(2)
    except (ImportError, OSError, RuntimeError, ValueError, FloatingPointError) as error:
        print(f"keras-parc: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)
    except MemoryError as error:
        print(f"keras-parc: Memory ran out: {error or 'no more is known'}", file=sys.stderr)
        sys.exit(2)
    if status == INTERRUPTED:
        print("keras-parc: stopped", file=sys.stderr)
    sys.exit(status if isinstance(status, int) else 0)


@contextlib.contextmanager
def _ctrl_c_arrives() -> Iterator[None]:
    """Send Ctrl-C again where Python drops it: in a callback of the garbage collector (JAX)."""
    before = sys.unraisablehook

    def hook(dropped) -> None:
        if dropped.exc_type is KeyboardInterrupt:
            # After the callback; to the process, so that it also ends a wait.
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            before(dropped)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _see(error: UsageError) -> str:
    return f" See {error.ctx.command_path} --help" if error.ctx else ""
