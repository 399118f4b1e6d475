"""`--print-completion`: what a shell completes, asked of the shell itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from warp_train import cli

COMPLETE = """
source {script}
COMP_WORDS=(warp-train {words}) COMP_CWORD={place} COMP_TYPE=9
_shtab_warp_train 2> errors.txt
printf '%s\\n' "${{COMPREPLY[@]}}"
cat errors.txt >&2
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shell") / "completion.bash"
    with pytest.MonkeyPatch.context() as patch, path.open("w") as file:
        patch.setattr(sys, "stdout", file)
        with pytest.raises(SystemExit) as left:
            cli.main(["--print-completion", "bash"])
    assert left.value.code == 0
    return path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tr"], {"train"}),
        (["ex"], {"export"}),
        (["train", "r.yaml", "--res"], {"--resume-from"}),
        (["rectify", "tiny", "--sh"], {"--shoot"}),
        (["rectify", "tiny", "--shoot", "ex"], {"exif"}),
        (["train", "mine"], {"mine.yaml"}),
        (["evaluate", "runs/la"], {"runs/last"}),
        (["train", "mine.yaml", "--init-from", "ru"], {"runs"}),
    ],
    ids=" ".join,
)
def test_bash_completes_commands_options_values_and_files(
    words: list[str], expected: set[str], script: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "runs" / "last").mkdir(parents=True)
    text = COMPLETE.format(script=script, words=" ".join(words), place=len(words))
    done = subprocess.run(["bash", "-c", text], cwd=tmp_path, capture_output=True, text=True)
    assert set(done.stdout.split()) == expected, done.stderr


def test_zsh_has_a_script_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["--print-completion", "zsh"])
    printed = capsys.readouterr().out
    assert left.value.code == 0
    assert printed.startswith("#compdef warp-train")
    assert "--resume-from" in printed


def test_a_missing_package_is_one_line_and_is_needed_for_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as left:
        cli.main(["--print-completion", "bash"])
    assert left.value.code == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "the package shtab is not installed; pip install 'warp_train[completion]'" in line
    assert cli._parse(["check", "r.yaml"]).command == "check"


def test_another_shell_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["--print-completion", "cmd"])
    assert left.value.code == 2
    assert "choose from" in capsys.readouterr().err
