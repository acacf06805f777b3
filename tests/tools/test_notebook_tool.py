"""The tool that executes notebooks."""

import base64
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from PIL import Image

from tools.notebooks import describe
from tools.pictures import packed

TOOL = Path(__file__).parents[2] / "tools" / "notebooks.py"


def notebook(path: Path, *sources: str) -> Path:
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    made.metadata["kernelspec"] = {"name": "elsewhere", "display_name": "Another"}
    made.metadata["widgets"] = {"state": {}}
    nbformat.write(made, path)
    return path


def run_notebooks(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


DRAWING = """
import sys
from pathlib import Path
import matplotlib.pyplot as plt
from tqdm import tqdm
for _ in tqdm(range(3)):
    pass
print("kept", file=sys.stderr)
print()  # what a bar may leave on a stream of its own
plt.plot([1, 2]);
"""


def test_notebooks_are_executed_by_this_python_and_tidied(tmp_path: Path) -> None:
    source = notebook(tmp_path / "05_any.ipynb", "import sys; sys.executable", DRAWING)
    before = source.read_bytes()
    done = run_notebooks(source, "--out", tmp_path / "build")
    assert done.returncode == 0, done.stderr
    assert source.read_bytes() == before
    executed = nbformat.read(tmp_path / "build/notebooks/05_any.ipynb", as_version=4)
    first, second = executed.cells
    assert [first.execution_count, second.execution_count] == [1, 2]
    assert first.outputs[0].data["text/plain"] == repr(sys.executable)
    assert [o.text for o in second.outputs if o.output_type == "stream"] == ["kept"]
    assert executed.metadata["kernelspec"]["name"] == "python3"
    assert set(executed.metadata) == {"kernelspec", "language_info"}
    assert first.metadata == second.metadata == {}
    picture = (tmp_path / "build/pictures/05_any-01.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


BAR, REST = "  0%|          | 0/3\r100%|##########| 3/3", "\nkept\n"
ORDERS = (
    (("stderr", BAR + REST), ("stdout", "said\n")),
    (("stderr", BAR), ("stdout", "said\n"), ("stderr", REST)),
    (("stdout", "sa"), ("stderr", BAR), ("stdout", "id\n"), ("stderr", REST)),
)


def test_where_two_streams_cut_one_another_does_not_matter(tmp_path: Path) -> None:
    """Bars on one stream, prints on the other: each is flushed when it happens to be."""
    code = (
        "import sys\nfor name, text in {}:\n    print(end=text, file=vars(sys)[name], flush=True)"
    )
    source = notebook(tmp_path / "05_cut.ipynb", *(code.format(order) for order in ORDERS))
    done = run_notebooks(source, "--in-place")
    assert done.returncode == 0, done.stderr
    for cell in nbformat.read(source, as_version=4).cells:
        assert {o.name: o.text for o in cell.outputs} == {"stderr": "kept", "stdout": "said\n"}


def png(pixels: np.ndarray, **options: Any) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", optimize=True, **options)
    return content.getvalue()


def pixels_of(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def test_a_picture_keeps_its_own_words() -> None:
    data = {"image/png": "", "text/plain": "<IPython.core.display.Image object>"}
    own = {"image/png": {"alt": "Ten digits"}}
    output = nbformat.v4.new_output("display_data", data, metadata=own)
    describe(output, "Image(path)  # a comment")
    assert output.metadata == own


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("opacity", [255, 200])
def test_pictures_are_packed_without_loss(opacity: int, grey: bool) -> None:
    pixels = np.full((60, 90, 4), opacity, np.uint8)
    pixels[..., :3] = np.random.default_rng(0).integers(0, 4, (60, 90, 1 if grey else 3))
    plain = png(pixels)
    found = packed(plain)
    np.testing.assert_array_equal(pixels_of(found), pixels)
    if opacity == 255:
        assert len(found) < len(plain)
        assert Image.open(io.BytesIO(found)).mode == ("L" if grey else "RGB")
    else:
        assert found == plain
    film = png(pixels, save_all=True, append_images=[Image.fromarray(255 - pixels)])
    assert packed(film) == film


def test_only_notebooks_kept_in_place_have_packed_pictures(tmp_path: Path) -> None:
    """Packing takes a tenth of a second a picture; what is looked at once need not wait for it."""
    source = notebook(tmp_path / "05_any.ipynb", DRAWING)
    assert run_notebooks(source, "--out", tmp_path / "build").returncode == 0
    assert run_notebooks("--in-place", source).returncode == 0
    pictures = []
    for file in (tmp_path / "build/notebooks/05_any.ipynb", source):
        outputs = nbformat.read(file, as_version=4).cells[0].outputs
        pictures += [
            base64.b64decode(o.data["image/png"])
            for o in outputs
            if "image/png" in o.get("data", {})
        ]
    plain, kept = pictures
    assert len(kept) < len(plain)
    np.testing.assert_array_equal(pixels_of(kept), pixels_of(plain))


MEETING = """
import os, time
from pathlib import Path
Path("here-{own}").touch()
for _ in range(600):  # the other one is executed at the same time
    if Path("here-{other}").exists():
        break
    time.sleep(0.1)
print(Path("here-{other}").exists(), os.environ["LEARN2ADD_BUDGET"], os.environ["OMP_NUM_THREADS"])
"""


def test_two_notebooks_at_a_time_each_under_its_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEARN2ADD_BUDGET", "smoke")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    one = notebook(tmp_path / "01_one.ipynb", MEETING.format(own=1, other=2))
    two = notebook(tmp_path / "02_two.ipynb", MEETING.format(own=2, other=1))
    done = run_notebooks("--jobs", 2, one, f"{two}=quick", "--out", tmp_path / "build")
    assert done.returncode == 0, done.stderr
    share = max(1, os.cpu_count() // 2)
    for name, budget in (("01_one", "smoke"), ("02_two", "quick")):
        executed = nbformat.read(tmp_path / f"build/notebooks/{name}.ipynb", as_version=4)
        assert executed.cells[0].outputs[0].text == f"True {budget} {share}\n"


def test_a_failing_notebook_stops_the_run_and_spares_its_source(tmp_path: Path) -> None:
    source = notebook(tmp_path / "06_bad.ipynb", "1 + 1", "{}['no such key']")
    later = notebook(tmp_path / "07_later.ipynb", "1 + 1")
    before = source.read_bytes(), later.read_bytes()
    done = run_notebooks("--in-place", source, later)
    assert done.returncode == 1
    assert "no such key" in done.stderr
    assert "06_bad failed" in done.stderr
    assert (source.read_bytes(), later.read_bytes()) == before
