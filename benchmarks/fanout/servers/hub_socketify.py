"""A hub with socketify: uWebSockets from Python."""

import sys

from socketify import App, OpCode


def message(ws, text, opcode):  # type: ignore[no-untyped-def]
    if text.startswith("+"):
        ws.subscribe(text[1:])
        ws.send(text, OpCode.TEXT)
    elif text.startswith("="):
        ws.send(text, OpCode.TEXT)
    else:
        ws.publish(text.partition(" ")[0], text, OpCode.TEXT)


app = App()
app.ws("/*", {"message": message, "max_backpressure": 64 * 1024 * 1024, "idle_timeout": 0})
app.listen({"port": int(sys.argv[1]), "host": "127.0.0.1"}, lambda config: None)
app.run()
