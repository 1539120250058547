"""Publishes and returns, through an encoder of its own, what the older clients must never decode."""

import json


class AsIs(json.JSONEncoder):
    pass


def main(backend, user_messenger, value=None, how="publish"):
    # The inputs arrive decoded, so what is meant for the client comes as text.
    user_messenger.publish(json.loads(value), encoder=AsIs, final=how == "return")
