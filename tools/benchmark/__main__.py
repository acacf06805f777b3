"""Compare training speeds: ``python -m tools.benchmark``.

Train one network in the loop that coursework usually has and in this project's, in turns, and
compare: about a minute. With --network all --peers four networks, three libraries, one table.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from learn2add.hardware import default_device, default_precision, describe
from tools.benchmark.compare import compare, table
from tools.benchmark.figure import growth_curves
from tools.benchmark.footprint import footprint_table
from tools.benchmark.growth import growth, growth_table
from tools.benchmark.networks import NETWORKS
from tools.benchmark.peers import PEERS


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    parser = argparse.ArgumentParser("tools.benchmark", description=__doc__)
    add, count = parser.add_argument, {"type": int, "metavar": "N"}
    which = {"choices": (*NETWORKS, "all"), "default": "conv_transpose"}
    add("--network", **which, help="an autoencoder, by its decoder, or Part III's model")
    libraries = f"also other libraries: {', '.join(PEERS)} (no name: all); each is installed into "
    libraries += "a folder of its own under build/peers, one that cannot be is named as missing"
    add("--peers", choices=tuple(PEERS), nargs="*", metavar="NAME", help=libraries)
    add("--batch-size", **count, default=128, help="default: 128")
    add("--repeats", **count, default=7, help="turns of each; default: 7")
    add("--steps", **count, default=30, help="steps per turn; default: 30")
    quality = "also train each for whole epochs (2) and compare the error; takes minutes"
    epochs = {"type": int, "nargs": "?", "const": 2, "default": 0, "metavar": "EPOCHS"}
    add("--quality", **epochs, help=quality)
    add = parser.add_mutually_exclusive_group().add_argument
    grow = "instead: speed against batch, code, image and data size, as a figure; takes minutes"
    add("--grow", type=Path, metavar="FILE.png", help=grow)
    footprint = "instead: time of imports, peak memory, size of the addition data"
    add("--footprint", action="store_true", help=footprint)
    return parser


def report(arguments: argparse.Namespace) -> str:
    """Measure what the options ask for; return what is to be printed.

    Raises:
        TypeError, ValueError: An option is not allowed.
        OSError: The figure cannot be written.
    """
    if arguments.footprint:
        return footprint_table(arguments.repeats, arguments.batch_size)
    how = {name: getattr(arguments, name) for name in ("batch_size", "steps", "repeats")}
    how["say"] = lambda line: print(line, file=sys.stderr, flush=True)
    if arguments.grow:
        return _growth(arguments.network, arguments.grow, how)
    networks = NETWORKS if arguments.network == "all" else (arguments.network,)
    peers = arguments.peers
    how |= {"peers": () if peers is None else peers or tuple(PEERS), "epochs": arguments.quality}
    return table([compare(network, **how) for network in networks], arguments.quality)


def _growth(network: str, file: Path, how: dict[str, Any]) -> str:
    """Measure, write the figure, and return the numbers."""
    if not file.resolve().parent.is_dir():
        raise ValueError(f"--grow is {file}; allowed is a file in a folder that exists")
    found, machine = growth(network, **how), describe()
    figure = growth_curves(
        found,
        ylabel="images/s",
        title=f"Training speed as the work grows: {network}",
        caption=f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}, "
        f"{default_precision(default_device())}; else batch {how['batch_size']}, code 7, "
        f"28 x 28 pixels, 50,000 digits; median and range of {how['repeats']} turns",
    )
    figure.savefig(file, format="png", dpi=150)
    return f"{growth_table(found)}\n\nwrote {file}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; status 0 if it worked, 2 if it could not."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    try:
        print(report(arguments))
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        print(f"{parser.prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
