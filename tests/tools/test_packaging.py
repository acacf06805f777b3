"""What is delivered: the package and the set-up."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
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
    within_torch = {"tensorboard"}  # torch.utils.tensorboard imports it
    assert needed - within_torch <= imported(ROOT / "learn2add") <= needed | optional
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
    ends = (".js", ".css", ".html")
    page = {f"learn2add/page/{f.name}" for f in (package / "page").iterdir() if f.suffix in ends}
    assert len(page) == 5
    assert files - kept == sources | weights | page
    assert "learn2add/kept_runs/part3/quick/weights.safetensors" in kept
    runs, ignored = ROOT / "runs", (ROOT / ".gitignore").read_text().split()
    places = [p for p in runs.iterdir() if p.is_dir() and f"runs/{p.name}/" not in ignored]
    figures = [file.relative_to(runs) for place in places for file in place.rglob("*.json")]
    assert len(figures) > 100 and {f"learn2add/kept_runs/{file}" for file in figures} <= kept
    assert not [name for name in kept if name.endswith(("last.safetensors", ".lock"))]


def test_installed_wheel_brings_its_own_run_and_judge(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = "import learn2add.judge, learn2add.runs as r\n"
    code += "for name in learn2add.judge.WEIGHTS: learn2add.judge.load_judge(architecture=name)\n"
    code += "print(learn2add.__file__)\nrun = r.load('part3/quick')\nprint(run.folder)\n"
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


def test_kept_weights_stay_small() -> None:
    """What is kept for ever in git is cloned by everyone: runs' weights have 32 MB together."""
    weights = (ROOT / "runs").rglob("weights.safetensors")
    assert 0 < sum(file.stat().st_size for file in weights) < 32e6
