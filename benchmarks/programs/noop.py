"""Does nothing: what is measured is everything around it."""


def main(backend, user_messenger, number=0):
    return number
