"""Generators are found wherever they are kept, and given new states without being replaced."""

import _random
import random

import numpy
import pytest

from sandbox.processes import randomness


class Derived(random.Random):
    def seed(self, *_, **__):
        """Keep what there is: a class that is in the way."""


class Kept:
    of_a_class = numpy.random.Generator(numpy.random.Philox())


class Slotted:
    __slots__ = ("kept",)


def closure():
    generator = numpy.random.default_rng()
    return lambda: generator


def default(generator=numpy.random.RandomState(numpy.random.SFC64(1))):  # noqa: B008
    return generator


HIDDEN = closure()
SLOTTED = Slotted()
SLOTTED.kept = _random.Random()  # which the collector does not track
CONTAINER = ({"a": [random.Random(1)]},)
DERIVED = Derived(1)
LEGACY = numpy.random.RandomState(7)
MERSENNE = numpy.random.Generator(numpy.random.MT19937(7))
SEQUENCE = numpy.random.SeedSequence(7, pool_size=8)

STATES = {
    "random": random.getstate,
    "numpy.random": lambda: numpy.random.get_state(legacy=False),
    "a class": lambda: Kept.of_a_class.bit_generator.state,
    "a closure": lambda: HIDDEN().bit_generator.state,
    "a default": lambda: default().get_state(legacy=False),
    "a slot": SLOTTED.kept.getstate,
    "a container": CONTAINER[0]["a"][0].getstate,
    "a derived class": DERIVED.getstate,
    "a legacy generator": lambda: LEGACY.get_state(legacy=False),
    "Mersenne's": lambda: MERSENNE.bit_generator.state,
    "a seed sequence": lambda: SEQUENCE.state,
}


def test_each_is_found_where_it_is_and_gets_a_new_state_each_time():
    renewals = randomness.find()
    seen = []
    for _ in range(3):
        seen.append({place: str(look()) for place, look in STATES.items()})
        randomness.renew(renewals)
    assert not {place for place in STATES if len({each[place] for each in seen}) < len(seen)}


@pytest.mark.parametrize("bits", [numpy.random.MT19937, numpy.random.PCG64])
def test_the_second_of_two_normal_numbers_is_not_kept(bits):
    legacy, plain = numpy.random.RandomState(bits()), random.Random()
    legacy.normal()
    plain.gauss()
    assert legacy.get_state(legacy=False)["has_gauss"]
    randomness.renew(randomness.find())
    assert not legacy.get_state(legacy=False)["has_gauss"]
    assert plain.gauss_next is None


def test_what_is_made_later_is_found_later():
    renewals = randomness.find()
    later = random.Random(1)
    state = later.getstate()
    randomness.renew(renewals)
    assert later.getstate() == state
    randomness.renew(randomness.find())
    assert later.getstate() != state


def test_a_seed_sequence_keeps_its_size_and_has_no_children_again():
    sequence = numpy.random.SeedSequence(1, pool_size=8)
    sequence.spawn(3)
    randomness.renew(randomness.find())
    assert (sequence.pool_size, sequence.n_children_spawned) == (8, 0)
    assert sequence.entropy != 1


def test_the_common_generators_are_renewed_again_where_they_are_in_memory():
    twister, congruential = numpy.random.MT19937(1), numpy.random.PCG64(1)
    again = randomness.again(randomness.find())
    before = twister.state["state"], congruential.state["state"]
    randomness.renew(again)
    after = twister.state["state"], congruential.state["state"]
    assert before[0]["pos"] == after[0]["pos"]
    assert sum(before[0]["key"] == after[0]["key"]) < 3
    assert before[1]["inc"] == after[1]["inc"]
    assert before[1]["state"] != after[1]["state"]
    kept = {getattr(each, "args", (None,))[0] for each in again}
    assert {twister, congruential} <= kept
    assert numpy.random.Generator(twister).random() != numpy.random.Generator(congruential).random()


def test_each_is_renewed_again():
    again = randomness.again(randomness.find())
    seen = []
    for _ in range(3):
        seen.append({place: str(look()) for place, look in STATES.items()})
        randomness.renew(again)
    assert not {place for place in STATES if len({each[place] for each in seen}) < len(seen)}
