"""The page in a real browser, Chromium; skipped where there is none."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from segdec_edge.bench.page import bench_page
from tests.bench.made_records import made_line, made_record

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
RECORD = made_record(made_line("slow", 80.0), made_line("fast", 9.0), made_line("middle", 20.0))
PRESS = """
const head = [...document.querySelectorAll("th")].find((one) => one.textContent === "p50 ms");
for (let n = 0; n < %d; n++) head.dispatchEvent(new %s);
"""
ENTER, TAB, CLICK = (
    'KeyboardEvent("keydown", {key: "Enter"})',
    'KeyboardEvent("keydown", {key: "Tab"})',
    'Event("click")',
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")


def shown(page: str, folder: Path) -> str:
    """What the browser made of a page, as HTML."""
    (folder / "page.html").write_text(page, encoding="utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run(
        [*command, "--dump-dom", (folder / "page.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def with_script(page: str, script: str) -> str:
    """The page with another script that its policy allows; what the policy says of its own one stays."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = page.replace("script-src '", f"script-src 'sha256-{digest}' '", 1)
    return allowed.replace("</body>", f"<script>{script}</script></body>", 1)


def forms(html: str) -> list[str]:
    """The second cell of each row of the first table, from the top."""
    body = html.split("<tbody", 1)[1].split("</tbody>", 1)[0]
    return [re.findall(r"<td[^>]*>(.*?)</td>", row)[1] for row in body.split("<tr")[1:]]


@pytest.mark.parametrize(
    ("event", "times", "wanted"),
    [
        (ENTER, 1, ["fast", "middle", "slow"]),
        (ENTER, 2, ["slow", "middle", "fast"]),
        (CLICK, 1, ["fast", "middle", "slow"]),
        (TAB, 1, ["slow", "fast", "middle"]),
    ],
)
def test_a_head_sorts_its_table_by_key_and_by_click(event: str, times: int, wanted: list[str], tmp_path: Path) -> None:
    page = with_script(bench_page(RECORD), PRESS % (times, event))
    assert forms(shown(page, tmp_path)) == wanted


def test_a_script_that_the_page_does_not_name_does_not_run(tmp_path: Path) -> None:
    page = bench_page(RECORD).replace("</body>", f"<script>{PRESS % (1, ENTER)}</script></body>", 1)
    assert forms(shown(page, tmp_path)) == ["slow", "fast", "middle"]
