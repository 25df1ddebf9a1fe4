"""A service for the tests of services: says what it was told to say, and waits for its end."""

import os
import signal
import sys

if __name__ == "__main__":
    sys.stdout.write(os.environ["SAY"] + "\n")
    sys.stdout.flush()
    signal.pause()
