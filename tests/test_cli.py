"""The command line: what it understands, prints, writes and refuses."""

import argparse
import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from learn2add import __main__ as cli
from learn2add import configs, data, decoders, judge, judge_training, options, pairs, recipes, runs
from learn2add.configs import RunConfig, Stage
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
    return runs.load_run(smoke / "smoke/part2/conv_transpose-l2-code7")


@pytest.fixture(scope="module")
def adder(smoke: Path) -> runs.Run:
    """A run of Part III, trained through the command line."""
    assert cli.main(["train", "part3", "--folder", str(smoke / "adder")]) == 0
    return runs.load_run(smoke / "adder")


@pytest.fixture(scope="module")
def seven(smoke: Path, mnist_test: Digits) -> Path:
    """A real seven, dark on light, 203 pixels wide."""
    assert mnist_test.labels[0] == 7
    path = smoke / "seven.png"
    cv2.imwrite(str(path), cv2.resize(255 - mnist_test.images[0].numpy(), (203, 203)))
    return path


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a refused command prints."""
    capsys.readouterr()
    assert cli.main([str(argument) for argument in arguments]) == 2
    message = capsys.readouterr().err
    assert message.startswith("learn2add: error: ")
    assert message.count("\n") == 1
    return message


def commands() -> dict[str, argparse.ArgumentParser]:
    parser = options.make_parser()
    return next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices


def test_every_command_runs_and_explains_every_option() -> None:
    assert set(commands()) == set(cli.COMMANDS)
    for name, parser in commands().items():
        assert parser.description, name
        assert [a.dest for a in parser._actions if not a.help] == []


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, learn2add.__main__ as cli\ntry: cli.main(['--help'])\nfinally:"
    code += " print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "examples:" in done.stdout
    assert done.stderr == "False\n"


def test_choices_are_those_of_the_package() -> None:
    assert tuple(decoders.DECODERS) == options.DECODERS
    assert recipes.BUDGETS == options.BUDGETS
    assert data.DATASETS == options.DATASETS
    assert configs.BALANCES == options.BALANCES
    assert tuple(judge.WEIGHTS) == tuple(judge_training.EPOCHS) == options.JUDGES
    for partners in options.PARTNERS:
        Stage("addition", 1, 1, 10, balance="cells", partners=partners)


def test_console_script_is_this_command_line() -> None:
    (script,) = entry_points(group="console_scripts", name="learn2add")
    assert script.load() is cli.main


def test_module_leaves_with_status_2_and_one_line() -> None:
    command = [sys.executable, "-m", "learn2add", "evaluate", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("learn2add: error: RUN is 'nowhere'")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["train", "part9"], ["train", "part2", "--epochs", "x"], []]
)
def test_unknown_words_are_one_line_too(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leaving:
        cli.main(arguments)
    assert leaving.value.code == 2
    assert re.fullmatch(r"learn2add: error: .*--help\)\n", capsys.readouterr().err)


def test_interruption_leaves_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(arguments: argparse.Namespace) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "data", interrupt)
    assert cli.main(["data"]) == 130
    assert capsys.readouterr().err == "learn2add: interrupted\n"


def test_data_tells_counts_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [re.search(r"[\d,]+", line).group() for line in lines[:3]] == [
        "50,000",
        "10,000",
        "10,000",
    ]
    places = [Path(line.removeprefix("in ")) for line in lines[3:]]
    assert any(list(place.glob("train-images-idx3-ubyte*")) for place in places)


def recipe(*arguments: str) -> tuple[RunConfig, str, str]:
    return cli.recipe(options.make_parser().parse_args(["train", *arguments]))


@pytest.mark.parametrize("budget", recipes.BUDGETS)
def test_plain_train_is_the_recipe_under_its_usual_name(budget: str) -> None:
    twelve = recipes.all_part2(budget)
    for name, config in twelve.items():
        loss, code_size = config.stages[0].loss, str(config.code_size)
        given = ["--decoder", config.decoder, "--loss", loss, "--code-size", code_size]
        assert recipe("part2", "--budget", budget, *given) == (config, name, budget)
    assert recipe("part3", "--budget", budget)[0] == recipes.part3(budget=budget)
    for model in ("variational_addition", "generative_addition"):
        wanted = recipes.part4(model, budget=budget), f"{model}-conv_transpose", budget
        assert recipe("part4", "--budget", budget, "--model", model) == wanted


def test_ten_cells_can_be_held_out() -> None:
    config, name, _ = recipe("part4", "--held-out")
    assert len(config.held_out) == 10
    trained = set(pairs.CELLS) - set(config.held_out)
    for digit, addend in config.held_out:
        assert any(d == digit for d, _ in trained)
        assert any(a == addend for _, a in trained)
        assert any(d + a == digit + addend for d, a in trained)
    assert name == "generative_addition-conv_transpose-held_out-10-cells"


def test_weights_of_the_loss_are_options() -> None:
    weights = {name: 0.5 + place for place, name in enumerate(options.WEIGHTS)}
    given = [f"--{name.replace('_', '-')}={weight}" for name, weight in weights.items()]
    config, name, _ = recipe("part4", "--budget", "quick", *given)
    assert config == dataclasses.replace(recipes.part4(budget="quick"), **weights)
    assert tuple(options.WEIGHTS) == configs.WEIGHTS
    assert "match-5.5" in name


def test_the_adder_may_be_told_one_number_or_embed_it() -> None:
    config, name, _ = recipe("part4", "--budget", "quick", "--embed-addend")
    assert config == dataclasses.replace(recipes.part4(budget="quick"), embed_addend=True)
    assert name.endswith("embed_addend-True")
    assert not recipe("part3", "--no-embed-addend")[0].embed_addend
    with pytest.raises(ValueError, match="embed_addend .* no adder"):
        recipe("part2", "--embed-addend")


def test_other_parts_have_no_choice_of_model() -> None:
    with pytest.raises(ValueError, match="--model .* part4"):
        recipe("part3", "--model", "generative_addition")


def test_options_change_the_recipe() -> None:
    given = "--loss bce --epochs 7 --steps 0 --batch-size 32 --learning-rate 0.01 --patience 3"
    given += " --schedule constant --decoder interpolation --code-size 9 --image-size 32"
    given += " --seed 5 --precision float32 --budget quick --beta2 0.999 --optimiser adam"
    given += " --momentum 0.95 --rise 0.3"
    config, name, budget = recipe("part2", *given.split())
    stage = Stage("autoencoder", 7, None, 32, 0.01, "constant", "bce", patience=3)
    assert config == RunConfig(
        (stage,), "autoencoder", "interpolation", 9, 32, seed=5, precision="float32"
    )
    assert budget == "quick"


def test_options_change_the_last_stage_of_part3() -> None:
    plain, changed = recipe("part3")[0], recipe("part3", "--epochs", "3", "--seed", "2")[0]
    last = dataclasses.replace(plain.stages[-1], epochs=3)
    assert changed == dataclasses.replace(plain, stages=(*plain.stages[:-1], last), seed=2)


@pytest.mark.parametrize("part", ["part2", "part3", "part4"])
def test_other_configurations_have_other_folders(part: str) -> None:
    variants = ["", "--loss bce", "--code-size 5", "--code-size 6", "--image-size 32", "--seed 1"]
    variants += ["--epochs 9", "--steps 9", "--batch-size 90", "--learning-rate 0.5"]
    variants += ["--patience 2", "--schedule constant", "--decoder interpolation"]
    variants += ["--seed 1 --epochs 9", "--balance digits"]
    variants += ["--contrast 0", "--held-out"] if part == "part4" else []
    variants += [f"{'--contrast 0 ' * (part != 'part2')}--partners drawn --balance sums"]
    names = [recipe(part, *variant.split())[1] for variant in variants]
    assert len(set(names)) == len(variants)


def test_train_prints_the_best_epoch_and_loads_what_is_complete(
    autoencoder: runs.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = autoencoder.folder / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    capsys.readouterr()
    assert cli.main(["train", "part2", "--code-size", "7"]) == 0
    printed = capsys.readouterr().out
    best = min(autoencoder.history, key=lambda row: row["loss/validation"])
    assert f"{best['rmse/train']:.4f}" in printed
    assert f"{best['rmse/validation']:.4f}" in printed
    assert str(autoencoder.folder) in printed
    assert weights.stat().st_mtime_ns == before


@pytest.mark.slow
def test_evaluate_prints_and_writes_the_same_figures(
    adder: runs.Run, mnist_test: Digits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "figures.json"
    assert cli.main(["evaluate", str(adder.folder), "--json", str(file)]) == 0
    printed, found = capsys.readouterr().out, json.loads(file.read_text())
    shares = ("judge_accuracy", "cells_mean", "cells_worst", "pairs_mean")
    for key in shares:
        assert f"{100 * found[key]:.2f} %" in printed
    for key in ("rmse", "sum_mse", "floor_class_mean", "floor_one_mean"):
        assert f"{found[key]:.4f}" in printed
    assert printed.count(" to ") >= 3  # intervals
    model, x = adder.model("cpu"), as_float(mnist_test.images)
    x_hat = torch.cat([model.decoder(model.encoder(part)) for part in x.split(1000)])
    error = np.sqrt(np.mean((x_hat.numpy().astype(float) - x.numpy()) ** 2))
    assert found["rmse"] == pytest.approx(error, rel=1e-5)


@pytest.mark.slow
def test_evaluate_finds_a_run_by_its_name(
    autoencoder: runs.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "smoke/part2/conv_transpose-l2-code7"
    assert cli.main(["evaluate", name, "--split", "validation"]) == 0
    printed = capsys.readouterr().out
    last = autoencoder.history[autoencoder.result["best_epoch"] - 1]
    rmse = float(re.search(r"RMSE\D*([\d.]+)", printed).group(1))
    assert rmse == pytest.approx(last["rmse/validation"], abs=5e-3)  # bfloat16 while training
    assert "worst cell" not in printed


@pytest.mark.parametrize("show_input", [False, True])
def test_add_draws_the_models_picture(
    adder: runs.Run,
    seven: Path,
    show_input: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "new" / "nine.png"
    flags = ["--show-input"] if show_input else []
    command = ["add", seven, "2", "-o", out, "--run", adder.folder, *flags]
    assert cli.main([str(word) for word in command]) == 0
    assert "input: the judge reads 7 (" in capsys.readouterr().out
    picture = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (8 * 28, 8 * 28 * (2 if show_input else 1))
    small = picture[4::8, 4::8]
    assert (small.repeat(8, axis=0).repeat(8, axis=1) == picture).all()
    x = torch.from_numpy(small[:, :28] / np.float32(255))[None, None]
    if show_input:  # what the model saw; the whole training model draws the same sum from it
        y_hat = adder.model("cpu")(x, torch.tensor([2.0]), x).y_hat[0, 0]
        np.testing.assert_allclose(small[:, 28:], 255 * y_hat.numpy(), atol=0.6)


def test_add_warns_of_sums_beyond_9(
    adder: runs.Run, seven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["add", seven, "5.5", "-o", tmp_path / "o.png", "--run", adder.folder]
    assert cli.main([str(word) for word in command]) == 0
    assert "12.5 is not the sum of any pair" in capsys.readouterr().out


def test_the_kept_run_adds_rightly(
    seven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["add", str(seven), "2", "-o", str(tmp_path / "nine.png")]) == 0
    assert "sum:   the judge reads 9 (" in capsys.readouterr().out


def test_add_without_a_run_says_how_to_get_one(
    seven: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(runs, "kept_run", lambda name: None)
    message = error_of(capsys, "add", seven, "2", "-o", tmp_path / "nine.png")
    assert "learn2add train part3" in message


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


def test_add_refuses_pictures_without_digit(
    adder: runs.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blank, text = tmp_path / "blank.png", tmp_path / "text.png"
    cv2.imwrite(str(blank), np.full((50, 50), 200, np.uint8))
    text.write_text("not a picture")
    for image in (blank, text, tmp_path / "missing.png"):
        command = ["add", image, "2", "-o", tmp_path / "o.png", "--run", adder.folder]
        assert image.name in error_of(capsys, *command)
    assert not (tmp_path / "o.png").exists()


def test_add_refuses_an_autoencoder(
    autoencoder: runs.Run, seven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["add", seven, "2", "-o", tmp_path / "o.png", "--run", autoencoder.folder]
    assert "autoencoder" in error_of(capsys, *command)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ("--code-size 0", "code_size"),
        ("--image-size 30", "image_size"),
        ("--epochs 0", "epochs"),
        ("--learning-rate nan", "learning_rate"),
        ("--patience 0", "patience"),
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


def test_train_refuses_the_folder_of_another_run(
    autoencoder: runs.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    message = error_of(capsys, "train", "part2", "--seed", "9", "--folder", autoencoder.folder)
    assert "seed" in message


def test_train_names_a_folder_it_cannot_write(
    smoke: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = smoke / "a_file"
    file.write_text("")
    assert "a_file" in error_of(capsys, "train", "part2", "--folder", file / "run")


def test_evaluate_draws_no_evidence_of_an_autoencoder(
    autoencoder: runs.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "evidence"
    assert "does not add" in error_of(capsys, "evaluate", autoencoder.folder, "--figures", folder)
    assert not folder.exists()


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


def test_judge_refuses_another_format_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ".safetensors" in error_of(capsys, "judge", "-o", tmp_path / "judge.pt")


@pytest.mark.parametrize("name", options.JUDGES)
def test_judge_trains_the_architecture_it_is_asked_for(
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def few(dataset: str, split: str) -> data.Digits:
        return data.load_digits(dataset, split).subset(256)

    monkeypatch.setattr(judge_training, "load_digits", few)
    path = tmp_path / "judge.safetensors"
    chosen = ["--architecture", name] if name != "cnn" else []
    assert cli.main(["judge", *chosen, "--epochs", "1", "-o", str(path)]) == 0
    assert f"wrote {path}" in capsys.readouterr().out
    assert judge.load_judge(path, architecture=name).architecture == name


def test_judge_knows_no_other_architecture(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["judge", "--architecture", "rnn"])
    assert "'rnn'" in capsys.readouterr().err
