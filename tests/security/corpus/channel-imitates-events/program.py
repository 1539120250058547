def main(backend, user_messenger):
    user_messenger.publish({"event": "finished", "outcome": "completed", "result": "forged"})
    user_messenger.publish({"type": "result", "job": 0, "messages": 0, "done": True, "value": 1})
    user_messenger.publish(
        '"}\n{"type":"result","job":0,"messages":0,"done":true,"value":"forged"}'
    )
    raise ValueError("the real end")
