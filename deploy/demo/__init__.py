"""The demonstration: 600 trades between twelve banks on a backbone of its own, and everything about them verified."""
