"""What a look at a WireGuard device says, by example: ages of handshakes, and servers that are silent."""

from __future__ import annotations

import pytest

from vpnpf.tunnels.wireguard_health import Silence, Watch

START = 1000.0
KEEPALIVE, INITIATION, DATA = 32, 148, 96
"""Bytes on the wire: the smallest packet with data that matters is a TCP acknowledgement."""


def silence(*looks, keepalive=25):
    """What each look says; a look is (seconds since the start, bytes received, bytes sent)."""
    made = Silence(keepalive, START)
    return [made.look(START + at, received, sent) for at, received, sent in looks]


def test_an_idle_tunnel_is_not_silent():
    assert silence(*((10 * number, 92, 148) for number in range(20))) == [0] * 20


def test_bytes_that_are_answered_are_no_silence():
    assert silence((0, 92, 148), (10, 5000, 9000), (20, 5032, 90000), (30, 5064, 900000)) == [0] * 4


def test_the_silence_begins_with_the_look_that_saw_bytes_go_without_an_answer():
    sent = 92 + DATA * 3
    assert silence((0, 92, 92), (10, 92, sent), (20, 92, sent), (35, 92, sent + 1), (40, 93, sent + 1)) == [
        0,
        0,
        10,
        25,
        0,
    ]


@pytest.mark.parametrize("keepalive", [1, 7, 25, 300])
def test_keepalives_alone_are_no_silence(keepalive):
    looks = [(at, 92, KEEPALIVE * (1 + at // keepalive)) for at in range(0, 170, 10)]
    assert silence(*looks, keepalive=keepalive) == [0] * len(looks)


def test_an_answer_of_our_own_to_what_came_before_is_no_silence():
    # The last bytes arrive, and 10 s later we say that we got them, at the moment of a keepalive.
    assert silence((0, 5000, 148), (10, 5000, 148 + 2 * KEEPALIVE), (20, 5000, 148 + 2 * KEEPALIVE)) == [0] * 3


def test_handshakes_that_nobody_answers_are_a_silence_though_there_is_no_data():
    assert silence((0, 92, 180), (10, 92, 180 + 2 * INITIATION), (20, 92, 180 + 4 * INITIATION)) == [0, 0, 10]


def test_a_few_bytes_at_a_time_add_up():
    looks = [(2 * number, 92, 148 + 40 * number) for number in range(10)]
    assert silence(*looks)[-1] == 14


def test_a_machine_that_slept_begins_anew():
    assert silence((0, 92, 148), (10, 92, 900), (20, 92, 900), (3600, 92, 999), (3610, 92, 999)) == [0, 0, 10, 0, 0]


def test_counters_that_begin_anew_begin_a_new_time():
    assert silence((0, 92, 148), (10, 92, 900), (20, 92, 900), (30, 92, 100)) == [0, 0, 10, 0]


def test_the_age_does_not_follow_the_wall_clock():
    watch = Watch(25, START)
    assert watch.look(START, 5000.0, 0, (0, 0)).handshake_age is None
    assert watch.look(START + 1, 5001.5, 5001, (92, 148)).handshake_age == 0.5
    assert watch.look(START + 11, 99999.0, 5001, (92, 148)).handshake_age == 10.5
    assert watch.look(START + 12, 5000.0, 5007, (92, 148)).handshake_age == 0


def test_a_peer_that_was_put_back_goes_on_where_the_one_before_stopped():
    watch = Watch(25, START)
    watch.look(START, 5000.0, 5000, (300, 400))
    watch.look(START + 10, 5010.0, 5000, (300, 900))
    assert watch.look(START + 20, 5020.0, 5000, (300, 900)).silent_for == 10
    watch.put_back(300, 900)
    # Nobody answers the new handshake: the silence goes on.
    health = watch.look(START + 25, 5025.0, 0, (0, 148))
    assert (health.handshake_age, health.rx, health.tx, health.silent_for) == (None, 300, 1048, 15)
    health = watch.look(START + 26, 5026.0, 5026, (92, 148))
    assert (health.handshake_age, health.rx, health.tx, health.silent_for) == (0, 392, 1048, 0)


def test_two_handshakes_of_one_second_are_told_apart():
    watch = Watch(25, START)
    assert watch.look(START + 0.1, 5000.1, 5000, (92, 148)).handshake_age == pytest.approx(0.1)
    watch.put_back(92, 148)
    # The wall clock was set back meanwhile: by the first one's stamp it would be seen as older.
    assert watch.look(START + 100, 5000.2, 5000, (92, 148)).handshake_age == pytest.approx(0.2)
