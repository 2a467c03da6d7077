"""The Centrifuge client protocol: its frames, without a network."""
