from __future__ import annotations

import pytest

from outfitgan.errors import EngineError, sentence


def test_what_is_expected_is_a_sentence_and_a_fault_of_ours_is_none() -> None:
    assert sentence(EngineError("Build it.")) == "Build it."
    with pytest.raises(FileNotFoundError) as missing:
        open("/nowhere/at/all")  # noqa: PTH123, SIM115
    assert sentence(missing.value) == (
        "Cannot use /nowhere/at/all (No such file or directory); check the path and its permissions."
    )
    absent = ModuleNotFoundError("No module named 'tensorrt'", name="tensorrt")
    assert "the package tensorrt, which is not installed" in str(sentence(absent))
    for fault in (OSError("no file in it"), ValueError("wrong"), ImportError("no symbol")):
        assert sentence(fault) is None
