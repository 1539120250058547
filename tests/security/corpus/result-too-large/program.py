def main(backend, user_messenger, publish):
    value = "x" * 2000
    if publish:
        user_messenger.publish(value, final=True)
    return value
