"""The page computes what torch computes, in a real browser, and everybody can use it."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from learn2add import recipes, runs
from learn2add.__main__ import main
from learn2add.data import as_float, load_digits
from learn2add.drawing import photo
from learn2add.judge import load_judge
from learn2add.page import build
from learn2add.studies.hand_training import same_hand
from tools.campaign.photographs import photograph

playwright = pytest.importorskip("playwright.sync_api")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
"""Names of one that playwright can steer; it may have brought its own."""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("page") / "page.html"
    assert main(["page", "-o", str(file)]) == 0
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator:
    own = next(filter(None, map(shutil.which, BROWSERS)), None)
    with playwright.sync_playwright() as driver:
        options = {"executable_path": own, "args": ["--no-sandbox"]}
        try:
            started = driver.chromium.launch(**options)
        except playwright.Error:
            if os.environ.get("CI"):
                raise
            pytest.skip("no Chromium: `playwright install chromium` brings one")
        yield started
        started.close()


@pytest.fixture
def page(browser, page_file, request) -> Iterator:
    """The page, loaded from the disk, with no network, and with what went wrong in it."""
    context = browser.new_context(**getattr(request, "param", {}))
    context.set_offline(True)
    opened, asked, wrong = context.new_page(), [], []
    opened.on("request", lambda sent: asked.append(sent.url))
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda line: line.type == "error" and wrong.append(line.text))
    opened.goto(page_file.as_uri())
    opened.wait_for_function("judge && state.x")
    yield opened
    assert wrong == []
    assert [url for url in asked if not url.startswith(("file:", "blob:", "data:"))] == []
    context.close()


def status(page, expected: str) -> None:
    """Wait until the page says so."""
    playwright.expect(page.locator("#status")).to_contain_text(expected, timeout=30_000)


def choose(page, title: str) -> None:
    page.get_by_role("radio", name=title).check()


COMPUTE = """async ([index, x, addend]) => {
    const found = await compute(index, Float32Array.from(x), addend);
    return [[...found.image], found.reading];
}"""


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(build.RUNS)), ids=list(build.RUNS))
def test_all_sums_are_those_of_torch(index: int, page) -> None:
    name = list(build.RUNS)[index]
    model, judge, test = runs.load(name).model("cpu"), load_judge(), load_digits("MNIST", "test")
    for digit, members in enumerate(test.by_class()):
        x = as_float(test.images[members[7:8]])
        for addend in [*range(10 - digit), 0.55]:
            with torch.no_grad():
                wanted = model(x, torch.tensor([float(addend)]))
            image, reading = page.evaluate(COMPUTE, [index, x.flatten().tolist(), addend])
            drawn = torch.tensor(image).view(1, 1, 28, 28)
            assert (drawn - wanted).abs().max() <= 2 / 255, (digit, addend)
            sure, read = judge.read(wanted)[0].max(0)
            if sure > 0.6:  # else a hair decides
                assert int(np.argmax(reading)) == int(read), (digit, addend)


def test_a_digit_drawn_with_the_mouse_is_added_to(page) -> None:
    page.locator("#clear").click()
    status(page, "Draw a digit")
    box = page.locator("#paper").bounding_box()
    points = [(70, 60), (210, 60), (170, 140), (130, 240)]
    page.mouse.move(box["x"] + points[0][0], box["y"] + points[0][1])
    page.mouse.down()
    for x, y in points[1:]:
        page.mouse.move(box["x"] + x, box["y"] + y, steps=8)
    page.mouse.up()
    status(page, "7 + 2: what is drawn is read as 9")
    page.get_by_role("button", name="0", exact=True).click()
    status(page, "7 + 0: what is drawn is read as 7")


def test_the_keyboard_is_enough(page) -> None:
    page.locator("#addend").focus()
    page.keyboard.press("Home")
    for _ in range(20):  # of 0.05
        page.keyboard.press("ArrowRight")
    button = page.get_by_role("button", name="A test digit 3")
    button.focus()
    page.keyboard.press("Enter")
    status(page, "3 + 1: what is drawn is read as 4")
    assert page.locator("#number").inner_text() == "1"
    choose(page, "generative")
    another = page.get_by_role("button", name="Another one")
    drawn = []
    for _ in range(2):
        another.press("Enter")
        page.wait_for_timeout(400)
        drawn.append(page.locator("#drawn").evaluate("canvas => canvas.toDataURL()"))
    assert drawn[0] != drawn[1]
    choose(page, "the assignment's")
    playwright.expect(another).to_be_hidden()


def test_a_sum_under_way_is_dropped_when_another_network_is_chosen(page) -> None:
    """The second network's weights have to be unpacked first, so that its sum comes last."""
    status(page, "7 + 2: what is drawn is read as 9")
    drawn = page.evaluate("""async () => {
        const image = () => at("drawn").toDataURL();
        const frame = () => new Promise(requestAnimationFrame), before = image();
        for (const index of [1, 0]) {
            state.model = index;
            changed();
            await frame();
        }
        await modelAt(1);
        await new Promise((done) => setTimeout(done, 500));
        return [before, image()];
    }""")
    assert drawn[0] == drawn[1]


def test_how_it_works_shows_each_layer(page) -> None:
    page.locator("summary").click()
    captions = page.locator("#scheme figcaption")
    playwright.expect(captions.first).to_have_text("your digit", timeout=30_000)
    said = captions.all_inner_texts()
    assert said[1:5] == ["32 maps of 14×14", "64 maps of 7×7", "128 maps of 3×3", "code"]
    assert said[-4:] == ["128 maps of 7×7", "64 maps of 14×14", "32 maps of 28×28", "the sum"]


@pytest.mark.parametrize("kind", ["plain", "hard_shadow", "sheet_on_a_desk"])
def test_a_photograph_is_read(kind: str, page, tmp_path: Path) -> None:
    test = load_digits("MNIST", "test")
    file = tmp_path / "photo.jpg"
    digit = int(test.labels[0])
    file.write_bytes(photograph(test.images[0].numpy(), kind, seed=0))
    page.locator("#file").set_input_files(file)
    status(page, f"{digit} + 2: what is drawn is read as {digit + 2}")


def test_what_is_no_image_is_named(page, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no image")
    page.locator("#file").set_input_files(tmp_path / "notes.png")
    status(page, "notes.png is not an image")


def test_a_drawing_is_scaled_as_a_photograph_is(page) -> None:
    """The port of the last step of ``learn2add add``."""
    ink = np.zeros((90, 120), np.float32)
    ink[20:70, 40:52] = 1
    ink[20:30, 30:80] = 0.8
    found = page.evaluate(
        "([wide, high, data]) => [...asMnist({wide, high, data: Float32Array.from(data)})]",
        [120, 90, ink.flatten().tolist()],
    )
    wanted = photo._as_mnist(ink).reshape(-1) / 255
    assert np.abs(np.array(found) - wanted).max() <= 3 / 255


SIZES = {"phone": {"width": 390, "height": 844}, "desk": {"width": 1280, "height": 900}}


@pytest.mark.parametrize(
    "page",
    [
        {"viewport": size, "color_scheme": scheme}
        for size in SIZES.values()
        for scheme in ("light", "dark")
    ],
    indirect=True,
    ids=lambda options: f"{options['viewport']['width']}-{options['color_scheme']}",
)
def test_everybody_can_use_it(page) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    status(page, "7 + 2: what is drawn is read as 9")
    page.locator("summary").click()
    playwright.expect(page.locator("#scheme figcaption").first).to_be_visible(timeout=30_000)
    found = axe.run(page)
    assert found.violations_count == 0, found.generate_report()
    wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]


def test_a_sum_takes_a_moment(page) -> None:
    """Alone on this kind of machine 20 ms; here other tests run beside it."""
    clock = """async () => {
        const times = [];
        for (let i = 0; i < 20; i++) {
            const begun = performance.now();
            await compute(0, state.x, 2);
            times.push(performance.now() - begun);
        }
        return Math.min(...times);
    }"""
    assert page.evaluate(clock) < 60


def test_the_page_is_small_and_whole(page_file: Path) -> None:
    assert page_file.stat().st_size <= 8_000_000
    text = page_file.read_text("utf-8")
    assert "{{" not in text.partition('<script type="text/plain"')[0]
    assert "\0" not in text and "\r" not in text


def test_a_notebook_shows_it_in_a_frame(browser) -> None:
    context = browser.new_context()
    context.set_offline(True)
    notebook = context.new_page()
    notebook.set_content(build.frame(["part3/reference"]).data, timeout=60_000)
    said = notebook.frame_locator("iframe").locator("#status")
    playwright.expect(said).to_contain_text("7 + 2: what is drawn is read as 9", timeout=30_000)
    context.close()


SMOKE = recipes.part3("conv_upsample", budget="smoke")
OTHERS = {
    "upsampling, embedded": replace(SMOKE, embed_addend=True, activation="linear"),
    "one matrix": same_hand(rule="matrix", budget="smoke"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(OTHERS))
def test_any_run_that_adds_is_computed_as_torch_does(name: str, browser, tmp_path: Path) -> None:
    run = runs.load_or_train(OTHERS[name], tmp_path / "run", progress=False)
    (tmp_path / "page.html").write_text(build.build([str(run.folder)]), "utf-8", newline="")
    opened = browser.new_page()
    opened.goto((tmp_path / "page.html").as_uri())
    opened.wait_for_function("judge && state.x")
    x = as_float(load_digits("MNIST", "test").images[:1])
    for addend in (0, 2, 1.4):
        with torch.no_grad():
            wanted = run.model("cpu")(x, torch.tensor([float(addend)]))
        image, _ = opened.evaluate(COMPUTE, [0, x.flatten().tolist(), addend])
        assert (torch.tensor(image).view(1, 1, 28, 28) - wanted).abs().max() <= 2 / 255, addend
    opened.close()


def test_only_runs_that_add_have_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="runs is empty"):
        build.build([])
    assert main(["page", "part2/conv_transpose-l2-code7", "-o", "x.html"]) == 2
    assert "runs holds part2/conv_transpose-l2-code7" in capsys.readouterr().err
    assert not Path("x.html").exists()
