"""Lines to a reader that is slow, stuck or gone."""

import os
import threading
import time

import pytest

from vpnpf.io.lines import KEPT, LineWriter

PIPE = 65536
"""Bytes that a pipe of Linux holds."""


@pytest.fixture
def pipe():
    """(reading end, writing end)."""
    ends = os.pipe()
    yield ends
    for end in ends:
        shut(end)
        os.close(end)


def shut(end):
    """Close an end of a pipe; the number stays taken, so that nobody else's file gets it."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, end)
    os.close(null)


def everything(descriptor, until=b""):
    """All that can be read until the last line is this one."""
    data = b""
    while not data.endswith(until + b"\n"):
        data += os.read(descriptor, PIPE)
    return data.decode().splitlines()


def stuck(writer):
    """Fill the pipe, so that the writer's thread waits for the reader; returns how long the first line is."""
    writer.put("x" * (2 * PIPE))
    until = time.monotonic() + 5
    while writer._lines:
        assert time.monotonic() < until
        time.sleep(0.001)
    return 2 * PIPE


def test_lines_come_in_order_and_whole(pipe):
    writer = LineWriter(pipe[1])
    for number in range(1000):
        writer.put(f"line {number} \u00e9\u4e2d")
    writer.close()
    assert everything(pipe[0], b"999 \xc3\xa9\xe4\xb8\xad") == [f"line {number} \u00e9\u4e2d" for number in range(1000)]
    assert not writer.broken


def test_a_line_comes_at_once(pipe):
    writer = LineWriter(pipe[1])
    for number in range(3):
        writer.put(str(number))
        assert everything(pipe[0], b"%d" % number) == [str(number)]
    writer.close()


def test_what_is_no_text_does_no_harm(pipe):
    writer = LineWriter(pipe[1])
    writer.put("\udcff")
    writer.put("after")
    assert everything(pipe[0], b"after") == ["?", "after"]
    writer.close()


def test_a_stuck_reader_blocks_nobody_and_the_oldest_lines_go(pipe):
    writer = LineWriter(pipe[1])
    size = stuck(writer)
    started = time.monotonic()
    for number in range(3 * KEPT):
        writer.put(f"{number}")
    assert time.monotonic() - started < 1
    assert len(writer._lines) == KEPT
    lines = everything(pipe[0], b"%d" % (3 * KEPT - 1))
    assert lines == ["x" * size, *map(str, range(2 * KEPT, 3 * KEPT))]
    writer.close()


def test_closing_waits_for_a_stuck_reader_no_longer_than_its_patience(pipe):
    writer = LineWriter(pipe[1])
    stuck(writer)
    started = time.monotonic()
    writer.close(patience=0.2)
    assert 0.2 <= time.monotonic() - started < 1
    everything(pipe[0])  # let its thread end


def test_closing_writes_what_is_left(pipe):
    writer = LineWriter(pipe[1])
    size = stuck(writer)
    writer.put("last words")
    read = []
    reader = threading.Thread(target=lambda: read.extend(everything(pipe[0], b"last words")))
    reader.start()
    writer.close(patience=5)
    reader.join()
    assert read == ["x" * size, "last words"]


def test_a_reader_that_went_away_is_noticed_and_harms_nobody(pipe):
    writer = LineWriter(pipe[1])
    shut(pipe[0])
    writer.put("to nobody")
    writer._thread.join(5)
    assert writer.broken
    for number in range(2 * KEPT):
        writer.put(str(number))
    assert len(writer._lines) == KEPT
    writer.close()


def test_a_full_pipe_that_does_not_block_is_not_broken(pipe):
    os.set_blocking(pipe[1], False)
    writer = LineWriter(pipe[1])
    writer.put("x" * (4 * PIPE))
    writer.put("last")
    assert everything(pipe[0], b"last") == ["x" * (4 * PIPE), "last"]
    assert not writer.broken
    writer.close()
