"""The Centrifuge client protocol: what its official clients in JavaScript, Python, Go, Dart, Swift, Java and C# speak.

`messages.py` has its commands, replies and pushes. `json_frames.py` and `protobuf_frames.py` turn frames into commands,
and replies into frames; `protobuf.py` is the codec beneath. `codes.py` has the error codes and close codes.
Source: github.com/centrifugal/protocol, definitions/client.proto.
"""
