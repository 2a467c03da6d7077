"""The archive: every message of some channels in a table of PostgreSQL, and the histories that are read from it.

Whoever stores a message of such a channel in Redis marks the channel in ARCHIVE_KEY. The relay reads what is new in
marked channels and writes it (`archiver.py`, `marks.py`, `batches.py`). Workers read the archive where Redis keeps no
more (`reader.py`, `pages.py`). `table.py` has all SQL.
"""
