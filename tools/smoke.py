"""One run of each kind in minutes, on any system: ``python tools/smoke.py``.

What a newcomer does first: find the digits, train each part, evaluate, draw the sum of an own
image. What it trains means nothing; the status is 1 if a step fails.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2

from learn2add.data import load_digits

STEPS = (
    "data",
    "train part2 --decoder interpolation --folder {0}/part2",
    "train part3 --folder {0}/part3",
    "train part3 --operation subtract --folder {0}/subtract",
    "train part4 --model variational_addition --folder {0}/variational",
    "train part4 --folder {0}/generative",
    "evaluate {0}/part2 --split validation",
    "evaluate part3/hand --split validation --json {0}/hand.json",
    "add {0}/seven.png 2 -o {0}/nine.png --show-input",
)


def main() -> int:
    """Run the steps; return how many failed, at most 1."""
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        seven = cv2.resize(255 - load_digits(split="test").images[0].numpy(), (280, 280))
        Path(folder, "seven.png").write_bytes(cv2.imencode(".png", seven)[1].tobytes())
        for step in STEPS:
            words = step.format(folder).split()
            print(f"\nlearn2add {' '.join(words)}", flush=True)
            settings = os.environ | {"LEARN2ADD_BUDGET": "smoke"}
            done = subprocess.run([sys.executable, "-m", "learn2add", *words], env=settings)
            if done.returncode:
                failed.append(step)
    print(f"\n{len(STEPS) - len(failed)} of {len(STEPS)} steps worked", *failed, sep="\n")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
