"""Applications that tests serve, written as a user would write them."""
