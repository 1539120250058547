def main(backend, user_messenger, swallow):
    while True:
        try:
            user_messenger.publish("x")
        except ValueError:
            if not swallow:
                raise
