"""The one exception whose text a program may read."""

from __future__ import annotations


class Refused(Exception):  # noqa: N818  it says what was done, and is no error of ours
    """A call that is refused; the text is ours and the program's, never a provider's."""
