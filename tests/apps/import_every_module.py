"""A program that imports every module of the package `wsd`, and prints the name and the file of each."""

import importlib
import pkgutil

import wsd

for module in pkgutil.walk_packages(wsd.__path__, "wsd."):
    if not module.name.endswith("__main__"):
        print(module.name, importlib.import_module(module.name).__file__)
