"""Execute notebooks from top to bottom: ``python tools/notebooks.py``.

Each in a fresh kernel of this Python, with its progress shown. Used by ``make run`` (results into
build/) and ``make notebooks`` (``--in-place``, to be kept in git). ``03_addition.ipynb=quick``
executes one under a budget of its own; ``--jobs 2`` executes two at a time, each with half of the
processor's threads. What would differ from one execution to the next for no reason is left out of
the result: times, progress bars, widget states.
"""

import argparse
import asyncio
import base64
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))

from learn2add.checkpoints import write_atomically
from tools.pictures import packed

ROOT = Path(__file__).parents[1]
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
BAR = re.compile(r"\d%\|.*\|")
WIDGET = "application/vnd.jupyter.widget-view+json"


class ThisPythonSpec(KernelSpecManager):
    """Knows one kernel, this Python, whatever kernels the user has installed."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The kernel of the running interpreter, for every name."""
        quiet = ["--IPKernelApp.log_level=ERROR"]  # kernels tell every time that they use TCP
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict(extra_arguments=quiet))


class ThisPython(AsyncKernelManager):
    """Starts kernels of this Python."""

    def _kernel_spec_manager_default(self) -> KernelSpecManager:
        return ThisPythonSpec()


class Client(NotebookClient):
    """Executes a notebook and shows on a bar where it is."""

    def __init__(self, notebook: NotebookNode, folder: Path, bar: tqdm) -> None:
        super().__init__(
            notebook,
            timeout=None,
            kernel_name="python3",
            kernel_manager_class=ThisPython,
            resources={"metadata": {"path": str(folder)}},
            store_widget_state=False,
            record_timing=False,
            coalesce_streams=True,  # they are flushed apart: where they cut one another is chance
        )
        self.bar = bar
        self.on_cell_start = self.show_cell

    def show_cell(self, cell: NotebookNode, cell_index: int) -> None:
        """Move the bar to a cell."""
        self.bar.n = cell_index
        if cell.cell_type == "code":
            self.bar.set_postfix_str(cell.source.split("\n")[0][:40], refresh=sys.stderr.isatty())

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> Any:
        """Let a bar within the notebook (a training) shine through."""
        if msg["msg_type"] == "stream" and msg["content"]["name"] == "stderr":
            line = re.split(r"[\r\n]", msg["content"]["text"].strip())[-1]
            if BAR.search(line):
                self.bar.set_postfix_str(BAR.sub("%", line).strip(), refresh=False)
        return super().process_message(msg, cell, cell_index)


async def execute(
    notebook: NotebookNode, folder: Path, name: str, environment: dict[str, str]
) -> None:
    """Execute a notebook in place, in ``folder``, with a bar over its cells."""
    seconds = 1 if sys.stderr.isatty() else 30  # a log needs fewer lines than a terminal
    form = "{desc} {n_fmt}/{total_fmt} cells [{elapsed}{postfix}]"
    with tqdm(total=len(notebook.cells), desc=name, bar_format=form, miniters=1) as bar:

        async def beat() -> None:
            while True:
                await asyncio.sleep(seconds)
                bar.refresh()

        beating = asyncio.ensure_future(beat())
        try:
            await Client(notebook, folder, bar).async_execute(env=environment)
            bar.n = bar.total
            bar.set_postfix_str("done")
        finally:
            beating.cancel()


def tidy(notebook: NotebookNode) -> None:
    """Take out what differs between executions for no reason; execution counts stay."""
    notebook.metadata = NotebookNode(METADATA)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = NotebookNode({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not is_progress(output)]
            for output in cell.outputs:
                describe(output, cell.source)


def describe(output: NotebookNode, source: str) -> None:
    """Give an image its words as alternative text, where pages made of notebooks look for it.

    A figure that knows none but its size is given the comment of its cell; a picture may bring its
    own words.
    """
    data = output.get("data", {})
    if "image/png" in data:
        own = output.metadata.get("image/png", {}).get("alt")
        words = own or data.get("text/plain", "")
        comment = re.search(r"# (.+)", source)
        if words.startswith("<Figure") and comment:
            words = comment[1]
        output.metadata = NotebookNode({"image/png": {"alt": words}} if words else {})


def is_progress(output: NotebookNode) -> bool:
    """Whether an output is nothing but a progress bar; lines of bars are taken out of others.

    A widget is such a bar unless it brings a picture: then the picture alone stays, for without
    its kernel a widget is dead and would hide it.
    """
    data = output.get("data", {})
    if data.pop(WIDGET, None) is not None:
        return "image/png" not in data
    if output.output_type != "stream":
        return False
    if BAR.search(output.text):
        lines = re.split(r"[\r\n]+", output.text)
        output.text = "\n".join(line for line in lines if not BAR.search(line)).strip("\n")
    return not output.text.strip()  # a bar may leave an empty line on a stream of its own


def pictures_of(notebook: NotebookNode) -> list[NotebookNode]:
    """The data of each output that has a picture, in order."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.data for output in outputs if "image/png" in output.get("data", {})]


def pack_pictures(notebook: NotebookNode) -> None:
    """Keep each picture in fewer bytes."""
    for data in pictures_of(notebook):
        png = base64.b64decode(data["image/png"])
        data["image/png"] = base64.b64encode(packed(png)).decode()


def save_pictures(notebook: NotebookNode, name: str, folder: Path) -> int:
    """Write each figure of a notebook as ``folder/<name>-<number>.png``; return how many."""
    pictures = [data["image/png"] for data in pictures_of(notebook)]
    for old in folder.glob(f"{name}-*.png"):
        old.unlink()
    for number, picture in enumerate(pictures, 1):
        write_atomically(folder / f"{name}-{number:02d}.png", base64.b64decode(picture))
    return len(pictures)


async def run(path: Path, target: Path, pictures: Path | None, environment: dict[str, str]) -> bool:
    """Execute the notebook at ``path`` and write it to ``target``; say whether it worked.

    One that fails is written too, for a look at it, unless it would replace its own source.
    """
    start = time.monotonic()
    notebook = nbformat.read(path, as_version=4)
    failure = None
    try:
        await execute(notebook, path.parent, path.stem, environment)
    except (CellExecutionError, DeadKernelError) as error:
        failure = error
    tidy(notebook)
    if target == path:  # to be cloned by everyone; for a look at them they need no packing
        pack_pictures(notebook)
    if failure is None or target != path:
        write_atomically(target, nbformat.writes(notebook) + "\n")
    if failure is not None:
        print(f"{failure}\n{path.stem} failed", file=sys.stderr)
        return False
    count = save_pictures(notebook, path.stem, pictures) if pictures else 0
    minutes, seconds = divmod(round(time.monotonic() - start), 60)
    print(f"{path.stem}: {minutes}:{seconds:02d} minutes, {count} pictures saved", flush=True)
    return True


async def run_all(arguments: argparse.Namespace) -> bool:
    """Run the notebooks, ``jobs`` at a time; after one has failed no other is begun."""
    everything = map(str, sorted((ROOT / "notebooks").glob("*.ipynb")))
    waiting, succeeded = iter(arguments.notebooks or everything), True
    common = dict(os.environ)
    if arguments.jobs > 1:
        share = max(1, (os.cpu_count() or 1) // arguments.jobs)
        common.setdefault("OMP_NUM_THREADS", str(share))

    async def work() -> None:
        nonlocal succeeded
        for word in waiting:
            name, _, budget = word.partition("=")
            path = Path(name).resolve()
            target = path if arguments.in_place else arguments.out / "notebooks" / path.name
            pictures = None if arguments.in_place else arguments.out / "pictures"
            own = common | ({"LEARN2ADD_BUDGET": budget} if budget else {})
            succeeded = await run(path, target, pictures, own) and succeeded
            if not succeeded:
                return

    await asyncio.gather(*(work() for _ in range(arguments.jobs)))
    return succeeded


def main() -> int:
    """Run as a script: status 1 if a notebook failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "notebooks", nargs="*", metavar="NOTEBOOK[=BUDGET]", help="default: all in notebooks/"
    )
    parser.add_argument("--jobs", type=int, default=1, help="so many at a time; default: 1")
    parser.add_argument("--in-place", action="store_true", help="replace the notebooks themselves")
    parser.add_argument("--out", type=Path, default=ROOT / "build", help="default: build/")
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        parser.error(f"--jobs is {arguments.jobs}; allowed is 1 or more")
    for name in ("LEARN2ADD_DATA", "LEARN2ADD_CACHE", "LEARN2ADD_RUNS"):
        if folder := os.environ.get(name):  # kernels run in the notebooks' folder
            os.environ[name] = str(Path(folder).expanduser().resolve())
    os.environ.pop("MPLBACKEND", None)  # would keep figures out of the notebooks
    with tempfile.TemporaryDirectory() as settings:  # instead of the user's own
        os.environ["IPYTHONDIR"] = settings
        return 0 if asyncio.run(run_all(arguments)) else 1


if __name__ == "__main__":
    sys.exit(main())
