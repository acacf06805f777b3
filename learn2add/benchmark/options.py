"""What ``learn2add benchmark`` understands. Imports nothing heavy, so that ``--help`` is quick."""

from pathlib import Path
from typing import Any

NETWORKS = ("conv_transpose", "conv_upsample", "interpolation", "addition")
PEERS = ("lightning", "keras", "pythae")
EXAMPLES = """\
examples:
  learn2add benchmark --network all --peers      four networks, three libraries, one table
  learn2add benchmark --grow growth.png
  learn2add benchmark --footprint
"""


def add_benchmark(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    benchmark = commands.add_parser(
        "benchmark",
        help="compare training speed with the usual loop",
        description="Train one network in the loop that coursework usually has and in this\n"
        "project's, in turns, and compare: about a minute.",
        epilog=EXAMPLES,
    )
    add = benchmark.add_argument
    add(
        "--network",
        choices=(*NETWORKS, "all"),
        default=NETWORKS[0],
        help="an autoencoder, by its decoder, or Part III's model; default: conv_transpose",
    )
    add(
        "--peers",
        choices=PEERS,
        nargs="*",
        metavar="NAME",
        help=f"also other libraries: {', '.join(PEERS)} (no name: all); each is installed into a "
        "folder of its own under build/peers, one that cannot be is named as missing",
    )
    add("--batch-size", type=int, default=128, metavar="N", help="default: 128")
    add("--repeats", type=int, default=7, metavar="N", help="turns of each; default: 7")
    add("--steps", type=int, default=30, metavar="N", help="steps per turn; default: 30")
    add(
        "--quality",
        type=int,
        nargs="?",
        const=2,
        default=0,
        metavar="EPOCHS",
        help="also train each for whole epochs (2) and compare the error; takes minutes",
    )
    add = benchmark.add_mutually_exclusive_group().add_argument
    add(
        "--grow",
        type=Path,
        metavar="FILE.png",
        help="instead: speed against batch, code, image and data size, as a figure; takes minutes",
    )
    add(
        "--footprint",
        action="store_true",
        help="instead: time of imports, peak memory, size of the addition data",
    )
