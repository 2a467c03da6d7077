"""Files that wsd renders or serves."""
