"""Run one worker: a process that serves WebSockets, whose messages reach the clients of all workers and nodes.

Applications import from `wsd`, not from here. Importing this package loads nothing, so that the supervisor can read
`wsd.worker.contract` without Starlette or redis.
"""
