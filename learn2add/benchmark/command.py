"""What ``learn2add benchmark`` does with its options."""

import argparse
import sys

from learn2add.benchmark.compare import compare
from learn2add.benchmark.networks import NETWORKS
from learn2add.benchmark.peers import PEERS
from learn2add.benchmark.table import table


def report(arguments: argparse.Namespace) -> str:
    """Measure what the options ask for; what is to be printed.

    Raises:
        TypeError, ValueError: An option is not allowed.
    """
    networks = NETWORKS if arguments.network == "all" else (arguments.network,)
    peers = arguments.peers
    found = [
        compare(
            network,
            batch_size=arguments.batch_size,
            steps=arguments.steps,
            repeats=arguments.repeats,
            epochs=arguments.quality,
            peers=() if peers is None else peers or tuple(PEERS),
            say=_say,
        )
        for network in networks
    ]
    return table(found, arguments.quality)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
