"""What every program does around its work."""

from __future__ import annotations

import pytest

from outfitgan.errors import InputError, ServerError
from outfitgan.program import RENAMED_OPTIONS, run_program, with_new_names


def test_a_program_that_ends_well_exits_with_nothing() -> None:
    reported: list[str] = []
    run_program(lambda: reported.append("ran"), reported.append)
    assert reported == ["ran"]


@pytest.mark.parametrize("error", [InputError("The mask is empty: paint it."), ServerError("It is gone: start it.")])
def test_an_expected_error_is_one_sentence_and_exit_2(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        run_program(main)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"error: {error}\n")


def test_ctrl_c_exits_with_130() -> None:
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        run_program(main)
    assert stop.value.code == 130


def test_a_fault_of_the_program_is_not_hidden() -> None:
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_program(main)


def test_renamed_options_work_with_a_note() -> None:
    notes: list[str] = []
    given = ["build", "--target", "openvino", "--target=tensorrt", "--set", "--targets", "target"]
    current = with_new_names(given, notes.append)
    assert current == ["build", "--runtime", "openvino", "--runtime=tensorrt", "--set", "--targets", "target"]
    assert notes == ["note: --target is now called --runtime; the old name works for now."] * 2
    assert with_new_names(current, notes.append) == current
    assert len(notes) == 2


def test_no_new_name_is_itself_an_old_one() -> None:
    assert not RENAMED_OPTIONS.keys() & set(RENAMED_OPTIONS.values())
