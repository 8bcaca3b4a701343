"""filestored: the command line. `main.py --help` tells more."""

import sys
from pathlib import Path

from httpd.process.control import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], home=Path(__file__).resolve().parent))
