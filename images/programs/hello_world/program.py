"""Greet, and show the three ways a program speaks."""


def main(backend, user_messenger, name="world"):
    """Publish a message, print to the log, return the result."""
    user_messenger.publish(f"The backend is {backend.name}.")
    print("This line goes to the log.")
    return f"Hello, {name}!"
