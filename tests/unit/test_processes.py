"""Processes: a dead one is recognised, a living or unknowable one never taken for dead."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

from runner.host import processes
from runner.host.processes import HostProcess


def test_the_own_process_is_alive_and_its_text_can_be_read_back():
    me = HostProcess.current()
    assert not me.is_dead()
    assert HostProcess.parse(str(me)) == me


def test_a_process_that_has_ended_is_dead():
    code = "from runner.host.processes import HostProcess; print(HostProcess.current())"
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ended = HostProcess.parse(text.stdout.strip())
    assert ended is not None
    assert ended.is_dead()


def test_a_reused_process_id_is_another_process():
    assert dataclasses.replace(HostProcess.current(), started="1").is_dead()


def test_another_machine_or_pid_namespace_is_left_alone():
    dead = dataclasses.replace(HostProcess.current(), started="1")
    assert not dataclasses.replace(dead, machine="elsewhere").is_dead()
    assert not dataclasses.replace(dead, namespace="7").is_dead()


def test_an_earlier_boot_of_this_machine_is_dead():
    assert dataclasses.replace(HostProcess.current(), boot="before").is_dead()


def test_a_boot_that_cannot_be_read_makes_nobody_dead(monkeypatch):
    living = HostProcess.current()
    monkeypatch.setattr(processes, "_read", lambda path: "" if "boot" in path else living.machine)
    assert not living.is_dead()
    assert not HostProcess.current().is_dead()


def test_foreign_texts_are_no_processes():
    for text in ("", "a.b.c.d.e", "x", "....", "a.b.c.1.2.3", "a.b.c.².e"):
        assert HostProcess.parse(text) is None
