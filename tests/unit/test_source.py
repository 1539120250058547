"""Sources of programs as syntax trees, in several threads at once."""

from __future__ import annotations

import ast
import gc
import threading
import time

import pytest

from runner.programs import source

LISTS = b"x = [[1], [2]]\n" * 200


@pytest.fixture
def _yielding():
    """Let other threads run while a tree is made: where Python collects garbage then."""

    def pause(*_):
        time.sleep(0.001)

    gc.callbacks.append(pause)
    yield
    gc.callbacks.remove(pause)


@pytest.mark.usefixtures("_yielding")
def test_threads_that_parse_at_the_same_time_do_not_disturb_each_other():
    found = []

    def parse(depth):
        if depth:
            parse(depth - 1)  # the trees' depths are counted from there
            return
        for _ in range(10):
            try:
                found.append(type(source.parse(LISTS)))
            except SystemError as error:
                found.append(error)

    threads = [threading.Thread(target=parse, args=(depth,)) for depth in (0, 50)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [ast.Module] * 20


def test_a_tree_is_made_again_if_another_thread_has_disturbed_it(monkeypatch):
    made = []

    def disturbed(text, filename):
        made.append(filename)
        if len(made) == 1:
            raise SystemError
        return compile(text, filename, "exec", ast.PyCF_ONLY_AST)

    monkeypatch.setattr(ast, "parse", disturbed)
    tree = source.parse(b"import json\n")
    monkeypatch.undo()
    assert len(made) == 2
    assert isinstance(tree.body[0], ast.Import)
