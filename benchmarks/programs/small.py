"""A small job: whoever waits for it notices every delay."""


def main(backend, user_messenger, n):
    user_messenger.publish(n)
    return n * n
