"""Each attack leaks nothing with vpnpf, and does without: one test for each row of `make attack`."""

import pytest

from tests.attack.attack import run
from tests.attack.matrix import ATTACKS, line

pytestmark = pytest.mark.system


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.id)
async def test_an_attack_leaks_nothing_and_its_control_does(attack):
    result = await run(attack)
    assert result.passed, line(result)


def test_each_attack_has_a_number_of_its_own():
    assert len({attack.id for attack in ATTACKS}) == len(ATTACKS) >= 20
