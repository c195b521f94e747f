"""A benchmark that cannot go on says so in one line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.entry import earlier, one_line, require_rounds
from segdec_edge.errors import ConfigError

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(SCRIPTS.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=cwd, env=env, check=False)


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


NOWHERE = "/dev/null/r.json"
REFUSALS = [
    ("aa none.bundle -o r.json", "none.bundle: does not exist"),
    ("aa none.bundle --repeats 0 -o r.json", "--repeats 0: wanted 1 or more"),
    ("archive_pace --folder none -o r.json", "none: no such folder"),
    (f"archive_pace -o {NOWHERE}", "cannot be written"),
    ("distil_step none.bundle -o r.json", "none.bundle: does not exist"),
    ("distil_step none.bundle --rounds 0 -o r.json", "Change --rounds"),
    ("drift_alarms --lines 0 -o r.json", "--lines 0: wanted 1 or more"),
    ("drift_alarms --cost -o r.json", "r.json: cannot be read"),
    ("engine_build none.bundle -o r.json", "none.bundle: does not exist"),
    ("frame_path none.bundle --pictures .", "none.bundle: does not exist"),
    ("frame_path none.bundle --pictures . --rounds 0 -o r.json", "--rounds 0: wanted 1 or more"),
    (f"gige -o {NOWHERE}", "cannot be written"),
    (f"gige_station -o {NOWHERE}", "cannot be written"),
    (f"install_size . -o {NOWHERE}", "cannot be written"),
    ("kolektor_road none --work w -o r.json", "none: "),
    ("leak magnetic:none -o r.json", "none/MT_Free/Imgs: no pictures"),
    ("ledger_scale --folder none -o r.json", "none: no such folder"),
    ("ledger_scale --steps none -o r.json", "--steps none: unknown"),
    ("lighting none.bundle --data folder:. -o r.json", "none.bundle: does not exist"),
    (f"lineages none.bundle -o {NOWHERE}", "cannot be written"),
    ("lineages none.bundle -o r.json", "none.bundle: does not exist"),
    ("peers.run none.pt none.bundle -o r.json", "none.bundle: does not exist"),
    ("power_cut --rounds 0 -o r.json", "--rounds 0: wanted 1 or more"),
    (f"rtsp -o {NOWHERE}", "cannot be written"),
    ("scale -o r.json", "needs --bundle"),
    ("scale --axes ledger --folder none -o r.json", "none: no such folder"),
    (f"scale --axes ledger -o {NOWHERE}", "cannot be written"),
    ("sidecar_refusals none.bundle none.bundle -o r.json", "none.bundle: does not exist"),
    ("soak --frames 0 --out r.json", "Change --frames"),
    ("startup none.bundle . -o r.json", "none.bundle: does not exist"),
    ("startup none.bundle . --sittings 0 -o r.json", "Change --rounds"),
    ("streaming --pictures 0 -o r.json", "--pictures 0: wanted 1 or more"),
    (f"streaming -o {NOWHERE}", "cannot be written"),
    ("train_step --steps 1 -o r.json", "Change --steps"),
]
MODULES = ("install_size", "lighting", "lineages", "peers.run")
NO_SCRIPTS = {"entry", "turns", "scale_fit", "scale_points", "aa_rule"}
"""What others import, or start with words of their own."""


@pytest.mark.parametrize(("line", "said"), REFUSALS)
def test_a_script_refuses_before_it_measures(line: str, said: str, tmp_path: Path) -> None:
    name, *words = line.split()
    script = ["-m", f"benchmarks.{name}"] if name in MODULES else [str(SCRIPTS / f"{name}.py")]
    done = run(*script, *words, cwd=tmp_path)
    if "ModuleNotFoundError" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 1 and said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and not any(tmp_path.iterdir())


def test_every_script_is_tried_and_writes_whole_records() -> None:
    scripts = {path.stem: path for path in SCRIPTS.glob("*.py") if path.stem not in NO_SCRIPTS}
    scripts["peers.run"] = SCRIPTS / "peers" / "run.py"
    tried = {line.split()[0] for line, _ in REFUSALS}
    assert set(scripts) - tried == {"tables"}  # which is given nothing
    for name, path in scripts.items():
        text = path.read_text(encoding="utf-8")
        assert "one_line(" in text, name
        assert not re.search(r"\b(out|output|path|markdown|RESULTS?)\.write_text\(", text), name


@pytest.mark.parametrize(("given", "fits"), [((1, 1), True), ((6, 6), True), ((5, 6), False), ((6, 0), False)])
def test_every_sitting_has_a_round(given: tuple[int, int], fits: bool) -> None:
    if fits:
        require_rounds(*given)
    else:
        with pytest.raises(SystemExit, match="Change --rounds"):
            require_rounds(*given)
