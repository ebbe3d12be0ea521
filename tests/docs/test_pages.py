"""The README and docs/: their tables and links."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from pages import PAGES, ROOT


def test_verbs_of_the_table_are_the_verbs_there_are() -> None:
    listed = re.findall(r"^\| `outfitgan ([\w-]+)`", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    helped = subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert listed
    assert sorted(listed) == sorted(re.findall(r"^│ (\w[\w-]*) ", helped, re.MULTILINE))


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_files_that_a_page_links_exist(page: str) -> None:
    links = re.findall(r"\]\(([^):#]+)(?:#[^)]*)?\)", (ROOT / page).read_text(encoding="utf-8"))
    assert links or page != "README.md"
    assert not [link for link in links if not ((ROOT / page).parent / link).exists()]
