"""The services of a node: workers, nginx, Valkey and the relay, each as `processes.service` describes a program to run.

Imports `processes` and the rows below it.
"""
