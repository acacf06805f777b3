"""What the command line understands. Imports nothing heavy, so that ``--help`` is quick."""

import argparse
from pathlib import Path
from typing import Any, NoReturn

import learn2add
from learn2add.benchmark.options import add_benchmark

DATASETS = ("MNIST", "FashionMNIST")
DECODERS = ("conv_transpose", "conv_upsample", "interpolation")
BUDGETS = ("reference", "quick", "smoke")
BALANCES = ("natural", "sums", "cells", "digits", "mixed")
PARTNERS = ("drawn", "batch")
JUDGES = ("cnn", "mlp")
GENERATIVE = ("variational_addition", "generative_addition")
WEIGHTS = {
    "l2_orig": "reconstruction of the input",
    "l2_added": "picture of the sum",
    "code": "difference of the two codes of the sum",
    "kld_encoder": "divergence of codes from N(0, I)",
    "kld_adder": "divergence of sums from N(0, I)",
    "match": "divergence of sums from the codes of their targets",
    "contrast": "right pictures' codes against all others'",
    "temperature": "factor on the adder's noise where sums are drawn",
}
HELD_OUT = ((0, 3), (0, 8), (1, 6), (2, 2), (2, 5), (3, 4), (4, 1), (5, 3), (6, 2), (7, 1))
"""Ten (digit, addend) cells; each of their digits, addends and sums occurs in others."""
DEFAULT_RUN = "part3/quick"

EXAMPLES = """\
examples:
  learn2add data                              find or fetch the digits
  learn2add train part2                       an autoencoder, in about a minute
  learn2add train part3                       a network that adds, in minutes
  learn2add evaluate part3/quick              how good is it?
  learn2add add seven.png 2 -o nine.png       7 + 2, as a picture
Each command explains itself: learn2add train --help
"""
TRAIN_EXAMPLES = """\
examples:
  learn2add train part2 --loss bce --code-size 7
  learn2add train part2 --budget reference      the assignment's 100 epochs
  learn2add train part2 --epochs 12 --steps 0 --schedule one_cycle --learning-rate 0.003
  learn2add train part3 --seed 1 --folder my_runs/adder

A training that was stopped goes on where it was when the same command is given again; one that is
complete is loaded. TensorBoard shows the curves: tensorboard --logdir FOLDER
"""


class Parser(argparse.ArgumentParser):
    """Reports a mistake in one line, as the commands do."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Print the mistake and leave with status 2."""
        self.exit(2, f"learn2add: error: {message} (see {self.prog} --help)\n")


def make_parser() -> Parser:
    """The parser of all commands; the chosen command's name is left in ``command``."""
    parser = Parser(
        prog="learn2add",
        description="Networks that add a number to the picture of a digit.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=learn2add.__version__)
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True
    )
    data = commands.add_parser(
        "data",
        help="find, or fetch, and verify the digits",
        description="Find the digits (in the folder LEARN2ADD_DATA, then in the cache) or fetch\n"
        "them; verify them against the official checksums; say where they are.",
    )
    data.add_argument("--dataset", choices=DATASETS, default="MNIST", help="default: MNIST")
    _train(commands)
    _reference(commands)
    _evaluate(commands)
    _add(commands)
    _judge(commands)
    add_benchmark(commands)
    return parser


def _train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train an autoencoder (part2) or a network that adds (part3, part4)",
        description="Train by the recipe of a part and a budget. An option left out is as the\n"
        "recipe has it.",
        epilog=TRAIN_EXAMPLES,
    )
    add = train.add_argument
    add(
        "part", choices=("part2", "part3", "part4"), help="reconstruct; add; add with distributions"
    )
    add("--model", choices=GENERATIVE, help="part4: which; default: generative_addition")
    add("--budget", choices=BUDGETS, help="which recipe; default: LEARN2ADD_BUDGET, else quick")
    add("--folder", type=Path, help="where to put the run; default: a name under runs/")
    add("--decoder", choices=DECODERS, help="default: conv_transpose")
    add("--code-size", type=int, metavar="N", help="numbers in the code, 1 to 128")
    add("--image-size", type=int, metavar="N", help="side of the pictures: 28, 32 or 64")
    add("--hidden", choices=("linear", "relu"), help="between the encoder's linear layers")
    add("--channels", type=int, nargs=3, metavar="N", help="filters of the three convolutions")
    add("--units", type=int, metavar="N", help="hidden neurons between convolutions and code")
    add("--dropout", type=float, metavar="X", help="share of them that each step leaves out")
    add(
        "--held-out",
        action="store_const",
        const=HELD_OUT,
        help="never train ten of the 55 sums: " + ", ".join(f"{d}+{a}" for d, a in HELD_OUT),
    )
    add(
        "--embed-addend",
        action=argparse.BooleanOptionalAction,
        help="part3, part4: whether the adder embeds the addend first",
    )
    add("--seed", type=int, metavar="N", help="decides initial weights and order of the data")
    add("--precision", choices=("float32", "bfloat16"), help="default: the faster one here")
    add = train.add_argument_group("weights of the loss (part3, part4)").add_argument
    for name, meaning in WEIGHTS.items():
        add(f"--{name.replace('_', '-')}", type=float, metavar="X", help=meaning)
    add = train.add_argument_group("training (where it has several stages: the last)").add_argument
    add("--loss", choices=("l2", "bce"), help="picture loss")
    add("--epochs", type=int, metavar="N", help="how often figures and a checkpoint are taken")
    add("--steps", type=int, metavar="N", help="optimiser steps per epoch; 0: one pass over all")
    add("--batch-size", type=int, metavar="N", help="pictures, or pairs, per step")
    add("--learning-rate", type=float, metavar="X", help="Adam's; under one_cycle its peak")
    add("--balance", choices=BALANCES, help="part3: which sums are drawn how often")
    add("--partners", choices=PARTNERS, help="part3: one partner each, or all of a batch")
    add("--optimiser", choices=("adam", "muon"), help="of the large matrices; the rest is Adam's")
    add("--beta2", type=float, metavar="X", help="decay rate of Adam's squared gradients")
    add("--momentum", type=float, metavar="X", help="Muon's: how slowly it forgets gradients")
    add("--weight-decay", type=float, metavar="X", help="Adam's L2 term, beside a sum over pixels")
    add("--schedule", choices=("constant", "one_cycle"), help="of the learning rate")
    add("--rise", type=float, metavar="X", help="one_cycle: share of the steps in which it goes up")
    add("--shift", type=int, metavar="N", help="move training pictures by up to N pixels")
    add("--deform", type=float, metavar="X", help="deform training pictures a little; usual: 1")
    add("--noise", type=float, metavar="X", help="part2: show noisy pictures, redraw clean ones")
    add("--occlude", type=int, metavar="N", help="part2: black out squares of up to N pixels")
    add("--distort", type=float, metavar="X", help="part2: show deformed pictures, undo it")
    add("--patience", type=int, metavar="N", help="stop after N epochs without a better one")


def _reference(commands: Any) -> None:
    reference = commands.add_parser(
        "reference",
        help="train all runs of the assignment's own setting",
        description="Train every run of the assignment's own setting that is missing, 100 epochs\n"
        "each, and go on with those that were cut off: minutes each on a GPU, hours on a CPU.\n"
        "The notebooks then show them under LEARN2ADD_BUDGET=reference.",
    )
    reference.add_argument("--list", action="store_true", help="only say what there is")
    which = reference.add_mutually_exclusive_group()
    which.add_argument(
        "--beside",
        action="store_true",
        help="instead: the runs beside them, with a schedule, Muon and more, or with a ReLU",
    )
    which.add_argument(
        "--budget", choices=BUDGETS, default="reference", help="another setting for the same runs"
    )


def _evaluate(commands: Any) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="measure a trained run on the test digits",
        description="Measure a run: reconstruction error; how often the judge, an independent\n"
        "classifier, reads the right sum; the squared error beside its floors.",
    )
    evaluate.add_argument("run", metavar="RUN", help=f"its folder, or its name: {DEFAULT_RUN}")
    evaluate.add_argument(
        "--split", choices=("test", "validation"), default="test", help="default: test"
    )
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    evaluate.add_argument(
        "--figures",
        type=Path,
        metavar="FOLDER",
        help="also draw the evidence here as PNG (a run that adds; some minutes)",
    )


def _add(commands: Any) -> None:
    add = commands.add_parser(
        "add",
        help="add a number to your own picture of a digit",
        description="Read the picture of one handwritten digit (any size, dark on light or light\n"
        "on dark), add a number, and draw the picture of the sum.",
        epilog="example:\n  learn2add add seven.png 2 -o nine.png --show-input",
    )
    add.add_argument("image", metavar="IMAGE", help="PNG or JPEG of one digit")
    add.add_argument("addend", metavar="ADDEND", type=float, help="number to add: 2, or 1.5")
    add.add_argument(
        "-o", "--output", required=True, type=Path, metavar="OUT.png", help="write the sum here"
    )
    add.add_argument(
        "--run", metavar="RUN", help=f"folder or name of a run; default: {DEFAULT_RUN}"
    )
    add.add_argument("--show-input", action="store_true", help="input and sum side by side")


def _judge(commands: Any) -> None:
    judge = commands.add_parser(
        "judge",
        help="train a judge anew",
        description="Train a judge and replace its weights in the package: 3 to 5 minutes.",
    )
    judge.add_argument(
        "--architecture",
        choices=JUDGES,
        default="cnn",
        help="cnn: the judge of all figures (default); mlp: the second opinion",
    )
    judge.add_argument(
        "--dataset",
        choices=("MNIST", "FashionMNIST"),
        default="MNIST",
        help="what it is to read; default: MNIST",
    )
    judge.add_argument("--seed", type=int, default=0, help="default: 0, as for the kept weights")
    judge.add_argument("--epochs", type=int, help="default: as for the kept weights")
    judge.add_argument("-o", "--output", type=Path, metavar="FILE.safetensors", help="write here")
