"""What is shown during a run where there is no terminal: plain lines with sound numbers."""

from typing import Any

import pytest

from glassrun import display
from glassrun.display import Display


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    made = Clock()
    monkeypatch.setattr(display, "time", made)
    return made


def step(number: int, seconds: float = 0.5, **values: Any) -> dict[str, Any]:
    event = {"event": "step", "step": number, "loss": 1.25, "learning_rate": 1e-3, "examples": 64, "seconds": seconds}
    return event | values


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""  # results go there, not this
    assert "\x1b" not in captured.err
    return captured.err.splitlines()


def seconds_left(line: str) -> float:
    return float(line.removesuffix(" s left").rpartition("  ")[2])


@pytest.mark.usefixtures("clock")
def test_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Display() as show:
        show({"event": "folder", "path": "/runs/[red]a"})
        show({"event": "note", "text": "[bold]careful[/bold]"})
        show({"event": "begin", "step": 0, "steps": 600})
        show(step(1))
        show({"event": "evaluation", "step": 1, "split": "test", "loss": 0.5, "accuracy": 0.75})
    assert told(capsys) == [
        "run         /runs/[red]a",
        "note: [bold]careful[/bold]",
        "step 1/600  loss 1.2500  lr 1.00e-03  128 examples/s  300 s left",
        "step 1  test: loss 0.5000  accuracy 0.7500",
    ]


@pytest.mark.usefixtures("clock")
def test_a_resumed_run_says_where_it_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    show = Display()
    show({"event": "begin", "step": 200, "steps": 600})
    assert told(capsys) == ["from the checkpoint after step 200"]


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("first", [1, 401])
@pytest.mark.parametrize("seconds", [0.001, 0.5, 30.0])
def test_the_first_step_guesses_from_its_own_time(
    capsys: pytest.CaptureFixture[str], first: int, seconds: float
) -> None:
    show = Display()
    show({"event": "begin", "step": 0, "steps": 600})
    show(step(first, seconds))
    assert seconds_left(told(capsys)[-1]) == pytest.approx((600 - first) * seconds, abs=0.5)


def test_later_steps_go_by_the_clock(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    show = Display()
    show({"event": "begin", "step": 0, "steps": 600})
    show(step(1))
    told(capsys)
    clock.now += 10.0
    show(step(101))
    (line,) = told(capsys)
    assert "640 examples/s" in line
    assert seconds_left(line) == pytest.approx(499 * 10 / 100, abs=0.5)


def test_lines_are_spared_but_the_last_step_is_always_told(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    show = Display()
    show({"event": "begin", "step": 0, "steps": 20})
    for number in range(1, 21):
        show(step(number))
        clock.now += 0.3
    steps = [line.split()[1] for line in told(capsys)]
    assert steps == ["1/20", "8/20", "15/20", "20/20"]


@pytest.mark.usefixtures("clock")
def test_no_time_at_all_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    show = Display()
    show({"event": "begin", "step": 0, "steps": 2})
    show(step(1, seconds=0.0))
    show(step(2, seconds=0.0))
    assert seconds_left(told(capsys)[-1]) == 0.0


@pytest.mark.usefixtures("clock")
def test_a_loss_that_is_not_finite_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show = Display()
    show({"event": "begin", "step": 0, "steps": 2})
    show(step(1, loss=float("nan")))
    assert "loss nan" in told(capsys)[-1]


@pytest.mark.usefixtures("clock")
def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(quiet=True) as show:
        show({"event": "folder", "path": "x"})
        show({"event": "begin", "step": 5, "steps": 9})
        show(step(9))
    assert told(capsys) == []
