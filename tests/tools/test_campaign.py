"""A small part of the campaign: nothing is silently wrong."""

import pytest

from tools.campaign import __main__ as campaign


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "count"),
    [("photographs", 29), ("flips", 40), ("kills", 2), ("disks", 4), ("inputs", 900)],
)
def test_nothing_is_silently_wrong(
    what: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert campaign.main([what, "--count", str(count)]) == 0
    said = capsys.readouterr().out
    assert f"{what}: {count}" in said and f"silently wrong or lost: 0 of {count}" in said
    assert "half a file" not in said


def test_the_command_line_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in ((["floods"], "what is 'floods'"), (["flips", "--count", "0"], "--count")):
        with pytest.raises(SystemExit) as leaving:
            campaign.main(words)
        assert leaving.value.code == 2 and said in capsys.readouterr().err
