"""The wire between host and guest: frames, their limits, and the descriptors that carry them."""
