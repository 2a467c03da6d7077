"""`wsd dev`: a process that serves an application in memory, and is replaced when the application's code changes."""
