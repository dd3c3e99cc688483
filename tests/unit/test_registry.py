"""The registry's decisions, without a server: what is sent ahead, and what replies make of it."""

from __future__ import annotations

import pickle

import pytest

from tenantkv.commands.own_scripts import EVAL
from tenantkv.keyring import Keyring
from tenantkv.namespace import Namespace
from tenantkv.ops import registry
from tenantkv.ops.effects import Batch
from tenantkv.ops.registry import RESERVED, SHARDS, Registrar, shard_key, shard_of
from tenantkv.ops.scripts import script
from tenantkv.transport.registrars import NAMESPACES, include

NOW = 1_000_000.0


def words(asides):
    return [command[0] for command, _ in asides]


def zadds(asides):
    return [(command, on_reply) for command, on_reply in asides if command[0] == "ZADD"]


def settle(asides, replies=None):
    """Answer as a server would that knew none of the names before."""
    for command, on_reply in asides:
        usual = {"ZADD": (len(command) - 2) // 2, "EXPIRE": 1, "ZCARD": 1, "ZRANGE": [], EVAL: []}
        on_reply((replies or {}).get(command[0], usual.get(command[0], 0)))


def same_shard(count, shard=None):
    """Return names that share a shard."""
    shard = shard_of(b"name") if shard is None else shard
    found: list[bytes] = []
    number = 0
    while len(found) < count:
        name = b"name:%d" % number
        if shard_of(name) == shard:
            found.append(name)
        number += 1
    return found


def test_a_name_is_registered_once_and_again_when_it_is_stale():
    registrar = Registrar(refresh=10)
    first = registrar.asides([b"a"], NOW)
    assert zadds(first)[0][0] == ("ZADD", shard_key(shard_of(b"a")), int(NOW), b"a")
    settle(first)
    assert registrar.asides([b"a"], NOW + 9) == []
    assert words(registrar.asides([b"a"], NOW + 11)) == ["ZADD"]


def test_a_packet_names_each_shard_and_each_name_once():
    registrar = Registrar()
    names = same_shard(3)
    asides = registrar.asides([*names, *names, b"other"], NOW)
    sent = {command[1]: set(command[3::2]) for command, _ in zadds(asides)}
    assert sent == {
        shard_key(shard_of(names[0])): set(names),
        shard_key(shard_of(b"other")): {b"other"},
    }


def test_reserved_names_are_not_registered():
    assert Registrar().asides([RESERVED + b"registry:00"], NOW) == []


def test_a_lost_or_refused_registration_is_made_again():
    for reply in (None, RuntimeError("OOM")):
        registrar = Registrar()
        for _, on_reply in registrar.asides([b"a"], NOW):
            on_reply(reply)
        assert zadds(registrar.asides([b"a"], NOW))


def test_a_shard_that_somebody_made_another_type_is_removed():
    registrar = Registrar()
    for command, on_reply in registrar.asides([b"a"], NOW):
        on_reply(RuntimeError("WRONGTYPE Operation against a key") if command[0] == "ZADD" else None)
    chores = registrar.asides([b"a"], NOW)
    assert ("UNLINK", shard_key(shard_of(b"a"))) in [command for command, _ in chores]


def test_an_evicted_shard_is_noticed_and_all_its_names_come_again():
    registrar = Registrar(refresh=10)
    one, two, three = same_shard(3)
    settle(registrar.asides([one, two], NOW))
    later = registrar.asides([one], NOW + 11)
    settle(later, {"ZADD": 1})  # it was there before, and is new again
    assert zadds(registrar.asides([two], NOW + 12))
    # A new name is no sign of a loss.
    settle(registrar.asides([two], NOW + 12))
    settle(registrar.asides([three], NOW + 12), {"ZADD": 1})
    assert registrar.asides([two], NOW + 13) == []


def test_lots_are_looked_at_and_chores_follow():
    registrar = Registrar(refresh=10)
    names = same_shard(20)
    first = registrar.asides(names[:1], NOW)
    assert {"EXPIRE", "ZCARD", "ZRANGE"} <= set(words(first))
    settle(first, {"ZRANGE": names[:2]})
    second = registrar.asides([names[5]], NOW)
    (tidy, on_reply) = next(aside for aside in second if aside[0][0] == EVAL)
    key = shard_key(shard_of(names[0]))
    body = script("registry_tidy").body
    assert tidy == (EVAL, body, 3, key, *names[:2], int(NOW), int(NOW) - 10, *names[:2])
    # Until it is known whether the key is there, the name counts as unknown.
    assert zadds(registrar.asides(names[:1], NOW))
    on_reply([names[1]])
    settle(second)


def test_names_that_were_looked_at_stay_known_unless_gone():
    registrar = Registrar(refresh=10)
    one, two, three = same_shard(3)
    settle(registrar.asides([one, two], NOW), {"ZRANGE": [one, two]})
    asides = registrar.asides([three], NOW)
    settle(asides, {EVAL: [two]})
    assert registrar.asides([one], NOW + 1) == []
    assert zadds(registrar.asides([two], NOW + 1))


def test_a_full_shard_is_trimmed_a_little_at_a_time():
    registrar = Registrar()
    capacity = registry.CAPACITY // SHARDS
    settle(registrar.asides([b"a"], NOW), {"ZCARD": capacity + 100_000})
    trims = [c for c, _ in registrar.asides([b"b"], NOW) if c[0] == "ZREMRANGEBYRANK"]
    assert trims == [("ZREMRANGEBYRANK", shard_key(shard_of(b"a")), 0, 499)]


def test_what_a_process_remembers_is_bounded():
    registrar = Registrar()
    for number in range(200_000):
        settle(registrar.asides([b"n:%d" % number], NOW))
    remembered = sum(len(registrar.known_names(shard)) for shard in range(SHARDS))
    assert remembered <= 65_536 + SHARDS * 2
    assert len(registrar._chores) <= 256


def test_names_of_a_raw_transaction_are_owed():
    registrar = Registrar()
    registrar.owe([b"a"], NOW)
    sent = {name for command, _ in zadds(registrar.asides([b"b"], NOW)) for name in command[3::2]}
    assert sent == {b"a", b"b"}
    registrar.owe([b"a"], NOW)
    assert registrar.asides([], NOW) == []


def test_another_process_begins_anew():
    registrar = Registrar(refresh=7)
    registrar.asides([b"a"], NOW)
    copy = pickle.loads(pickle.dumps(registrar))
    assert zadds(copy.asides([b"a"], NOW))
    assert copy.refresh == 7


def test_views_keep_a_registry_where_the_pool_does_and_not_without_bound():
    registrars: dict = {}
    parent = Namespace(Keyring.generate(bytes(range(96))))
    include(registrars, parent.child("child"))
    assert registrars == {}
    registrars[parent] = Registrar(refresh=7)
    children = [parent.child(f"child-{number}") for number in range(NAMESPACES + 500)]
    for child in children:
        include(registrars, child)
    assert len(registrars) <= NAMESPACES
    assert parent in registrars
    assert registrars[children[-1]].refresh == 7


def drive(operation, answer):
    """Run an operation; `answer` gives the reply of one command."""
    asked: list = []
    try:
        effect = next(operation)
        while True:
            assert isinstance(effect, Batch)
            asked += effect.commands
            effect = operation.send([answer(command) for command in effect.commands])
    except StopIteration as stop:
        return stop.value, asked


def test_reading_believes_only_what_exists_and_belongs_there():
    mine = same_shard(3)
    shard = shard_of(mine[0])
    foreign = next(n for n in (b"f:%d" % i for i in range(999)) if shard_of(n) != shard)

    def answer(command):
        if command[0] == "ZRANGE":
            return [*mine, foreign, RESERVED + b"registry:00", b"\xff\x00junk"]
        if command[0] == "EXISTS":
            return int(command[1] in mine[:2])
        return []

    names, asked = drive(registry.read_shards([shard], None, NOW), answer)
    assert names == mine[:2]
    assert not any(c[0] in ("UNLINK", "DEL") for c in asked)
    tidied = [name for c in asked if c[0] == EVAL for name in c[4:-2]]
    assert mine[2] in tidied
    assert foreign not in tidied


def test_reading_repairs_what_the_server_lost():
    registrar = Registrar()
    settle(registrar.asides([b"a"], NOW))
    shard = shard_of(b"a")
    names, asked = drive(
        registry.read_shards([shard], registrar, NOW),
        lambda command: {"ZRANGE": [], "EXISTS": 1, "ZADD": 1}[command[0]],
    )
    assert names == [b"a"]
    assert ("ZADD", shard_key(shard), int(NOW), b"a") in asked


def test_reading_removes_what_is_no_registry_and_raises_other_errors():
    def wrong(command):
        return RuntimeError("WRONGTYPE x") if command[0] == "ZRANGE" else 1

    names, asked = drive(registry.read_shards([3], None, NOW), wrong)
    assert names == []
    assert asked[-1] == ("UNLINK", shard_key(3))
    with pytest.raises(RuntimeError, match="NOPERM"):
        drive(registry.read_shards([3], None, NOW), lambda command: RuntimeError("NOPERM"))


def test_a_command_never_grows_with_the_registry():
    """100,000 names: no command has more than some hundred arguments, no reply more than 2048 names."""
    per_shard = registry.CAPACITY // SHARDS
    shards = {shard: same_shard(per_shard, shard) for shard in (0,)}

    def answer(command):
        if command[0] == "ZRANGE":
            assert command[2:] == (-per_shard, -1)
            return shards.get(int(command[1][-2:]), [])
        return [] if command[0] == EVAL else 0

    _, asked = drive(registry.read_all(None, NOW), answer)
    assert max(len(command) for command in asked) <= 110
