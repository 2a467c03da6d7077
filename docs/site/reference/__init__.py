"""Make the pages of the reference from their sources: settings, commands, names, requests, messages and metrics.

Each module has a function that returns the Markdown of one page. `reference_pages.py` puts it into the site.
"""
