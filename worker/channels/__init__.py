"""Keep the state of channels: options, members, presence, receipts, and what a member has missed.

Imports `broker`, `delivery` and the rows below them.
"""
