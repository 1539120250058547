"""Which programs a check finds: whatever form their manifests have, each once."""

from __future__ import annotations

import pytest

from runner.check import discover
from runner.manifest import MANIFEST_NAMES


@pytest.mark.parametrize("name", MANIFEST_NAMES)
def test_a_program_is_found_by_any_form_of_its_manifest(tmp_path, name):
    directory = tmp_path / "deep" / "inside"
    directory.mkdir(parents=True)
    (directory / name).write_text("{}")
    assert list(discover([str(tmp_path)])) == [str(directory)]


def test_a_directory_with_two_manifests_is_one_program(tmp_path):
    for name in MANIFEST_NAMES:
        (tmp_path / name).write_text("{}")
    assert list(discover([str(tmp_path)])) == [str(tmp_path)]


def test_names_files_and_trees_without_a_manifest_are_passed_on(tmp_path):
    given = ["hello_world", "mine.py", str(tmp_path)]
    assert list(discover(given)) == given
