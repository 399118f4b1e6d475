"""Progress of a long command: a bar on a terminal, plain lines in a pipe."""

import io

import pytest

from warp_train.runtime.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def advance_through(stream: io.StringIO, *, enabled: bool = True) -> str:
    now = iter(range(0, 1000, 10))
    progress = Progress(
        9,
        "step",
        title="epoch 2/3",
        initial=2,
        enabled=enabled,
        stream=stream,
        seconds_between_lines=40,
        clock=lambda: next(now),
    )
    for step in range(3, 10):
        progress.advance({"loss": 1 / step} if step % 2 else None)
    progress.close()
    return stream.getvalue()


def test_a_pipe_gets_whole_lines_now_and_then() -> None:
    text = advance_through(io.StringIO())
    assert "\r" not in text
    assert text.splitlines() == [
        "epoch 2/3  step 6/9  loss 0.2",
        "epoch 2/3  step 9/9  loss 0.1111",
    ]


def test_a_terminal_gets_a_bar_that_starts_where_the_run_resumed() -> None:
    text = advance_through(Terminal())
    assert "\r" in text
    assert "2/9" in text
    assert "9/9" in text
    assert "loss 0.1111" in text


def test_other_processes_print_nothing() -> None:
    assert advance_through(io.StringIO(), enabled=False) == ""


def test_a_command_in_a_pipe_gets_its_counts_every_half_minute_and_no_last_line() -> None:
    stream, now = io.StringIO(), [0.0]
    with Progress(5, "photo", stream=stream, clock=lambda: now[0]) as progress:
        for now[0] in (10.0, 29.0, 30.0, 40.0, 59.0):
            progress.advance()
    assert stream.getvalue().splitlines() == ["warp-train: 3/5 photos, 0.1/s"]


def test_the_rate_leaves_out_what_was_done_before() -> None:
    now = iter([0.0, 5.0, 10.0, 10.0])
    progress = Progress(9, "photo", initial=4, stream=io.StringIO(), clock=lambda: next(now))
    progress.advance()
    progress.advance()
    assert progress.rate == pytest.approx(0.2)


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_an_error_is_one_line_under_the_name_of_the_program(stream: io.StringIO) -> None:
    with Progress(3, "photo", stream=stream) as progress:
        progress.advance()
        progress.error("a.jpg: broken\n  at once")
        progress.note("b.jpg: odd")
    lines = [line.rpartition("\r")[2] for line in stream.getvalue().splitlines()]
    assert "warp-train: error: a.jpg: broken at once" in lines
    assert "warp-train: b.jpg: odd" in lines


def test_a_full_log_does_not_stop_the_work() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("No space left on device")

    with Progress(2, "step", title="epoch 1/1", stream=Full(), seconds_between_lines=0) as progress:
        progress.advance({"loss": 1.0})
        progress.advance()
