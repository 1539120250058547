"""What crosses between host and guest: frames, their limits, and the descriptors they travel on."""
