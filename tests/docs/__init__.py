"""Tests of the documentation: its code runs, and its site can be built."""
