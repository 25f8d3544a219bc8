"""Files damaged at random, and processes that survive reading them."""
