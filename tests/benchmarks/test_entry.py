"""A benchmark that cannot go on says so in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.entry import earlier, one_line
from segdec_edge.errors import ConfigError

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=cwd, check=False)


@pytest.mark.parametrize("error", [ConfigError("no such thing."), KeyboardInterrupt()])
def test_what_the_user_can_mend_is_no_traceback(error: BaseException) -> None:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        one_line(main)
    assert str(caught.value.code).endswith(("no such thing.", "interrupted."))


def test_only_its_own_record_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    assert earlier(path, "aa") is None
    path.write_text(json.dumps({"benchmark": "aa", "settings": {}}))
    assert earlier(path, "aa") == {"benchmark": "aa", "settings": {}}
    for content in ('{"benchmark": "scale"}', "[]", "{"):
        path.write_text(content)
        with pytest.raises(SystemExit, match="Give another -o"):
            earlier(path, "aa")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("aa.py", "none.bundle", "-o", "r.json"), "none.bundle: does not exist"),
        (("scale.py", "-o", "r.json"), "needs --bundle"),
        (("scale.py", "--axes", "ledger", "--folder", "none", "-o", "r.json"), "none: no such folder"),
        (("startup.py", "none.bundle", ".", "-o", "r.json"), "none.bundle: does not exist"),
        (("frame_path.py", "none.bundle", "--pictures", "."), "none.bundle: does not exist"),
    ],
)
def test_a_script_refuses_before_it_measures(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = run(str(SCRIPTS / words[0]), *words[1:], cwd=tmp_path)
    assert done.returncode == 1 and said in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "r.json").exists()
