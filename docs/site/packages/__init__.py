"""What a release puts into its packages besides the code: the man pages, and the description for the package index."""
