"""The client of a service: programs and jobs on another machine, as if they were here.

Names are loaded when they are first used: most commands need no service.
"""

from __future__ import annotations

from runner.client.client import Client, connect
from runner.client.remote import RemoteJobs

__all__ = [
    "Client",
    "RemoteJobs",
    "connect",
]
