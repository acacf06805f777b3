"""The command line: what it understands, prints, writes and refuses."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from importlib.metadata import entry_points
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from learn2add import __main__ as cli
from learn2add import data, pairs, recipes, runs
from learn2add.config import LossWeights, RunConfig, Stage
from learn2add.data import Digits, as_float


@pytest.fixture(scope="module", autouse=True)
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Trains in seconds, into a folder of the tests' own, which is returned."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEARN2ADD_BUDGET", "smoke")
        patch.setenv("LEARN2ADD_RUNS", str(root))
        yield root


@pytest.fixture(scope="module")
def autoencoder(smoke: Path) -> runs.Run:
    """A run of Part II, trained through the command line."""
    assert cli.main(["train", "part2", "--code-size", "7"]) == 0
    return runs.load("smoke/part2/conv_transpose-l2-code7")


@pytest.fixture(scope="module")
def adder(smoke: Path) -> runs.Run:
    """A run of Part III, trained through the command line."""
    assert cli.main(["train", "part3", "--folder", str(smoke / "adder")]) == 0
    return runs.load(smoke / "adder")


@pytest.fixture(scope="module")
def seven(smoke: Path, mnist_test: Digits) -> Path:
    """A real seven, dark on light, 203 pixels wide."""
    assert mnist_test.labels[0] == 7
    path = smoke / "seven.png"
    cv2.imwrite(str(path), cv2.resize(255 - mnist_test.images[0].numpy(), (203, 203)))
    return path


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command prints."""
    capsys.readouterr()
    assert cli.main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a refused command prints."""
    capsys.readouterr()
    assert cli.main([str(argument) for argument in arguments]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert message.startswith("learn2add: error: ")
    return message


def recipe(arguments: str) -> tuple[RunConfig, str, str]:
    return cli.command_of(["train", *arguments.split()]).recipe()


def test_help_explains_every_option_and_does_not_wait_for_torch() -> None:
    code = """if True:
        import sys, learn2add.__main__ as cli
        for words in ([], *([name] for name in cli.COMMANDS)):
            try: cli.main([*words, '--help'])
            except SystemExit as leaving: assert not leaving.code
        print({'torch', 'numpy'} & set(sys.modules))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nset()\n")
    assert "learn2add train part2 --loss bce" in done.stdout  # an example
    for kind, without in (
        (RunConfig, {"stages", "model", "weights", "held_out"}),
        (LossWeights, set()),
        (Stage, {"task"}),
    ):
        for name in {field.name for field in fields(kind)} - without:
            assert f"--{name.replace('_', '-')}" in done.stdout
    assert "Image loss." in done.stdout  # the docstring of Stage.loss
    assert ":class:" not in done.stdout and "`" not in done.stdout


def test_console_script_is_this_command_line() -> None:
    (script,) = entry_points(group="console_scripts", name="learn2add")
    assert script.load() is cli.main


def test_module_leaves_with_status_2_and_one_line() -> None:
    command = [sys.executable, "-m", "learn2add", "frobnicate"]
    utf8 = os.environ | {"PYTHONIOENCODING": "utf-8"}  # tyro then draws its box in other letters
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=utf8)
    assert (done.returncode, done.stdout) == (2, "")
    wrong = "Unrecognized options: frobnicate"
    assert done.stderr == f"learn2add: error: {wrong} (see learn2add --help)\n"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "data.*train.*evaluate.*add.*learn2add --help"),
        ("train part9", "part9.*part2.*learn2add train --help"),
        ("train", "part2,part3,part4"),
        ("train part2 --epochs x", "--epochs.*'x'"),
        ("train part2 --seed", "--seed"),
        ("train part3 --partners batch", "--partners"),
        ("train part2 --image-size 30", "image-size.*28.*32.*64"),
        ("add seven.png 2", "--output"),
        ("evaluate nowhere", "nowhere"),
    ],
)
def test_mistakes_are_named_in_one_line(
    given: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(words, error_of(capsys, *given.split()))


def test_mistakes_are_one_line_in_a_coloured_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    message = error_of(capsys, "train", "part2", "--frobnicate")
    assert "Unrecognized options: --frobnicate (see learn2add train --help)" in message


def test_interruption_leaves_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(self: cli.Data) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.Data, "__call__", interrupt)
    assert cli.main(["data"]) == 130
    assert capsys.readouterr().err == "learn2add: interrupted\n"


def test_data_tells_counts_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "data").splitlines()
    counts = [re.search(r"[\d,]+", line).group() for line in lines[:3]]
    assert counts == ["50,000", "10,000", "10,000"]
    places = [Path(line.removeprefix("in ")) for line in lines[3:]]
    assert any(list(place.glob("train-images-idx3-ubyte*")) for place in places)
    for name in data.DATASETS:
        assert cli.command_of(["data", "--dataset", name]).dataset == name


@pytest.mark.parametrize("budget", recipes.BUDGETS)
def test_plain_train_is_the_recipe_under_its_usual_name(budget: str) -> None:
    for name, config in recipes.all_part2(budget).items():
        given = f"--decoder {config.decoder} --loss {config.stages[0].loss}"
        given += f" --code-size {config.code_size} --budget {budget}"
        assert recipe(f"part2 {given}") == (config, name, budget)
    assert recipe(f"part3 --budget {budget}")[0] == recipes.part3(budget=budget)
    for model in recipes.PART4:
        wanted = recipes.part4(model, budget=budget), f"{model}-conv_transpose", budget
        assert recipe(f"part4 --budget {budget} --model {model}") == wanted


def test_ten_cells_can_be_held_out() -> None:
    config, name, _ = recipe("part4 --held-out")
    assert len(config.held_out) == 10
    trained = set(pairs.CELLS) - set(config.held_out)
    for digit, addend in config.held_out:
        assert any(d == digit for d, _ in trained)
        assert any(a == addend for _, a in trained)
        assert any(d + a == digit + addend for d, a in trained)
        assert f"{digit}+{addend}" in Path(cli.__file__).read_text()  # the help names them
    assert name == "generative_addition-conv_transpose-held_out-10-cells"


def test_weights_of_the_loss_are_options() -> None:
    weights = {field.name: 0.5 + place for place, field in enumerate(fields(LossWeights))}
    given = " ".join(f"--{name.replace('_', '-')}={weight}" for name, weight in weights.items())
    config, name, _ = recipe(f"part4 --budget quick {given}")
    assert config == replace(recipes.part4(budget="quick"), weights=LossWeights(**weights))
    assert "match-5.5" in name


def test_the_adder_may_be_told_one_number_or_embed_it() -> None:
    config, name, _ = recipe("part4 --budget quick --embed-addend")
    assert config == replace(recipes.part4(budget="quick"), embed_addend=True)
    assert name.endswith("embed_addend-True")
    assert not recipe("part3 --no-embed-addend")[0].embed_addend
    with pytest.raises(ValueError, match="embed_addend .* no adder"):
        recipe("part2 --embed-addend")


def test_other_parts_have_no_choice_of_model() -> None:
    with pytest.raises(ValueError, match="--model .* part4"):
        recipe("part3 --model generative_addition")


def test_options_change_the_recipe() -> None:
    given = "--loss bce --epochs 7 --steps 0 --batch-size 32 --learning-rate 0.01 --beta2 0.999"
    given += " --schedule constant --decoder interpolation --code-size 9 --image-size 32 --seed 5"
    given += " --precision float32 --budget quick --optimiser adam --momentum 0.95 --pct-start 0.3"
    config, _, budget = recipe(f"part2 {given} --activation relu")
    stage = Stage("autoencoder", 7, None, 32, 0.01, "constant", "bce")
    fixed = {"activation": "relu", "seed": 5, "precision": "float32"}
    assert config == RunConfig((stage,), "autoencoder", "interpolation", 9, 32, **fixed)
    assert budget == "quick"
    assert recipe("part2 --steps 0")[0] == recipe("part2 --steps None")[0]


def test_options_change_the_last_stage_of_part3() -> None:
    plain, changed = recipe("part3")[0], recipe("part3 --epochs 3 --seed 2")[0]
    last = replace(plain.stages[-1], epochs=3)
    assert changed == replace(plain, stages=(*plain.stages[:-1], last), seed=2)


@pytest.mark.parametrize("part", ["part2", "part3", "part4"])
def test_other_configurations_have_other_folders(part: str) -> None:
    variants = ["", "--loss bce", "--code-size 5", "--code-size 6", "--image-size 32", "--seed 1"]
    variants += ["--epochs 9", "--steps 9", "--batch-size 90", "--learning-rate 0.5"]
    variants += ["--schedule constant", "--decoder interpolation"]
    variants += ["--seed 1 --epochs 9", "--balance digits", "--train-size 500"]
    variants += ["--contrast 0", "--held-out"] if part == "part4" else []
    variants += [f"{'--contrast 0 ' * (part != 'part2')}--targets drawn --balance sums"]
    names = [recipe(f"{part} {variant}")[1] for variant in variants]
    assert len(set(names)) == len(variants)


def test_train_prints_the_best_epoch_and_loads_what_is_complete(
    autoencoder: runs.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = autoencoder.folder / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    text = printed(capsys, "train", "part2", "--code-size", 7)
    best = min(autoencoder.history, key=lambda row: row["loss/validation"])
    for part in ("is complete already", str(autoencoder.folder), "next: learn2add evaluate"):
        assert part in text
    assert f"{best['rmse/train']:.4f}" in text and f"{best['rmse/validation']:.4f}" in text
    assert weights.stat().st_mtime_ns == before


@pytest.mark.slow
def test_evaluate_prints_and_writes_the_same_results(
    adder: runs.Run,
    mnist_test: Digits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    digits, file = mnist_test.subset(1000), tmp_path / "new" / "results.json"
    monkeypatch.setattr(runs, "load_digits", lambda *_: digits)
    text = printed(capsys, "evaluate", adder.folder, "--json", file)
    found = json.loads(file.read_text())
    for key in ("judge_accuracy", "cells_mean", "cells_worst", "pairs_mean"):
        assert f"{100 * found[key]:.2f} %" in text
    for key in ("rmse", "sum_mse", "floor_class_mean", "floor_one_mean", "real_digit"):
        assert f"{found[key]:.4f}" in text
    assert text.count(" to ") >= 3  # intervals
    model, x = adder.model("cpu"), as_float(digits.images)
    error = (model.decoder(model.encoder(x)) - x).double().square().mean().sqrt()
    assert found["rmse"] == pytest.approx(float(error), rel=1e-5)


@pytest.mark.slow
def test_evaluate_finds_a_run_by_its_name(
    autoencoder: runs.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "smoke/part2/conv_transpose-l2-code7"
    text = printed(capsys, "evaluate", name, "--split", "validation")
    last = autoencoder.history[autoencoder.result["best_epoch"] - 1]
    rmse = float(re.search(r"RMSE\D*([\d.]+)", text).group(1))
    # In training a smoke run measures 250 of these digits, perhaps in bfloat16; here are all.
    assert rmse == pytest.approx(last["rmse/validation"], abs=1e-2)
    assert "worst cell" not in text


@pytest.mark.parametrize("show_input", [False, True])
def test_add_draws_the_models_image(
    adder: runs.Run,
    seven: Path,
    show_input: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "new" / "nine.png"
    flags = ["--show-input"] if show_input else []
    text = printed(capsys, "add", seven, 2, "-o", out, "--run", adder.folder, *flags)
    assert "input: the judge reads 7 (" in text
    image = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)
    assert image.shape == (8 * 28, 8 * 28 * (2 if show_input else 1))
    small = image[4::8, 4::8]
    assert (small.repeat(8, axis=0).repeat(8, axis=1) == image).all()
    x = torch.from_numpy(small[:, :28] / np.float32(255))[None, None]
    if show_input:  # what the model saw; its training pass draws the same sum from it
        y_hat = adder.model("cpu").training_pass(x, torch.tensor([2.0]), x).y_hat[0, 0]
        np.testing.assert_allclose(small[:, 28:], 255 * y_hat.numpy(), atol=0.6)


def test_add_warns_of_sums_beyond_9(
    adder: runs.Run, seven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, "add", seven, 5.5, "-o", tmp_path / "o.png", "--run", adder.folder)
    assert "12.5 is not the sum of any pair" in text


def test_the_kept_run_adds_rightly(
    seven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, "add", seven, 2, "-o", tmp_path / "nine.png")
    assert "sum:   the judge reads 9 (" in text


def test_add_without_a_run_says_how_to_get_one(
    seven: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(runs, "kept_file", lambda name: None)
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path))
    message = error_of(capsys, "add", seven, 2, "-o", tmp_path / "nine.png")
    assert "learn2add train" in message


@pytest.mark.parametrize(
    ("addend", "output", "word"),
    [("nan", "o.png", "addend"), ("inf", "o.png", "addend"), ("2", "o.jpg", ".png")],
)
def test_add_refuses(
    addend: str,
    output: str,
    word: str,
    adder: runs.Run,
    seven: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["add", seven, addend, "-o", tmp_path / output, "--run", adder.folder]
    assert word in error_of(capsys, *command)
    assert list(tmp_path.iterdir()) == []


def test_add_refuses_images_without_digit(
    adder: runs.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blank, text = tmp_path / "blank.png", tmp_path / "text.png"
    cv2.imwrite(str(blank), np.full((50, 50), 200, np.uint8))
    text.write_text("not an image")
    for image in (blank, text, tmp_path / "missing.png"):
        command = ["add", image, 2, "-o", tmp_path / "o.png", "--run", adder.folder]
        assert image.name in error_of(capsys, *command)
    assert not (tmp_path / "o.png").exists()


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ("--code-size 0", "code_size"),
        ("--decoder nonsense", "decoder"),
        ("--epochs 0", "epochs"),
        ("--learning-rate nan", "learning_rate"),
        ("--seed -1", "seed"),
    ],
)
def test_train_refuses(
    given: str, word: str, smoke: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = smoke / "refused"
    assert word in error_of(capsys, "train", "part2", *given.split(), "--folder", folder)
    assert not folder.exists()


def test_train_refuses_an_unknown_budget_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEARN2ADD_BUDGET", "huge")
    assert "LEARN2ADD_BUDGET" in error_of(capsys, "train", "part2")


def test_train_names_a_folder_it_cannot_write(
    smoke: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = smoke / "a_file"
    file.write_text("")
    assert "a_file" in error_of(capsys, "train", "part2", "--folder", file / "run")


def test_a_run_is_refused_where_it_does_not_fit(
    autoencoder: runs.Run, seven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, new = autoencoder.folder, tmp_path / "new"
    assert "seed" in error_of(capsys, "train", "part2", "--seed", 9, "--folder", folder)
    assert "autoencoder" in error_of(capsys, "add", seven, 2, "-o", "o.png", "--run", folder)
    assert "does not add" in error_of(capsys, "evaluate", folder, "--figures", new)
    assert not new.exists()


def test_evaluate_refuses_damaged_runs(
    autoencoder: runs.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(autoencoder.folder, tmp_path / "copy")
    torch.save({"code": print}, copy / "weights.safetensors")  # a pickle that would be executed
    assert "weights.safetensors" in error_of(capsys, "evaluate", copy)
    (copy / "result.json").unlink()
    assert "unfinished" in error_of(capsys, "evaluate", copy)
    (copy / "config.json").write_text("{")
    assert "config.json" in error_of(capsys, "evaluate", copy)
