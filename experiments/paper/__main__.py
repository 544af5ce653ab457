"""Make the paper's tables and figures anew: count, train on digit scenes, draw.

`python -m experiments.paper --out FOLDER`; the same command goes on with what it left there.
"""

import argparse
import sys
from pathlib import Path

from experiments.paper.rows import ABLATIONS
from experiments.paper.run import QUICK_ROWS, run_paper
from keras_parc.training.fit import Interrupted


def main(arguments: list[str] | None = None) -> int:
    """Run the command; status 75: stopped by SIGTERM, 2: something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m experiments.paper", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of tables and figures")
    parser.add_argument("--rows", type=int, nargs="*", default=[], help="rows of Table 2 to train")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each row")
    parser.add_argument("--quick", action="store_true", help="learns nothing: see that it runs")
    parser.add_argument(
        "--speed", type=Path, default=Path("tflite/results"), help="what `make benchmark` wrote"
    )
    args = parser.parse_args(arguments)
    every = QUICK_ROWS if args.quick else [row.number for row in ABLATIONS]
    try:
        page = run_paper(
            args.out,
            rows=args.rows or every,
            seeds=args.seeds,
            quick=args.quick,
            speed=args.speed,
        )
    except Interrupted as stopped:
        print(f"{stopped}; the same command goes on from there", file=sys.stderr)
        return 75
    except (OSError, ValueError) as error:
        print(f"experiments.paper: {error}", file=sys.stderr)
        return 2
    print(f"The tables are in {page}, the figures beside it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
