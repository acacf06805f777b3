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
        OSError: The figure cannot be written.
    """
    if arguments.footprint:
        from learn2add.benchmark.footprint import footprint_table

        return footprint_table(arguments.repeats, arguments.batch_size)
    if arguments.grow:
        return _growth(arguments)
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


def _growth(arguments: argparse.Namespace) -> str:
    """Measure, write the figure, and return the figures."""
    from learn2add.benchmark.growth import growth, growth_table
    from learn2add.figures import growth_curves
    from learn2add.hardware import default_device, default_precision, describe

    if arguments.network == "all":
        raise ValueError("network must be one of the decoders where sizes grow, not 'all'")
    if not arguments.grow.resolve().parent.is_dir():
        raise ValueError(f"--grow names {arguments.grow}, but its folder does not exist")
    found = growth(
        arguments.network,
        batch_size=arguments.batch_size,
        steps=arguments.steps,
        repeats=arguments.repeats,
        say=_say,
    )
    machine = describe()
    figure = growth_curves(
        {quantity: grown._asdict() for quantity, grown in found.items()},
        ylabel="images/s",
        title=f"Training speed as the work grows: {arguments.network}",
        caption=f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}, "
        f"{default_precision(default_device())}; else batch {arguments.batch_size}, code 7, "
        f"28 x 28 pixels, 50,000 digits; median and range of {arguments.repeats} turns",
    )
    figure.savefig(arguments.grow, format="png", dpi=150)
    return f"{growth_table(found)}\n\nwrote {arguments.grow}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
