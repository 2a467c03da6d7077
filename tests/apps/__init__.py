"""Applications that tests serve, written as a user would write them, and small programs that tests run.

Most are copied into the directory of a test (`tests.support.apps.copy_app`) and import nothing of the tests.
"""
