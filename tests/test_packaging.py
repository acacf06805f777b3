"""What is delivered: the package, the set-up, and the tool that executes notebooks."""

import ast
import base64
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Where a package's module has another name.
MODULES = {"opencv-python-headless": "cv2", "pillow": "PIL", "scikit-learn": "sklearn"}


def imported(folder: Path, *, at_start: bool = False) -> set[str]:
    """Top-level modules that the Python files of a folder import, however deep in the code.

    ``at_start``: only those that importing the files themselves imports.
    """
    found = set()
    for file in folder.rglob("*.py"):
        tree = ast.parse(file.read_text())
        for node in tree.body if at_start else ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"learn2add"}


def modules(requirements: list[str]) -> set[str]:
    names = [re.match(r"[\w-]+", line).group() for line in requirements]
    return {MODULES.get(name, name) for name in names}


def test_dependencies_are_what_the_package_imports() -> None:
    extras = PROJECT["optional-dependencies"]
    optional = modules([line for name in set(extras) - {"dev"} for line in extras[name]])
    optional |= {"IPython"}
    needed = modules(PROJECT["dependencies"])
    assert needed <= imported(ROOT / "learn2add") <= needed | optional
    assert imported(ROOT / "learn2add", at_start=True) <= needed


def test_conda_users_get_the_same_list() -> None:
    lines = (ROOT / "environment.yml").read_text().splitlines()
    listed = [line.strip()[2:] for line in lines if line.strip().startswith("- ")]
    assert listed == [
        "conda-forge",
        f"python{PROJECT['requires-python']}",
        "pip",
        "pip:",
        "-e .[dev]",
    ]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_code_weights_and_kept_runs_alone(wheel: Path) -> None:
    files = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = ROOT / "learn2add"
    sources = {f"learn2add/{file.relative_to(package)}" for file in package.rglob("*.py")}
    judges = ("judge", "judge_mlp", "judge_fashion")
    names = [f"{judge}{end}" for judge in judges for end in (".safetensors", ".json")]
    weights = {f"learn2add/weights/{name}" for name in names}
    kept = {name for name in files if name.startswith("learn2add/kept_runs/")}
    assert files - kept == sources | weights
    assert "learn2add/kept_runs/part3/quick/weights.safetensors" in kept
    assert not [name for name in kept if name.endswith(("last.safetensors", ".lock"))]


def test_installed_wheel_brings_its_own_run_and_judge(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = "import learn2add.judge, learn2add.runs as r\n"
    code += "for name in learn2add.judge.WEIGHTS: learn2add.judge.load_judge(architecture=name)\n"
    code += "print(learn2add.__file__)\nrun = r.kept_run('part3/quick')\nprint(run.folder)\n"
    code += "run.model('cpu')\nprint(r.runs_root())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site), "LEARN2ADD_RUNS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    package, run, root = map(Path, done.stdout.splitlines())
    assert package == site / "learn2add" / "__init__.py"
    assert run == site / "learn2add" / "kept_runs" / "part3" / "quick"
    assert root == tmp_path / "runs"


def make(*words: object) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    command = ["make", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("target", ["run", "studies", "test", "notebooks"])
def test_set_up_is_done_once_and_again_when_the_dependencies_change(
    target: str, tmp_path: Path
) -> None:
    venv = tmp_path / "venv"
    plan = ("-n", target, f"VENV={venv}")
    assert "pip install" in make(*plan).stdout
    venv.mkdir()
    stamp = venv / "learn2add-installed"
    stamp.touch()
    assert "pip install" not in make(*plan).stdout
    os.utime(stamp, (0, 0))  # older than pyproject.toml
    assert "pip install" in make(*plan).stdout


def test_set_up_refuses_an_old_python(tmp_path: Path) -> None:
    done = make("setup", f"VENV={tmp_path / 'venv'}", "PYTHON=")
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_make_help_lists_the_two_commands() -> None:
    listed = make("help").stdout
    assert re.search(r"^  run +\w", listed, re.M)
    assert re.search(r"^  test +\w", listed, re.M)


def notebook(path: Path, *sources: str) -> Path:
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    made.metadata["kernelspec"] = {"name": "elsewhere", "display_name": "Another"}
    made.metadata["widgets"] = {"state": {}}
    nbformat.write(made, path)
    return path


def run_notebooks(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "run_notebooks.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


DRAWING = """
import sys
from pathlib import Path
import matplotlib.pyplot as plt
from tqdm.auto import tqdm
for _ in tqdm(range(3)):
    pass
print("kept", file=sys.stderr)
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


def png(pixels: np.ndarray, **options: Any) -> str:
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "PNG", **options)
    return base64.b64encode(packed.getvalue()).decode()


def pixels_of(picture: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGBA"))


@pytest.mark.parametrize("opacity", [255, 200])
def test_pictures_are_packed_without_loss(opacity: int) -> None:
    pixels = np.full((60, 90, 4), opacity, np.uint8)
    pixels[..., :3] = np.random.default_rng(0).integers(0, 4, (60, 90, 3))
    smaller = runpy.run_path(str(ROOT / "tools" / "run_notebooks.py"))["smaller"]
    found = smaller(png(pixels))
    before = len(png(pixels))
    assert len(found) < before if opacity == 255 else len(found) <= before
    np.testing.assert_array_equal(pixels_of(found), pixels)
    film = png(pixels, save_all=True, append_images=[Image.fromarray(255 - pixels)])
    assert smaller(film) == film


def test_only_notebooks_kept_in_place_have_packed_pictures(tmp_path: Path) -> None:
    """Packing takes a tenth of a second a picture; what is looked at once need not wait for it."""
    source = notebook(tmp_path / "05_any.ipynb", DRAWING)
    assert run_notebooks(source, "--out", tmp_path / "build").returncode == 0
    assert run_notebooks("--in-place", source).returncode == 0
    pictures = []
    for file in (tmp_path / "build/notebooks/05_any.ipynb", source):
        outputs = nbformat.read(file, as_version=4).cells[0].outputs
        pictures += [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    plain, packed = pictures
    assert len(packed) < len(plain)
    np.testing.assert_array_equal(pixels_of(packed), pixels_of(plain))


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


def test_kept_weights_stay_small() -> None:
    """What is kept for ever in git is cloned by everyone: runs' weights have 32 MB together."""
    weights = (ROOT / "runs").glob("part*/*/weights.safetensors")
    assert 0 < sum(file.stat().st_size for file in weights) < 32e6
