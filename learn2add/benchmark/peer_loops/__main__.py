"""``python -m learn2add.benchmark.peer_loops NAME EPOCHS``: train as told on standard input."""

import os
import sys
from importlib import import_module

from learn2add.benchmark.peer_loops.serving import serve


def main(name: str, epochs: str) -> None:
    """Serve one peer; what its library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module = f"learn2add.benchmark.peer_loops.{name}_loop"
    serve(lambda config: import_module(module).make_loop(config), sys.stdin, answers, int(epochs))


if __name__ == "__main__":
    main(*sys.argv[1:])
